"""Intervals: exact values, agreement with plain resampling, coverage by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from cifr_jax.evaluation import metrics
from cifr_jax.evaluation.intervals import clopper_pearson, clustered_bootstrap


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_clopper_pearson_matches_scipy(case):
    successes, trials = case
    peer = binomtest(successes, trials).proportion_ci(0.95, method="exact")
    assert clopper_pearson(successes, trials) == pytest.approx((peer.low, peer.high))


def test_clopper_pearson_rule_of_three():
    assert clopper_pearson(0, 299, level=0.9)[1] == pytest.approx(0.01, abs=1e-4)
    with pytest.raises(ValueError, match="no rate"):
        clopper_pearson(3, 2)


def clustered_scores(rng, n_clusters=24, size=10, shift=1.0):
    """Half of the clusters positive; two thirds of the variance is between clusters."""
    ids = np.repeat(np.arange(n_clusters), size)
    labels = ids % 2
    between = rng.normal(scale=np.sqrt(2 / 3), size=n_clusters)[ids]
    within = rng.normal(scale=np.sqrt(1 / 3), size=len(ids))
    return between + within + shift * labels, labels, ids


def test_coverage_needs_the_clusters():
    """Nominal 95%: kept with clusters, far missed when prompts are taken as independent."""
    true_auroc = norm.cdf(1 / np.sqrt(2))  # two unit-variance scores, one standard apart
    rng = np.random.default_rng(0)
    hits = {"clusters": 0, "items": 0}
    n = 150
    for seed in range(n):
        scores, labels, ids = clustered_scores(rng)
        for name, clusters in (("clusters", ids), ("items", None)):
            low, high = clustered_bootstrap(
                scores, labels, clusters, n_bootstrap=200, seed=seed
            )["auroc"]
            hits[name] += low <= true_auroc <= high
    assert hits["clusters"] >= 0.86 * n  # percentile intervals of 24 clusters run short
    assert hits["items"] <= 0.70 * n


def test_equals_a_plain_loop_over_resampled_clusters():
    """The vectorised weights give, in distribution, what copying rows would."""
    scores, labels, ids = clustered_scores(np.random.default_rng(1))
    scores = np.round(scores, 1)  # ties
    fast = clustered_bootstrap(scores, labels, ids, fpr=0.05, n_bootstrap=4000, seed=0)
    rng = np.random.default_rng(1)
    members = [np.flatnonzero(ids == g) for g in range(24)]
    slow = []
    for _ in range(1500):
        drawn = np.concatenate([rng.choice(np.arange(c, 24, 2), 12) for c in (0, 1)])
        rows = np.concatenate([members[g] for g in drawn])
        slow.append((metrics.auroc(scores[rows], labels[rows]),
                     metrics.tpr_at_fpr(scores[rows], labels[rows], 0.05)))  # fmt: skip
    low, high = np.quantile(slow, [0.025, 0.975], axis=0)
    assert fast["auroc"] == pytest.approx((low[0], high[0]), abs=0.015)
    assert fast["tpr"] == pytest.approx((low[1], high[1]), abs=0.04)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_one_cluster_of_each_class_reproduces_the_estimate(seed):
    """Every replicate is then the data themselves: both ends are the point estimates."""
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, 6, size=30).astype(float), np.arange(30) % 2
    got = clustered_bootstrap(scores, labels, labels, fpr=0.2, n_bootstrap=3, seed=seed)
    for name, value in (("auroc", metrics.auroc(scores, labels)),
                        ("tpr", metrics.tpr_at_fpr(scores, labels, 0.2))):  # fmt: skip
        if 0 < value < 1:
            assert got[name] == pytest.approx((value, value))


def test_clusters_of_both_classes_are_kept_whole():
    scores, labels = np.array([0.0, 1, 5, 4]), np.array([0, 1, 0, 1])
    jobs = ["a", "a", "b", "b"]
    low, high = clustered_bootstrap(scores, labels, jobs, n_bootstrap=500)["auroc"]
    assert (low, high) == (0.0, 1.0)  # twice b, all pairs lost; twice a, all won


def test_seed_decides_and_chunks_do_not(monkeypatch):
    scores, labels, ids = clustered_scores(np.random.default_rng(2))
    first = clustered_bootstrap(scores, labels, ids, n_bootstrap=300, seed=5)
    assert first == clustered_bootstrap(scores, labels, ids, n_bootstrap=300, seed=5)
    assert first != clustered_bootstrap(scores, labels, ids, n_bootstrap=300, seed=6)
    named = [f"entity {i}" for i in ids]
    assert first == clustered_bootstrap(scores, labels, named, n_bootstrap=300, seed=5)
    monkeypatch.setattr("cifr_jax.evaluation.intervals._CHUNK", 7 * len(scores))
    assert first == clustered_bootstrap(scores, labels, ids, n_bootstrap=300, seed=5)


def test_a_perfect_score_is_not_certain():
    labels = np.repeat([0, 1], 20)
    got = clustered_bootstrap(labels.astype(float), labels, n_bootstrap=50)
    assert got["auroc"] == got["tpr"] == pytest.approx((0.025 ** (1 / 20), 1.0))
    got = clustered_bootstrap(1.0 - labels, labels, n_bootstrap=50)
    assert got["auroc"] == pytest.approx((0.0, 1 - 0.025 ** (1 / 20)))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="cluster names"):
        clustered_bootstrap([0.0, 1.0], [0, 1], ["a"])
    with pytest.raises(ValueError, match="0 positives"):
        clustered_bootstrap([0.0, 1.0], [0, 0])
    with pytest.raises(ValueError, match="n_bootstrap"):
        clustered_bootstrap([0.0, 1.0], [0, 1], n_bootstrap=0)
