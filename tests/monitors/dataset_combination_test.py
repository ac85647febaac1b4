"""Combinations of p-values: parity with SciPy, size, and a combiner that stays monotone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import cauchy as cauchy_distribution
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from cifr_jax.errors import UserError
from cifr_jax.evaluation.intervals import clopper_pearson
from cifr_jax.monitors.dataset import combination
from cifr_jax.monitors.dataset.combination import Combiner

p_vectors = st.lists(st.floats(1e-12, 0.99), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(p_vectors)
def test_formulas_are_those_of_scipy(p):
    quantiles = cauchy_distribution.isf(np.array(p))
    expected = cauchy_distribution.sf(quantiles.mean())
    assert combination.cauchy(p) == pytest.approx(expected, rel=1e-6)
    assert combination.bonferroni(p) == min(1.0, min(p) * len(p))


@given(p_vectors, st.floats(1e-4, 0.2))
def test_shares_fill_the_rate_and_each_test_can_reach_it_if_all_can(least, rate):
    shares = combination.shares_of(least, rate)
    assert shares.sum() == pytest.approx(1) and (shares > 0).all()
    if sum(least) <= 0.99 * rate:
        assert (np.array(least) <= rate * shares).all()
        assert (
            shares.min() >= min(1 / len(least), 1 - sum(least) / rate) / len(least) - 1e-9
        )
    else:
        assert (np.array(least) > rate * shares * (1 - 1e-9)).any() or sum(least) <= rate


def test_shares_known():
    assert combination.shares_of([0.001] * 4, 0.01) == pytest.approx([0.25] * 4)
    few = combination.shares_of([1 / 163, 1 / 1229, 0.001], 0.01)
    assert few == pytest.approx([0.6135, 0.1933, 0.1933], abs=1e-3)
    assert combination.bonferroni([1 / 163, 0.5, 0.5], few) <= 0.01
    assert combination.bonferroni([1 / 163, 0.5, 0.5]) > 0.01  # in equal shares it is not
    with pytest.raises(UserError, match="shares do not fit"):
        combination.bonferroni([0.1, 0.2], [0.5, 0.6])


def test_cauchy_of_extremes():
    assert combination.cauchy([1e-300, 1.0]) == pytest.approx(2e-300, rel=1e-6)
    assert combination.cauchy([0.001, 1.0, 1.0]) < 0.01  # ones do not veto
    assert combination.cauchy([0.03]) == pytest.approx(0.03)
    assert combination.cauchy([0.01, 0.5], [1, 1e-9]) == pytest.approx(0.01, rel=1e-6)
    assert combination.cauchy([1.0, 1.0]) == pytest.approx(0.99)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.95])
def test_size(correlation):
    rng = np.random.default_rng(0)
    shared, own = rng.normal(size=(20_000, 1)), rng.normal(size=(20_000, 6))
    p = norm.sf(np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own)
    p = np.ceil(p * 1000) / 1000  # as permutation p-values come
    methods = [combination.cauchy, combination.bonferroni]
    for method in methods:
        found = np.array([method(row) for row in p])
        for alpha in (0.05, 0.01):
            hits = int((found <= alpha).sum())
            # Cauchy's error is nominal in the tail only: a tenth more is allowed for.
            slack = 1.1 if method is combination.cauchy and correlation else 1.0
            assert clopper_pearson(hits, 20_000, 0.999)[0] <= slack * alpha, (method, alpha)


def test_conformal_p_of_honest_jobs_is_uniform():
    rng = np.random.default_rng(1)
    p = np.array([combination.conformal(s[0], s[1:]) for s in rng.normal(size=(4000, 100))])
    for alpha in (0.05, 0.01):
        low, high = clopper_pearson(int((p <= alpha + 1e-12).sum()), 4000, 0.99)
        assert low <= alpha <= high
    assert combination.conformal(3.0, [1.0, 2.0, 3.0]) == 2 / 4
    assert combination.conformal(9.0, []) == 1.0


def simulated(rng, n=400):
    y = np.arange(n) % 4 == 0  # one attack in four
    p = rng.random((n, 3))
    p[y, 0] **= 6  # the first test sees attacks, the second a little, the third nothing
    p[y, 1] **= 1.5
    return p, y.astype(int)


def test_the_fit_is_that_of_scikit_learn_where_no_weight_is_negative():
    rng = np.random.default_rng(2)
    p, y = simulated(rng)
    p[:, 2] = np.where(y, p[:, 2] ** 1.2, p[:, 2])
    combiner = Combiner.fit(("a", "b", "c"), p, y)
    oracle = LogisticRegression(C=1.0, class_weight="balanced", tol=1e-10, max_iter=5000)
    oracle.fit(-np.log10(p), y)
    assert (oracle.coef_ > 0).all()
    assert np.allclose(combiner.weights, oracle.coef_[0], atol=1e-3)
    assert combiner.bias == pytest.approx(oracle.intercept_[0], abs=1e-3)


def test_the_useful_test_weighs_most_and_a_smaller_p_never_helps_the_attacker():
    rng = np.random.default_rng(3)
    p, y = simulated(rng)
    p[:, 2] = np.where(y, 1 - (1 - p[:, 2]) ** 4, p[:, 2])  # large p for attacks, a trap
    combiner = Combiner.fit(("a", "b", "c"), p, y)
    assert combiner.weights[0] == max(combiner.weights)
    assert min(combiner.weights) >= 0
    assert (combiner.score(p * 0.5) >= combiner.score(p)).all()
    p_new, y_new = simulated(rng)
    scores = combiner.score(p_new)
    assert np.median(scores[y_new == 1]) > np.quantile(scores[y_new == 0], 0.9)


def test_a_test_that_did_not_run_is_no_evidence():
    combiner = Combiner(("a", "b"), (1.0, 2.0), -0.5)
    assert combiner.score([[0.01, np.nan]]) == pytest.approx([1.5])
    assert combiner.score([[np.nan, 1e-99]]) == pytest.approx([11.5])  # clipped at 1e-6


def test_bad_input_is_the_users():
    p, y = simulated(np.random.default_rng(5), 20)
    for call in (
        lambda: combination.cauchy([]),
        lambda: combination.cauchy([0.0]),
        lambda: combination.cauchy([0.5], [-1.0]),
        lambda: combination.cauchy([0.5], [1.0, 1.0]),
        lambda: combination.bonferroni([[0.5]]),
        lambda: combination.conformal(float("nan"), [1.0]),
        lambda: combination.conformal(0.0, [[1.0]]),
        lambda: Combiner.fit(("a",), p, y),
        lambda: Combiner.fit(("a", "b", "c"), p, 0 * y),
        lambda: Combiner.fit(("a", "b", "c"), p, y, ridge=0),
        lambda: Combiner.fit(("a", "b", "c"), 0 * p, y),
        lambda: Combiner(("a",), (1.0,), 0.0).score(p),
    ):
        with pytest.raises(UserError):
            call()


@given(st.integers(0, 10_000), st.integers(1, 60))
def test_a_capped_score_says_no_more_than_the_tests_and_no_more_than_it_did(seed, n):
    rng = np.random.default_rng(seed)
    calibration_n = rng.normal(size=n).round(1)
    p_nj = 10 ** -rng.uniform(0, 6, (8, 3))
    p_nj[rng.random((8, 3)) < 0.3] = np.nan
    score_n = rng.normal(size=8) * 3
    found = combination.capped(score_n, p_nj, calibration_n)
    assert (found <= score_n).all()
    for was, score, p_j in zip(score_n, found, p_nj, strict=True):
        ran = p_j[~np.isnan(p_j)]
        own = combination.cauchy(ran) if ran.size else 1.0
        p = combination.conformal(score, calibration_n)
        least = max(combination.conformal(was, calibration_n), min(own, 1.0))
        assert p >= max(1 / (n + 1), min(least, 1.0)) - 1e-9
        # and no more than the next rank above it
        assert p <= max(least, 1 / (n + 1)) + (1 + np.sum(calibration_n == score)) / (n + 1)


def test_beyond_all_of_the_calibration_scores_still_differ():
    p_nj = np.array([[1e-3], [1e-4], [1e-5]])
    found = combination.capped(np.full(3, 99.0), p_nj, np.linspace(0, 1, 50))
    assert (np.diff(found) > 0.9).all() and found[0] > 1
