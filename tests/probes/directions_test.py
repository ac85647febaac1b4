"""Closed-form probes against scikit-learn's discriminant analysis and known answers."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from cifr_jax.probes import DifferenceOfMeans, LogisticProbe, ShrunkLDA


def classes(n, d, seed=0):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d))
    y = (rng.random(n) < 0.3).astype(int)
    return (rng.normal(size=(n, d)) @ mix + y[:, None] * rng.normal(size=d)), y


@pytest.mark.parametrize("n,d", [(200, 10), (40, 90)])  # both sides of the inversion
@pytest.mark.parametrize("shrinkage", [0.05, 0.5, 1.0])
def test_lda_matches_scikit_learn(n, d, shrinkage):
    x, y = classes(n, d)
    probe = ShrunkLDA(shrinkage).fit(x, y)
    peer = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(x, y)
    np.testing.assert_allclose(probe.coef_, peer.coef_[0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        probe.decision_function(x), peer.decision_function(x), rtol=1e-6, atol=1e-7
    )


def test_difference_of_means_points_from_class_to_class():
    x, y = classes(200, 10)
    gap = x[y == 1].mean(0) - x[y == 0].mean(0)
    coef = DifferenceOfMeans().fit(x, y).coef_
    np.testing.assert_allclose(coef / np.linalg.norm(coef), gap / np.linalg.norm(gap))


def test_difference_of_means_gives_log_odds_in_one_dimension():
    """There it is exactly LDA, whose log-odds scikit-learn states."""
    x, y = classes(300, 1)
    peer = LinearDiscriminantAnalysis(solver="lsqr").fit(x, y)
    np.testing.assert_allclose(
        DifferenceOfMeans().fit(x, y).predict_proba(x), peer.predict_proba(x), rtol=1e-6
    )


@pytest.mark.parametrize("probe_class", [DifferenceOfMeans, ShrunkLDA])
def test_weights_are_repeated_rows(probe_class):
    x, y = classes(60, 5)
    repeats = np.random.default_rng(0).integers(0, 4, size=60)
    weighted = probe_class().fit(x, y, repeats)
    repeated = probe_class().fit(np.repeat(x, repeats, 0), np.repeat(y, repeats))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_)
    assert weighted.intercept_ == pytest.approx(repeated.intercept_)


@pytest.mark.parametrize("probe_class", [DifferenceOfMeans, ShrunkLDA])
def test_classes_without_spread_are_separated(probe_class):
    x = np.repeat([[0.0, 1.0], [2.0, 1.0]], 5, axis=0)
    y = np.repeat([0, 1], 5)
    scores = probe_class().fit(x, y).decision_function(x)
    assert np.isfinite(scores).all() and (scores > 0).tolist() == y.astype(bool).tolist()


@pytest.mark.parametrize("probe_class", [DifferenceOfMeans, ShrunkLDA, LogisticProbe])
def test_bad_input_is_refused_by_all(probe_class):
    x, y = classes(20, 3)
    with pytest.raises(ValueError, match="class 1"):
        probe_class().fit(x, np.zeros(20))
    with pytest.raises(ValueError, match="NaN"):
        probe_class().fit(np.where(x > 1, np.nan, x), y)
    with pytest.raises(ValueError, match="not fitted"):
        probe_class().predict_proba(x)


def test_shrinkage_must_be_positive():
    with pytest.raises(ValueError, match="shrinkage"):
        ShrunkLDA(0.0)
