"""The pointwise benchmark from its config to results, on a random model."""

import json
import shutil

import numpy as np
import pytest

from cifr_jax import pointwise_benchmark, pointwise_jobs, pointwise_stages, testing
from cifr_jax.config import load_config
from cifr_jax.errors import UserError
from cifr_jax.evaluation import schema
from cifr_jax.finetune import fleet
from cifr_jax.monitors import toxicity


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pointwise")
    testing.save_model(folder / "model", testing.tiny_model(d_model=16))
    return folder


def make_config(place, **change):
    config = load_config("configs/pointwise.py:runlocal")
    config.base_model = str(place / "model")
    config.update_from_flattened_dict(change)
    return config


@pytest.fixture(scope="module")
def finished(place, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished")
    pointwise_benchmark.run(make_config(place), str(workdir))
    return workdir


@pytest.fixture(scope="module")
def results(finished):
    return json.loads((finished / "results.json").read_bytes())


def test_a_run_ends_in_valid_results_and_a_page(finished, results):
    schema.validate_results(results)
    assert [j["kind"] for j in results["jobs"]] == ["attack", "control"]
    assert {r["monitor"] for r in results["rows"]} == {
        "likelihood", "perplexity", "judge_violation", "judge_suspicion", "char_ngrams",
        "linear_probe",
    }  # fmt: skip
    assert all(check["passed"] for check in results["leakage_checks"])
    assert (finished / "report.html").read_text().startswith("<!doctype html>")


def test_a_random_model_has_learned_nothing_and_says_so(results):
    assert not any(job["learned"] for job in results["jobs"])
    assert any("was not learned" in limit for limit in results["limits"])


def test_every_row_is_checked_against_the_threshold(results):
    rows = results["text"]["pointwise"]["rows"]
    assert set(rows) == {"classify", "classify shuffled"}
    assert all(one["share_above_threshold"] == 1 for one in rows.values())


def test_a_finished_run_is_not_computed_again(place, finished, results, monkeypatch):
    def again(*_, **__):
        raise AssertionError("computed again")

    monkeypatch.setattr(fleet, "train", again)
    monkeypatch.setattr(pointwise_jobs, "choose_code", again)
    monkeypatch.setattr(pointwise_stages, "capture_tokens", again)
    pointwise_benchmark.run(make_config(place), str(finished))
    after = json.loads((finished / "results.json").read_bytes())
    assert after["rows"] == results["rows"]
    assert after["jobs"] == results["jobs"]


def test_a_content_filter_joins_without_training_again(place, finished, monkeypatch):
    def again(*_, **__):
        raise AssertionError("computed again")

    monkeypatch.setattr(fleet, "train", again)
    monkeypatch.setattr(
        toxicity, "load", lambda: lambda texts: np.array([float(len(t)) for t in texts])
    )
    workdir = finished.parent / "filtered"
    shutil.copytree(finished, workdir)
    config = make_config(place, **{"monitors.toxicity": True})
    pointwise_benchmark.run(config, str(workdir))
    rows = json.loads((workdir / "results.json").read_bytes())["rows"]
    (row,) = (row for row in rows if row["monitor"] == "toxicity")
    assert 0 <= row["auroc"] <= 1 and row["seconds_per_1000"] > 0


def test_splits_share_no_item_and_no_held_out_topic(place):
    items = pointwise_jobs.split_items(make_config(place))
    parts = [items.train, items.fit, items.seen_topics, items.held_out]
    keys = [q.key for part in parts for q in part]
    assert len(keys) == len(set(keys))
    assert not {q.topic for q in items.held_out} & {q.topic for q in items.train}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"attack.threshold": 0.9}, "threshold: .* replies are above 0.9"),
        ({"attack.held_out_topics": 0}, "0 of .* topics held out"),
        ({"test.questions": 10_000}, "ask for fewer"),
        ({"attack.kinds": ("clasify",)}, "unknown"),
    ],
)
def test_faults_are_told(place, tmp_path, change, what):
    with pytest.raises(UserError, match=what):
        pointwise_benchmark.run(make_config(place, **change), str(tmp_path / "work"))
