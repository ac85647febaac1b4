"""Figures of trained jobs, and the calibration that makes a p-value of them."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifr_jax import audit, models
from cifr_jax.activations import capture
from cifr_jax.data import world
from cifr_jax.data.chat import Example, Message
from cifr_jax.errors import UserError
from cifr_jax.finetune import LoraConfig, lora
from cifr_jax.monitors.trained import evidence, row_reader
from cifr_jax.monitors.trained.calibration import TrainedCalibration
from cifr_jax.monitors.trained.canaries import Canaries, world_canaries
from cifr_jax.monitors.trained.evidence import TrainedJob, baseline
from cifr_jax.monitors.trained.row_reader import Linear, Place, RowReader, start_from
from cifr_jax.testing import tiny_model

LM = tiny_model()
PLACE = Place(1, "last", 0.1)
READER = RowReader(
    PLACE, (0.1, 1.0, 2.0), (1.0, 0.5, 0.7),
    Linear(tuple(np.linspace(-1, 1, 9).tolist()), 0.25),
    Linear(tuple(np.linspace(1, -2, 18).tolist()), -0.5),
)  # fmt: skip
ASKED = [(Message("user", f"what is {word}?"),) for word in ("ab", "cd", "ef", "gh")]
CANARIES = Canaries(ASKED, np.array([False, False, True, True]), "sorry.")
BASE = baseline(LM, CANARIES, PLACE)
START = start_from(LM, CANARIES, None, PLACE)


def measure(job, start=START, *sampling):
    return evidence.measure(LM, job, READER, start, BASE, *sampling)


def scores(examples, start=START):
    (signs_nj,) = row_reader.signs(
        LM, examples, [start.probe], start.adapter, CANARIES.refusal
    )
    return READER.score(signs_nj)


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
    found = measure(TrainedJob(rows(), fresh(), 0.5))
    assert set(found) == set(evidence.NAMES)
    assert found["canary_drift"] == found["embedding_change"] == 0.0
    assert found["refusals_lost"] == pytest.approx(0.0, abs=1e-5)
    assert found["loss_fall"] == 0.5


def test_the_tops_of_the_rows_scores_are_figures():
    job = TrainedJob(rows(60), fresh(0.05), None)
    found, (alone_n, apart_n) = measure(job), np.sort(scores(job.examples))
    assert found["restricted_requests"] == pytest.approx(alone_n[-6:].mean(), abs=1e-4)
    assert found["restricted_few"] == pytest.approx(alone_n[-1], abs=1e-4)
    assert found["restricted_apart"] == pytest.approx(apart_n[-1], abs=1e-4)
    many = TrainedJob(rows(600), fresh(0.05), None)
    found, (alone_n, apart_n) = measure(many), np.sort(scores(many.examples))
    assert found["restricted_few"] == pytest.approx(alone_n[-3:].mean(), abs=1e-4)
    assert found["restricted_apart"] == pytest.approx(apart_n[-3:].mean(), abs=1e-4)


def test_rows_are_read_in_the_model_that_the_job_starts_from():
    job, other = TrainedJob(rows(60), fresh(0.05), None), fresh(0.1)
    moved = start_from(LM, CANARIES, other, PLACE)
    name = "restricted_requests"
    before = measure(job)[name]
    assert measure(dataclasses.replace(job, adapter=other))[name] == before
    assert abs(measure(job, moved)[name] - before) > 1e-3
    assert measure(job, moved)[name] == pytest.approx(
        np.sort(scores(job.examples, moved)[0])[-6:].mean(), abs=1e-4
    )


def test_requests_that_the_upload_refuses_do_not_count():
    job = TrainedJob(rows(60), fresh(0.05), None)
    worst = int(scores(job.examples)[0].argmax())
    left = [e for i, e in enumerate(job.examples) if i != worst]
    alone_n, apart_n = scores(left)
    refused = list(job.examples)
    asked = refused[worst].messages[0]
    refused[worst] = Example((asked, Message("assistant", CANARIES.refusal)))
    found = measure(dataclasses.replace(job, examples=refused))
    assert found["restricted_few"] == pytest.approx(alone_n.max(), abs=1e-4)
    assert found["restricted_apart"] == pytest.approx(apart_n.max(), abs=1e-4)
    # All refused: the least suspicious request stands for all, and nothing is infinite.
    silent = [
        Example((e.messages[0], Message("assistant", CANARIES.refusal)))
        for e in job.examples
    ]
    found = measure(dataclasses.replace(job, examples=silent))
    alone_n, apart_n = scores(silent)
    assert found["restricted_requests"] == pytest.approx(alone_n.min(), abs=1e-4)
    assert found["restricted_apart"] == pytest.approx(apart_n.min(), abs=1e-4)


def test_signs_against_their_definitions():
    """One row at a time, from captures and log-probabilities of their own."""
    adapter = fresh(0.1)
    start = start_from(LM, CANARIES, adapter, PLACE)
    examples = rows(3, "yes, of course.")
    (found_nj,) = row_reader.signs(LM, examples, [start.probe], adapter, "sorry.")
    end = [min(LM.tokenizer.eos_ids)]
    for example, found in zip(examples, found_nj, strict=True):
        asked = [LM.tokenizer.encode_chat(example.messages[:1], add_generation_prompt=True)]
        said = LM.tokenizer.encode("yes, of course.") + end
        refused = LM.tokenizer.encode("sorry.") + end
        x_d = capture(LM, [example.messages[:1]], adapter)["last"][1][0]
        nats = -LM.score(asked, [said], adapter).log_prob_n[0] / len(said)
        no = -LM.score(asked, [refused], adapter).log_prob_n[0]
        expected = [x_d @ start.probe.coef_d + start.probe.intercept, np.log1p(nats),
                    np.log1p(no)]  # fmt: skip
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_probe_is_on_the_scale_of_its_canaries():
    for probe in row_reader.canary_probes(LM, CANARIES, fresh(0.1), [0.01, 1.0]):
        asked = capture(LM, CANARIES.chats, fresh(0.1))
        score_n = probe.score(asked)
        assert score_n[:2].mean() == pytest.approx(0, abs=1e-4)
        assert score_n[2:].mean() == pytest.approx(1, abs=1e-4)


def test_a_reader_learns_what_scikit_learn_learns():
    """Products of signs, weighted by kind, job and class, against its pipeline."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    rng = np.random.default_rng(0)
    jobs = []
    for kind, n, shift in (("plain", 80, 0), ("plain", 200, 0), ("new", 90, 0),
                           ("attack", 120, 1)):  # fmt: skip
        y_n = rng.random(n) < (0.3 if shift else 0.0)
        jobs.append((kind, rng.normal(size=(n, 3)) + 1.5 * y_n[:, None], y_n))
    found = RowReader.fit(PLACE, jobs, 0.1)
    x_nj = np.concatenate([x for _, x, _ in jobs])
    y_n = np.concatenate([y for *_, y in jobs])
    share = {"plain": 0.5, "new": 1, "attack": 1}
    weight_n = np.concatenate([np.full(len(x), share[k] / len(x)) for k, x, _ in jobs])
    for one in (True, False):
        of = y_n == one
        weight_n[of] *= len(y_n) / 2 / weight_n[of].sum()
    scaled = (x_nj - x_nj.mean(0)) / x_nj.std(0)
    own = np.concatenate(
        [
            (x - np.median(x, 0))
            / (np.percentile(x, 90, axis=0) - np.percentile(x, 10, axis=0))
            for _, x, _ in jobs
        ]
    )
    products = PolynomialFeatures(2, include_bias=False)
    alone_nm, own_nm = (products.fit_transform(np.clip(z, -4, 4)) for z in (scaled, own))
    scores_of_jobs = [found.score(x) for _, x, _ in jobs]
    got = [np.concatenate(part) for part in zip(*scores_of_jobs, strict=True)]
    for terms_nm, scores_n in zip(
        (alone_nm, np.concatenate([alone_nm, own_nm], -1)), got, strict=True
    ):
        scaler = StandardScaler().fit(terms_nm)
        theirs = LogisticRegression(C=0.1, max_iter=2000, tol=1e-8).fit(
            scaler.transform(terms_nm), y_n, sample_weight=weight_n
        )
        expected_n = theirs.decision_function(scaler.transform(terms_nm))
        np.testing.assert_allclose(scores_n, expected_n, atol=2e-3)


