"""The benchmark of simulated customers, from its config to results and a calibration."""

import json

import numpy as np
import pytest
from scipy.stats import norm

from cifr_jax import job_benchmark
from cifr_jax.config import load_config
from cifr_jax.errors import UserError
from cifr_jax.evaluation import job_level, job_results, schema
from cifr_jax.monitors.dataset.calibration import Calibration
from cifr_jax.monitors.dataset.embedded_questions import OwnAnswers


def make_config(**change):
    config = load_config("configs/job_benchmark.py:runlocal")
    config.base_model = "tiny"
    config.jobs.sizes = (64,)
    config.update_from_flattened_dict(change)
    return config


@pytest.fixture(scope="module")
def small():
    """The grid cut to two attacks, so that a run takes seconds."""
    patch = pytest.MonkeyPatch()
    patch.setattr(job_benchmark, "REACH", ((24, 1, 1.0, ""),))
    patch.setattr(job_benchmark, "GRID", ((24, 3, 0.5, ""), (24, 1, 1.0, "keyed")))
    patch.setattr(job_benchmark, "SHARD", 20)

    # Which answer tiny would give is of no weight here, and asking takes a minute.
    def asked(lm):
        return lambda items: OwnAnswers(
            np.array([len(i.stem) % len(i.options) for i in items], int),
            np.array([float(len(i.stem)) for i in items]),
        )

    patch.setattr(job_benchmark, "own_answer_from", asked)
    yield patch
    patch.undo()


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("jobs")
    job_benchmark.run(make_config(), str(workdir))
    return workdir


def test_jobs_of_which_none_sets_a_threshold_are_the_configs_fault(small, tmp_path):
    with pytest.raises(UserError, match="benign_calibration: no honest job"):
        job_benchmark.run(make_config(**{"jobs.sizes": (4,)}), str(tmp_path))


def test_a_run_ends_in_valid_results_a_page_and_a_calibration(finished):
    results = json.loads((finished / "results.json").read_bytes())
    schema.validate_results(results)
    figures = results["text"]["customers"]
    assert {row["cipher"] for row in results["rows"]} == {
        "n=24 m=1", "n=24 m=3 50%", "n=24 m=1 keyed",
    }  # fmt: skip
    assert figures["jobs"]["control"] == 2
    assert set(figures["power_family_left_out"]) == set(
        figures["power"]["0.01"]["combined"]
    )
    assert all(check["passed"] for check in results["leakage_checks"])
    made = Calibration.load(finished / "calibration.json")
    assert made.base_model == "tiny" and len(made.scores) == figures["jobs"]["calibration"]
    assert (finished / "report.html").read_text().startswith("<!doctype html>")


def job(kind, z, variants=1, adaptive=""):
    spec = {"kind": kind, "family": "f", "variants": variants, "adaptive": adaptive}
    spec |= {"n": 134, "share": 1.0, "path": ""}
    return {"spec": spec, "tail_p": {name: norm.sf(x) for name, x in z.items()}}


def test_a_family_left_out_is_caught_only_by_what_others_taught():
    """Attacks with one variant show in `loud` alone, those with three in `quiet` alone."""
    rng = np.random.default_rng(0)
    names = ("loud", "quiet")

    def some(kind, shifts, n, **spec):
        drawn = [dict(zip(names, rng.normal(shifts), strict=True)) for _ in range(n)]
        return [job(kind, one, **spec) for one in drawn]

    def attacks(n):
        both = [some("attack", (8, 0), n), some("attack", (0, 8), n, variants=3)]
        return both + [some("attack", (8, 0), n, adaptive="keyed")]

    train = some("benign", (0, 0), 60) + sum(attacks(30), [])
    honest = some("benign", (0, 0), 300)
    found = job_results.power_left_out(train, honest, sum(attacks(40), []), names)
    assert list(found) == ["n=134 m=1", "n=134 m=3", "n=134 m=1 keyed"]
    # What keyed attacks taught catches m=1; nothing else taught what catches m=3.
    assert found["n=134 m=1"]["share"] > 0.9 and found["n=134 m=1 keyed"]["share"] > 0.9
    assert found["n=134 m=3"]["share"] < 0.2
    assert found["n=134 m=1"]["n"] == 40


def test_a_killed_run_goes_on_after_the_last_whole_shard(finished, tmp_path, monkeypatch):
    record, calls = job_benchmark.record, []

    def killed(*given):
        calls.append(1)
        if len(calls) == 45:
            raise KeyboardInterrupt
        return record(*given)

    monkeypatch.setattr(job_benchmark, "record", killed)
    with pytest.raises(KeyboardInterrupt):
        job_benchmark.run(make_config(), str(tmp_path))
    job_benchmark.run(make_config(), str(tmp_path))
    whole, again = (
        json.loads((folder / "results.json").read_bytes())["rows"]
        for folder in (finished, tmp_path)
    )
    assert again == whole
    total = len(json.loads((finished / "calibration.json").read_bytes())["scores"])
    assert (
        total
        and len(calls)
        < 45 + 5 + sum(map(len, job_benchmark.specs(make_config()).values())) - 40 + 1
    )  # two whole shards were not made again


def test_splits_share_no_customer(small):
    found = job_benchmark.specs(make_config())
    seen = [{(s.family, s.seed) for s in found[split]} for split in job_benchmark.SPLITS]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


def test_thresholds_hold_for_the_next_honest_job():
    """Of many draws, the share of new honest jobs above the threshold is at most 1%."""
    rng = np.random.default_rng(0)
    above = [
        rng.normal() > job_level.threshold(rng.normal(size=199), 0.01) for _ in range(4000)
    ]
    assert np.mean(above) < 0.01 + 3 * np.sqrt(0.01 * 0.99 / 4000)
    assert job_level.threshold(np.zeros(50), 0.01) == np.inf


def test_a_family_left_out_is_judged_by_the_others():
    calibration = np.concatenate([np.zeros(200), np.full(200, 9.0)])
    groups = ["quiet"] * 200 + ["loud"] * 200
    found = job_level.left_out(
        calibration, groups, np.array([1.0, 9.5]), ["quiet", "loud"], 0.01
    )
    assert found["loud"]["share"] == 1.0 and found["quiet"]["share"] == 0.0
    assert job_level.rate_above(np.array([1.0, 3.0]), 2.0)["share"] == 0.5


def test_the_size_of_uniform_p_values_is_the_level():
    p_values = (np.arange(1000) + 1) / 1000
    found = job_level.size_of(p_values, (0.05, 0.01))
    assert found["0.05"]["share"] == 0.05 and found["0.01"]["share"] == 0.01
