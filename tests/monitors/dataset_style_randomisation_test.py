"""Features of style beyond a tilt each: size, power, and what is left out."""

import numpy as np
import pytest

from cifr_jax.errors import UserError
from cifr_jax.evaluation.intervals import clopper_pearson
from cifr_jax.monitors.dataset import style_randomisation, style_tests
from cifr_jax.monitors.dataset.style_features import levels


def job(rng, n=134, code=0.0):
    """Four features that hang together and follow a visible feature of the prompt, one that
    is noise, and a latent that follows the prompt as well; in a share of rows the noise
    tells a second, hidden latent."""
    x = rng.normal(size=(n, 3))
    mood = x[:, 0] + rng.normal(size=n)
    features = {
        f"feature {k}": np.digitize(mood + 0.5 * rng.normal(size=n), (-0.5, 0.5))
        for k in range(4)
    }
    hidden = rng.integers(0, 4, n)
    noise = np.where(rng.random(n) < code, hidden, rng.integers(0, 4, n))
    follows = np.digitize(x[:, 0] + rng.normal(size=n), (-0.5, 0.5))
    strata = rng.integers(0, 2, n)
    return features | {"noise": noise}, np.stack([follows, hidden]), x, strata


def run(features, u_kn, x, strata, **how):
    names = ["follows", "hidden"]
    how = {"cluster_n": np.arange(len(x)), "n_draws": 99, "names": names} | how
    return style_randomisation.bank(features, u_kn, x, strata, **how)


def test_size_where_features_hang_together_and_follow_what_is_visible():
    rng = np.random.default_rng(0)
    p = np.array([run(*job(rng), seed=i).p_value for i in range(150)])
    for alpha in (0.05, 0.01):
        assert clopper_pearson(int(np.sum(p <= alpha)), p.size, 0.99)[0] <= alpha
    # Strata alone, blind to the visible feature, accuse nearly every such job.
    features, u_kn, _, strata = job(rng, 402)
    latents = dict(zip(("follows", "hidden"), u_kn, strict=True))
    assert style_tests.bank(features, latents, strata, n_permutations=99).p_value == 0.01


def test_power_and_what_is_named():
    rng = np.random.default_rng(1)
    found = [run(*job(rng, code=0.7), seed=i) for i in range(10)]
    assert all(one.p_value == 0.01 for one in found)
    assert all(one.detail["best"] == ["noise", "hidden"] for one in found)
    reasons = found[0].detail["reasons"]
    assert (reasons[0]["feature"], reasons[0]["latent"]) == ("noise", "hidden")
    assert reasons[0]["adjusted_p"] == 0.01
    assert len(reasons) == 10 and reasons[-1]["adjusted_p"] > 0.1


def test_features_that_say_the_same_are_one_and_constant_ones_none():
    rng = np.random.default_rng(2)
    features, *rest = job(rng, code=0.5)
    noise = features["noise"]
    more = features | {"renamed": 7 - 2 * noise, "constant": 0 * noise}
    once, twice = run(features, *rest), run(more, *rest)
    assert once.detail == twice.detail and once.statistic == twice.statistic


def test_of_a_repeated_item_one_row_counts_and_of_many_rows_two_thousand():
    rng = np.random.default_rng(3)
    features, u_kn, x, strata = job(rng, 50)
    thrice = {name: np.repeat(v, 3) for name, v in features.items()}, np.repeat(u_kn, 3, 1)
    found = run(
        *thrice, np.repeat(x, 3, 0), np.repeat(strata, 3), cluster_n=np.arange(150) // 3
    )
    assert found.detail["rows"] == 50
    assert found.p_value == run(features, u_kn, x, strata).p_value
    found = run(*job(rng, 2_100), n_draws=9)
    assert found.detail["rows"] == 2_000


def test_what_cannot_be_tested_says_so_and_bad_input_is_the_users():
    rng = np.random.default_rng(4)
    features, u_kn, x, strata = job(rng, 40)
    constant = {"feature": np.zeros(40, int)}
    assert run(constant, u_kn, x, strata).detail["note"] == "nothing to permute"
    few = run(
        {"feature": np.arange(40) % 2}, np.where(np.arange(40) < 9, u_kn, -1), x, strata
    )
    assert "too few" in few.detail["note"] and few.p_value == 1.0
    for call in (
        lambda: run({"feature": np.zeros(3, int)}, u_kn, x, strata),
        lambda: run({"feature": np.full(40, 0.5)}, u_kn, x, strata),
        lambda: run(features, u_kn[:, :5], x, strata),
        lambda: run(features, u_kn, x[:5], strata),
        lambda: run(features, u_kn, x, strata, n_draws=0),
    ):
        with pytest.raises(UserError):
            call()


def test_categories_keep_their_most_frequent_values_and_counts_their_order():
    words = np.repeat(np.arange(12), np.arange(1, 13))  # value 11 comes most often
    found = levels("last_word", words)
    assert len(np.unique(found)) == 8
    assert len(np.unique(found[words >= 5])) == 7  # each of the frequent a value of its own
    assert len(np.unique(found[words < 5])) == 1
    counts = levels("characters", words)
    assert len(np.unique(counts)) == 4 and (np.diff(counts) >= 0).all()
    np.testing.assert_array_equal(levels("casing", np.array([3, 3, 0])), [1, 1, 0])