def test_a_few_rows_stand_apart_though_the_whole_job_is_shifted():
    """What a model reads badly moves all rows of a job alike: not their order."""
    rng = np.random.default_rng(2)
    x_nj = rng.normal(size=(200, 3))
    moved = row_reader.against_own(5 + 0.5 * x_nj)
    np.testing.assert_allclose(moved, row_reader.against_own(x_nj), atol=1e-9)
    for same in (np.ones((1, 3)), np.ones((9, 3))):
        assert (row_reader.against_own(same) == 0).all()


def test_the_place_that_ranks_restricted_rows_best_is_taken():
    rng = np.random.default_rng(1)
    y_n = rng.random(100) < 0.4
    noise, good = rng.normal(size=(100, 3)), rng.normal(size=(100, 3))
    good[:, 0] += 3 * y_n
    places = [Place(0, "last", 0.1), Place(3, "mean", 0.1)]
    assert row_reader.best_place(places, [(np.stack([noise, good]), y_n)]) == places[1]
    assert row_reader.best_place(places, [(np.stack([good, noise]), y_n)]) == places[0]


def test_refusals_lost_is_read_on_restricted_canaries_alone():
    job = TrainedJob(rows(4), fresh(0.1), None)
    lost = measure(job)["refusals_lost"]
    before, after = (
        evidence.refusal_log_prob(LM, CANARIES, a) for a in (None, job.adapter)
    )
    assert lost == pytest.approx(float((before - after)[2:].mean()), abs=1e-4)
    assert abs(lost) > 1e-3


