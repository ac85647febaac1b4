"""Metrics against scikit-learn, by definition over pairs, and on cases done by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as peer_roc_curve

from cifr_jax.evaluation import metrics


@st.composite
def scored(draw):
    """Scores on a coarse grid, so that ties within and between classes are common."""
    n = draw(st.integers(2, 40))
    scores = draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    labels[:2] = 0, 1
    return np.array(scores, float) / 3, np.array(labels)


@settings(max_examples=80, deadline=None)
@given(scored())
def test_auroc_is_the_share_of_pairs_won(case):
    scores, labels = case
    gaps = scores[labels == 1][:, None] - scores[labels == 0]
    by_pairs = np.mean((gaps > 0) + 0.5 * (gaps == 0))
    assert metrics.auroc(scores, labels) == pytest.approx(by_pairs)
    assert metrics.auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
    assert metrics.auroc(-scores, labels) == pytest.approx(1 - by_pairs)


@settings(max_examples=80, deadline=None)
@given(scored())
def test_roc_curve_matches_scikit_learn(case):
    scores, labels = case
    ours = metrics.roc_curve(scores, labels)
    fpr, tpr, _ = peer_roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(ours.fpr, fpr)
    np.testing.assert_allclose(ours.tpr, tpr)
    for f, t, threshold in zip(*ours, strict=True):
        assert f == np.mean(scores[labels == 0] > threshold)
        assert t == np.mean(scores[labels == 1] > threshold)


@settings(max_examples=80, deadline=None)
@given(scored(), st.sampled_from([0.0, 0.01, 0.05, 0.3, 0.5, 1.0]))
def test_tpr_at_fpr_is_the_best_point_that_keeps_the_rate(case, fpr):
    scores, labels = case
    all_fpr, all_tpr, _ = peer_roc_curve(labels, scores, drop_intermediate=False)
    best = all_tpr[all_fpr <= fpr + 1e-12].max()
    assert metrics.tpr_at_fpr(scores, labels, fpr) == pytest.approx(best)
    threshold = metrics.threshold_at_fpr(scores[labels == 0], fpr)
    assert np.mean(scores[labels == 0] > threshold) <= fpr + 1e-12


def test_thresholds_by_hand():
    negatives = np.arange(100.0)
    assert metrics.threshold_at_fpr(negatives, 0.01) == 98  # only 99 is above
    assert metrics.threshold_at_fpr(negatives, 0.29) == 70  # 0.29 * 100 rounds below 29
    assert metrics.threshold_at_fpr(negatives, 0.001) == 99  # no false alarm allowed
    assert metrics.threshold_at_fpr(negatives, 1.0) == -np.inf
    tied = np.array([1.0, 2, 3, 3, 3])
    assert metrics.threshold_at_fpr(tied, 0.4) == 3  # the ties would all be flagged


def test_conformal_threshold_holds_for_the_next_negative():
    assert metrics.threshold_at_fpr(np.arange(98.0), 0.01, conformal=True) == np.inf
    assert metrics.threshold_at_fpr(np.arange(99.0), 0.01, conformal=True) == 98
    # By exchangeability the rate over fresh draws is floor(0.1 * 31) / 31 = 0.0968.
    draws = np.random.default_rng(0).normal(size=(4000, 31))
    alarms = [row[-1] > metrics.threshold_at_fpr(row[:-1], 0.1, conformal=True)
              for row in draws]  # fmt: skip
    assert np.mean(alarms) == pytest.approx(3 / 31, abs=0.015)
    plain = [row[-1] > metrics.threshold_at_fpr(row[:-1], 0.1) for row in draws]
    assert np.mean(plain) == pytest.approx(4 / 31, abs=0.015)  # why the option exists


def test_accuracy_at_a_threshold():
    scores, labels = [0.1, 0.5, 0.5, 0.9], [0, 0, 1, 1]
    assert metrics.accuracy_at(scores, labels, 0.5) == 0.75
    assert metrics.accuracy_at(scores, labels, 0.4) == 0.75
    assert metrics.accuracy_at(scores, labels, np.inf) == 0.5


def test_log_auroc_known_answers():
    labels = np.repeat([0, 1], 1000)
    perfect = np.concatenate([np.zeros(1000), np.ones(1000)])
    assert metrics.log_auroc(perfect, labels) == pytest.approx(1)
    assert metrics.log_auroc(-perfect, labels) == 0
    # All positives sit above 99% of the negatives: TPR is 1 on [0.01, 1], 2 decades of 3.
    scores = np.concatenate([np.repeat([0.0, 2.0], [990, 10]), np.ones(1000)])
    assert metrics.log_auroc(scores, labels) == pytest.approx(2 / 3)
    # A useless score has TPR = FPR, whose mean over log10(FPR) is (1 - f) / -ln f.
    rng = np.random.default_rng(0)
    chance = metrics.log_auroc(rng.normal(size=60000), np.arange(60000) % 2)
    assert chance == pytest.approx((1 - 1e-3) / -np.log(1e-3), abs=0.01)


def test_calibration_error_matches_scikit_learn_bins():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.001, 0.999, size=500)
    labels = (rng.random(500) < p**2).astype(int)
    observed, stated = calibration_curve(labels, p, n_bins=10)
    sizes = np.histogram(p, 10, (0, 1))[0]
    expected = np.sum(np.abs(observed - stated) * sizes) / 500
    assert metrics.expected_calibration_error(p, labels) == pytest.approx(expected)
    assert metrics.expected_calibration_error([0.0, 1.0], [0, 1]) == 0
    assert metrics.expected_calibration_error([1.0, 1.0], [0, 0]) == 1


def test_infinite_scores_rank_at_the_ends():
    scores, labels = [-np.inf, -np.inf, 0.0, np.inf], [0, 1, 0, 1]
    assert metrics.auroc(scores, labels) == 0.625
    assert metrics.roc_curve(scores, labels).tpr[-1] == 1
    assert metrics.tpr_at_fpr(scores, labels, 0.0) == 0.5


@pytest.mark.parametrize(
    "scores,labels,message",
    [
        ([0.0, np.nan], [0, 1], "NaN"),
        ([0.0, 1.0], [1, 1], "0 negatives"),
        ([0.0, 1.0], [0, 0], "0 positives"),
        ([0.0, 1.0], [0, 1, 1], "one length"),
        ([0.0, 1.0], [0, 2], "0 or 1"),
    ],
)
def test_bad_input_is_refused(scores, labels, message):
    for metric in (metrics.auroc, metrics.roc_curve, metrics.log_auroc):
        with pytest.raises(ValueError, match=message):
            metric(scores, labels)


def test_other_bad_input_is_refused():
    with pytest.raises(ValueError, match="at least one negative"):
        metrics.threshold_at_fpr([], 0.01)
    with pytest.raises(ValueError, match="fpr"):
        metrics.threshold_at_fpr([1.0], 1.5)
    with pytest.raises(ValueError, match="lowest_fpr"):
        metrics.log_auroc([0.0, 1.0], [0, 1], lowest_fpr=0)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        metrics.expected_calibration_error([1.5], [1])
