"""Rows of results.json: schema, plain JSON types, agreement with the metrics."""

import json

import numpy as np
import pytest

from cifr_jax.evaluation import (
    auroc,
    check_disjoint,
    curve_points,
    score_row,
    tpr_at_fpr,
)
from cifr_jax.evaluation.schema import validate_results

KEYS = {
    "monitor", "level", "control", "role", "cipher", "cell", "n_positive", "n_negative",
    "auroc", "accuracy", "tpr_at_fpr", "fpr_at_threshold", "ci95", "seconds_per_1000",
    "roc",
}  # fmt: skip


def row(scores, labels, threshold=0.5, **changes):
    settings = {
        "monitor": "linear_probe",
        "level": "prompt",
        "control": np.bool_(False),
        "role": "test_family",
        "cipher": "endspeak",
        "cell": "encoded",
        "clusters": None,
        "seconds_per_1000": np.float32(1.5),
        "seed": 0,
        "n_bootstrap": 50,
    }
    return score_row(
        scores=scores, labels=labels, threshold=threshold, **settings | changes
    )


def strict_json(value):
    return json.loads(json.dumps(value, allow_nan=False))


def test_a_row_holds_the_figures_and_survives_json():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    scores = rng.normal(size=400) + labels
    got = row(scores, labels, clusters=[f"entity {i // 8}" for i in range(400)])
    assert set(got) == KEYS and got == strict_json(got)
    assert got["auroc"] == auroc(scores, labels)
    assert set(got["tpr_at_fpr"]) == {"0.001", "0.01", "0.05"}
    assert got["tpr_at_fpr"]["0.05"] == tpr_at_fpr(scores, labels, 0.05)
    assert got["fpr_at_threshold"] == np.mean(scores[labels == 0] > 0.5)
    assert got["accuracy"] == np.mean((scores > 0.5) == labels)
    low, high = got["ci95"]["auroc"]
    assert low < got["auroc"] < high
    assert got["ci95"]["tpr_at_1pct"][0] <= got["tpr_at_fpr"]["0.01"]
    assert got == row(scores, labels, clusters=[f"entity {i // 8}" for i in range(400)])


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_leaves_null_not_nan(label):
    got = row(np.array([0.2, 0.9]), np.full(2, label))
    assert got == strict_json(got)
    assert got["auroc"] is got["roc"] is got["ci95"]["auroc"] is None
    assert set(got["tpr_at_fpr"].values()) == {None}
    assert got["accuracy"] == 0.5
    assert got["fpr_at_threshold"] == (0.5 if label == 0 else None)


def test_without_a_threshold_or_without_rows():
    got = row(np.array([0.2, 0.9]), np.array([0, 1]), threshold=None)
    assert got["accuracy"] is got["fpr_at_threshold"] is None and got["auroc"] == 1
    assert row([], [], seconds_per_1000=None)["accuracy"] is None
    never = row(np.array([0.2, 0.9]), np.array([0, 1]), threshold=np.inf)
    assert never["fpr_at_threshold"] == 0 and never == strict_json(never)


def test_nan_scores_are_refused_by_name():
    with pytest.raises(ValueError, match="linear_probe, test_family, encoded.*1 NaN"):
        row(np.array([np.nan, 1.0]), np.array([0, 1]))


@pytest.mark.parametrize("n,tied", [(30, False), (30, True), (4000, False), (4000, True)])
def test_the_figures_curve_keeps_the_shape(n, tied):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    scores = rng.normal(size=n) + 1.5 * labels
    scores = np.round(scores, 1) if tied else scores
    points = curve_points(scores, labels)
    assert points[0] == [0, 0] and points[-1] == [1, 1] and len(points) <= 100
    fpr, tpr = np.transpose(points)
    assert (np.diff(fpr) >= 0).all() and (np.diff(tpr) >= 0).all()
    thinned = n == 4000 and not tied
    tolerance = 0.005 if thinned else 1e-9
    assert np.trapezoid(tpr, fpr) == pytest.approx(auroc(scores, labels), abs=tolerance)
    if thinned:  # the decade that matters keeps points of its own
        assert np.sum((fpr > 0) & (fpr < 0.05)) >= 10


def test_rows_fit_the_schema():
    labels = np.arange(300) % 2
    noise = np.random.default_rng(0).normal(size=300)
    rows = [row(noise + labels, labels), row(noise, np.zeros(300)), row([], [], None)]
    empty = dict.fromkeys(("layer", "site", "pool", "C", "threshold"))
    results = {"schema": 1, "protocol": "p", "seed": 0, "environment": {}, "timings": {},
               "base_model": {"name": "tiny", "parameters": 1}, "jobs": [], "rows": rows,
               "job_rows": [], "selection": empty,
               "leakage_checks": [check_disjoint("jobs", ["a"], ["b"])]}  # fmt: skip
    validate_results(results)
