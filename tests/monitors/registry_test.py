"""The registry, and that every monitor keeps the one contract."""

import subprocess
import sys

import numpy as np
import pytest

from cifr_jax import monitors
from cifr_jax.errors import UserError
from cifr_jax.monitors import Monitor, PromptItem

EXTRAS = (
    "base_nll",
    "verdict_log_odds",
    "refusal_log_prob",
    "next_token_entropy",
    "toxicity",
)


def items_and_labels(n=60, seed=0):
    """Items whose activations, text and extras all tell the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    items = [
        PromptItem(
            prompt="".join(rng.choice(list("abcd" if y else "cdef"), size=30)),
            activations={"last": (rng.normal(size=(2, 6)) + 2 * y).astype(np.float32)},
            job=f"job {i % 3}",
            extras={name: float(rng.normal() + 3 * y) for name in EXTRAS},
        )
        for i, y in enumerate(labels)
    ]
    return items, labels


def test_the_promised_monitors_are_registered():
    assert set(monitors.names()) >= {
        "bag_of_bytes", "char_ngrams", "difference_of_means", "linear_probe",
        "next_token_entropy", "perplexity", "refusal_logit", "self_reflection",
    }  # fmt: skip
    assert list(monitors.names()) == sorted(monitors.names())


@pytest.mark.parametrize("name", monitors.names())
def test_every_monitor_keeps_the_contract(name):
    items, labels = items_and_labels()
    valid, valid_labels = items_and_labels(30, seed=1)
    test, test_labels = items_and_labels(40, seed=2)
    monitor = monitors.get(name)
    assert monitor.name == name and monitor.level in monitors.LEVELS
    assert monitor.fit(items, labels, valid, valid_labels) is monitor
    scores = monitor.score_many(test)
    assert scores.shape == (40,) and scores.dtype == np.float64
    assert scores[test_labels == 1].mean() > scores[test_labels == 0].mean()
    assert monitor.score(test[3]) == pytest.approx(scores[3])
    again = monitors.get(name).fit(items, labels, valid, valid_labels)
    np.testing.assert_array_equal(scores, again.score_many(test))
    # The order of the test items says nothing.
    np.testing.assert_allclose(monitor.score_many(test[::-1])[::-1], scores)


@pytest.mark.parametrize("name", monitors.names())
def test_no_monitor_looks_at_the_job(name):
    """A job's name is known to the attacker's label in a benchmark: it must not count."""
    items, labels = items_and_labels()
    monitor = monitors.get(name).fit(items, labels, items, labels)
    moved = [PromptItem(i.prompt, i.messages, i.activations, "x", i.extras) for i in items]
    np.testing.assert_array_equal(monitor.score_many(items), monitor.score_many(moved))


def test_controls_are_marked():
    assert monitors.get("bag_of_bytes").control
    assert not monitors.get("linear_probe").control


def test_unknown_names_get_the_nearest_one():
    with pytest.raises(UserError, match="did you mean 'linear_probe'"):
        monitors.get("linear_prob")
    with pytest.raises(UserError, match="known: bag_of_bytes"):
        monitors.get("zzz")


def test_registration_refuses_what_would_break_the_tables():
    class Nameless(Monitor):
        level = "prompt"

        def score_many(self, items):
            return np.zeros(len(items))

    with pytest.raises(ValueError, match="needs a name"):
        monitors.register(Nameless)
    Nameless.name = "linear_probe"
    with pytest.raises(ValueError, match="already registered"):
        monitors.register(Nameless)
    Nameless.name, Nameless.level = "other", "token"
    with pytest.raises(ValueError, match="level"):
        monitors.register(Nameless)
    assert "other" not in monitors.names()


def test_missing_extras_are_named():
    with pytest.raises(ValueError, match="base_nll.*missing in 1 of 2"):
        monitors.get("perplexity").score_many(
            [PromptItem("a", extras={"base_nll": 1.0}), PromptItem("b")]
        )


def test_entropy_learns_its_sign():
    items, labels = items_and_labels()
    monitor = monitors.get("next_token_entropy").fit(items, 1 - labels)
    assert monitor.score(items[0]) == -items[0].extras["next_token_entropy"]


def test_importing_the_package_starts_no_backend():
    code = (
        "import cifr_jax.monitors, jax._src.xla_bridge as bridge;"
        "assert not bridge._backends, bridge._backends"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