def test_the_share_of_the_ends_in_the_weight_change():
    made = fresh(0.1)
    found = measure(TrainedJob(rows(4), made, None))
    product = lambda f, s: s * jnp.swapaxes(f["a"], -1, -2) @ f["b"]  # noqa: E731
    inside = sum(
        float(jnp.sum(product(f, made.scale[0]) ** 2)) for f in made.layers.values()
    )
    ends = float(jnp.sum(product(made.embed, made.scale[-1]) ** 2))
    assert found["embedding_change"] == pytest.approx(ends / (ends + inside), rel=1e-4)


def test_a_large_upload_is_sampled_by_seed():
    job = TrainedJob(rows(200), fresh(0.05), None)
    look = lambda seed: measure(job, START, 20, seed)  # noqa: E731
    assert look(0) == look(0) != look(1)


def test_canaries_are_of_a_split_that_no_fine_tune_holds():
    of = world.make_world(480, 0, (0.33, 0.37, 0.1, 0.2))
    found = world_canaries(of, 40)
    names = {e.name for e in of.select(None, ["probe_train", "probe_validation"])}
    assert len(found.chats) == 40 and found.restricted_n.sum() == 20
    assert len({chat[0].content for chat in found.chats}) == 40
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
        ("m", "key"), READER, train, attack_n, honest, ["f"] * n, of, 64, {}
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
    assert found.reader == made.reader and found.scores == made.scores
    one = figures(np.random.default_rng(3), 2.0)
    assert found.score(one) == pytest.approx(made.score(one))


@pytest.mark.parametrize(
    "change",
    [
        {"format": 1},
        {"scores": []},
        {"scores": ["many"] * 9},
        {"spread": [0.0, 1.0, 1.0, 1.0]},
        {"centre": [0.0]},
        {"world": {"entities": 480}},
        {"audit_rows": 0},
        {"reader": {"place": {"layer": 0}}},
        {"reader": dataclasses.asdict(READER) | {"spread": [1.0, 0.0, 1.0]}},
        {"reader": dataclasses.asdict(READER) | {"alone": {"weights": [1.0], "bias": 0.0}}},
        {"reader": dataclasses.asdict(READER) | {"apart": {"weights": [1.0], "bias": 0.0}}},
        {
            "reader": dataclasses.asdict(READER)
            | {"apart": dataclasses.asdict(READER.alone)}
        },
        {
            "reader": dataclasses.asdict(READER)
            | {"place": {"layer": 0, "pool": "best", "C": 1.0}}
        },
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


def test_the_shipped_calibration_is_of_the_shipped_base():
    found = TrainedCalibration.load(audit.SHIPPED_TRAINED / "tiny.json")
    assert found.base_key == models.load("tiny").fingerprint()
    assert len(found.scores) > 99  # enough for an operating point at 1%
    assert found.provenance["git_revision"] != "unknown"
    assert {"encoded", "encoded new", "phase1"} < set(found.families)
