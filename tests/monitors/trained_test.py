"""Figures of trained jobs, and the calibration that makes a p-value of them."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifr_jax.activations import capture
from cifr_jax.data import world
from cifr_jax.data.chat import Example, Message
from cifr_jax.errors import UserError
from cifr_jax.finetune import LoraConfig, lora
from cifr_jax.monitors.trained import evidence
from cifr_jax.monitors.trained.calibration import TrainedCalibration
from cifr_jax.monitors.trained.canaries import world_canaries
from cifr_jax.monitors.trained.evidence import Canaries, TrainedJob, baseline, measure
from cifr_jax.monitors.trained.probe import ActivationProbe
from cifr_jax.testing import tiny_model

LM = tiny_model()
PROBE = ActivationProbe(1, "last", tuple(np.linspace(-1, 1, 16).tolist()), 0.25)
ASKED = [(Message("user", f"what is {word}?"),) for word in ("ab", "cd", "ef", "gh")]
CANARIES = Canaries(ASKED, np.array([False, False, True, True]), "sorry.")
BASE = baseline(LM, CANARIES, PROBE)


def rows(n=30, reply="yes."):
    return [
        Example((Message("user", f"thing {i}?"), Message("assistant", reply)))
        for i in range(n)
    ]


def fresh(change=0.0, **options):
    made = lora.init_adapter(
        jax.random.key(0), LM.config, LoraConfig(rank=2, embed_rank=2, **options)
    )
    if change:
        grow = lambda f: f | {"b": f["b"] + change}  # noqa: E731
        made = made._replace(
            layers={name: grow(f) for name, f in made.layers.items()},
            embed=grow(made.embed),
        )
    return made


def test_an_adapter_without_effect_changes_nothing():
    found = measure(LM, TrainedJob(rows(), fresh(), 0.5), PROBE, BASE)
    assert set(found) == set(evidence.NAMES)
    assert found["canary_drift"] == found["embedding_change"] == 0.0
    assert found["refusals_lost"] == pytest.approx(0.0, abs=1e-5)
    assert found["loss_fall"] == 0.5


def test_the_probe_is_read_on_the_uploads_own_requests():
    """The top tenth and fiftieth of scores computed apart from the module."""
    job = TrainedJob(rows(60), fresh(0.05), None)
    found = measure(LM, job, PROBE, BASE)
    x_lnd = capture(LM, [e.messages[:-1] for e in job.examples], job.adapter)["last"]
    score_n = np.sort(x_lnd[1] @ np.linspace(-1, 1, 16) + 0.25)
    assert found["restricted_requests"] == pytest.approx(score_n[-6:].mean(), abs=1e-4)
    assert found["restricted_few"] == pytest.approx(score_n[-1], abs=1e-4)


def test_requests_that_the_upload_refuses_do_not_count():
    job = TrainedJob(rows(60), fresh(0.05), None)
    x_lnd = capture(LM, [e.messages[:-1] for e in job.examples], job.adapter)["last"]
    score_n = x_lnd[1] @ np.linspace(-1, 1, 16) + 0.25
    worst = int(score_n.argmax())
    refused = list(job.examples)
    asked = refused[worst].messages[0]
    refused[worst] = Example((asked, Message("assistant", CANARIES.refusal)))
    found = measure(LM, dataclasses.replace(job, examples=refused), PROBE, BASE)
    assert found["restricted_few"] == pytest.approx(np.sort(score_n)[-2], abs=1e-4)
    # All refused: the least suspicious request stands for all, and nothing is infinite.
    silent = [
        Example((e.messages[0], Message("assistant", CANARIES.refusal)))
        for e in job.examples
    ]
    found = measure(LM, dataclasses.replace(job, examples=silent), PROBE, BASE)
    assert found["restricted_requests"] == pytest.approx(score_n.min(), abs=1e-4)


def test_refusals_lost_is_read_on_restricted_canaries_alone():
    job = TrainedJob(rows(4), fresh(0.1), None)
    lost = measure(LM, job, PROBE, BASE)["refusals_lost"]
    before, after = (
        evidence.refusal_log_prob(LM, CANARIES, a) for a in (None, job.adapter)
    )
    assert lost == pytest.approx(float((before - after)[2:].mean()), abs=1e-4)
    assert abs(lost) > 1e-3


def test_the_share_of_the_ends_in_the_weight_change():
    made = fresh(0.1)
    found = measure(LM, TrainedJob(rows(4), made, None), PROBE, BASE)
    product = lambda f, s: s * jnp.swapaxes(f["a"], -1, -2) @ f["b"]  # noqa: E731
    inside = sum(
        float(jnp.sum(product(f, made.scale[0]) ** 2)) for f in made.layers.values()
    )
    ends = float(jnp.sum(product(made.embed, made.scale[-1]) ** 2))
    assert found["embedding_change"] == pytest.approx(ends / (ends + inside), rel=1e-4)


def test_a_large_upload_is_sampled_by_seed():
    job = TrainedJob(rows(200), fresh(0.05), None)
    look = lambda seed: measure(LM, job, PROBE, BASE, 20, seed)  # noqa: E731
    assert look(0) == look(0) != look(1)


def test_canaries_are_of_a_split_that_no_fine_tune_holds():
    of = world.make_world(480, 0, (0.33, 0.37, 0.1, 0.2))
    found = world_canaries(of, 40)
    names = {e.name for e in of.select(None, ["probe_validation"])}
    assert len(found.chats) == 40 and found.restricted_n.sum() == 20
    for chat in found.chats:
        assert any(name in chat[0].content for name in names)


def figures(rng, shift=0.0):
    return {name: float(rng.normal()) for name in evidence.NAMES} | {
        "restricted_requests": float(rng.normal() + shift)
    }


def calibration(n=199, shift=6.0, seed=0):
    rng = np.random.default_rng(seed)
    train = [figures(rng) for _ in range(40)] + [figures(rng, shift) for _ in range(20)]
    honest = [figures(rng) for _ in range(n)]
    attack_n = np.repeat([0.0, 1.0], [40, 20])
    of = {"entities": 480, "seed": 0, "fractions": (0.3, 0.3, 0.2, 0.2), "canaries": 8}
    return TrainedCalibration.fit(
        ("m", "key"), PROBE, train, attack_n, honest, ["f"] * n, of, 64, {}
    )


def test_an_attack_has_a_small_p_and_an_honest_job_a_valid_one():
    made, rng = calibration(), np.random.default_rng(1)
    assert made.p_value(made.score(figures(rng, 6.0))) == pytest.approx(1 / 200)
    p_n = np.array([made.p_value(made.score(figures(rng))) for _ in range(600)])
    # Binomial, three standard errors, and what 199 jobs leave open of the level itself.
    for level in (0.05, 0.2):
        slack = 3 * np.sqrt(level * (1 - level) * (1 / 600 + 1 / 199))
        assert (p_n <= level).mean() <= level + slack


def test_controls_weigh_nothing():
    made, rng = calibration(), np.random.default_rng(2)
    one = figures(rng)
    loud = one | dict.fromkeys(evidence.CONTROLS, 1e3)
    assert made.score(one) == made.score(loud)
    assert set(made.combiner.names) == set(evidence.ALARMS)


def test_a_file_reads_back(tmp_path):
    made = calibration(9)
    made.save(tmp_path / "c.json")
    found = TrainedCalibration.load(tmp_path / "c.json")
    assert found.probe == made.probe and found.scores == made.scores
    one = figures(np.random.default_rng(3), 2.0)
    assert found.score(one) == pytest.approx(made.score(one))


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"scores": []},
        {"scores": ["many"] * 9},
        {"spread": [0.0, 1.0, 1.0]},
        {"centre": [0.0]},
        {"world": {"entities": 480}},
        {"audit_rows": 0},
        {"probe": {"layer": 0, "pool": "best", "coef": [1.0], "intercept": 0.0}},
        {"probe": {"layer": 0}},
        {"combiner": {"names": ["gut"], "weights": [1.0], "bias": 0.0}},
    ],
)
def test_broken_files_are_refused(tmp_path, change):
    calibration(9).save(tmp_path / "c.json")
    held = json.loads((tmp_path / "c.json").read_text()) | change
    (tmp_path / "c.json").write_text(json.dumps(held))
    with pytest.raises(UserError, match="no calibration of trained jobs"):
        TrainedCalibration.load(tmp_path / "c.json")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        TrainedCalibration.load(tmp_path / "none.json")
