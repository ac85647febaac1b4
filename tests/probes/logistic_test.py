"""The batched logistic probe against scikit-learn's exact solver in double precision."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from cifr_jax.probes import LogisticProbe, sweep

CS = (1e-3, 1e-2, 1e-1, 1.0)


def activations(n, d, seed=0, layers=None):
    """Correlated columns of very unequal scale with offsets, as residual streams have."""
    rng = np.random.default_rng(seed)
    shape = () if layers is None else (layers,)
    latent = rng.normal(size=(*shape, n, 12))
    x = latent @ rng.normal(size=(*shape, 12, d)) + 0.5 * rng.normal(size=(*shape, n, d))
    x = x * np.exp(1.5 * rng.normal(size=d)) + 5 * rng.normal(size=d)
    first = latent if layers is None else latent[0]
    y = (first[:, 0] + 0.8 * rng.normal(size=n) > 0.3).astype(int)
    return x.astype(np.float32), y


def exact(x, y, c, *, weight=None, balanced=False, standardize=True):
    """(coefficients on raw features, intercept) of scikit-learn's newton-cholesky."""
    x = x.astype(np.float64)
    used = np.ones(len(y), bool) if weight is None else np.asarray(weight) > 0
    mean, scale = x[used].mean(0), x[used].std(0) if standardize else np.ones(x.shape[1])
    model = LogisticRegression(
        C=c,
        solver="newton-cholesky",
        tol=1e-10,
        max_iter=1000,
        class_weight="balanced" if balanced else None,
    )
    model.fit(((x - mean) / scale)[used], y[used], None if weight is None else weight[used])
    coef = model.coef_[0] / scale
    return coef, model.intercept_[0] - coef @ mean


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize("n,d", [(400, 60), (150, 200)])
@pytest.mark.parametrize("standardize", [True, False])
def test_matches_scikit_learn(n, d, standardize):
    x, y = activations(n, d)
    x_test, y_test = activations(200, d, seed=1)
    result = sweep(x[None], y, CS, standardize=standardize)
    scores = result.decision_function(x_test[None])[0, :, 0]
    for i, c in enumerate(CS):
        coef, intercept = exact(x, y, c, standardize=standardize)
        assert relative(result.coef_lckd[0, i, 0], coef) < 1e-3
        expected = x_test.astype(np.float64) @ coef + intercept
        assert np.abs(scores[i] - expected).max() < 1e-3 * np.abs(expected).max()
        assert roc_auc_score(y_test, scores[i]) == roc_auc_score(y_test, expected)
        np.testing.assert_array_equal(np.argsort(scores[i]), np.argsort(expected))


def test_one_program_over_layers_and_folds_equals_single_fits():
    x, y = activations(240, 30, layers=3)
    rng = np.random.default_rng(0)
    folds = rng.integers(0, 3, size=240) != np.arange(3)[:, None]
    result = sweep(x, y, CS, folds)
    assert result.coef_lckd.shape == (3, len(CS), 3, 30)
    for l in range(3):
        for k in range(3):
            coef, intercept = exact(x[l], y, CS[1], weight=folds[k].astype(float))
            assert relative(result.coef_lckd[l, 1, k], coef) < 1e-3
            assert abs(result.intercept_lck[l, 1, k] - intercept) < 1e-3
    probe = result.probe(2, 1, fold=1)
    np.testing.assert_allclose(
        probe.decision_function(x[2]), result.decision_function(x)[2, 1, 1]
    )


def test_rows_left_out_of_a_fold_do_not_matter():
    x, y = activations(120, 10)
    fold = np.arange(120) < 80
    spoilt = np.where(fold[:, None], x, 1e4).astype(np.float32)
    a, b = sweep(x[None], y, CS, fold), sweep(spoilt[None], 1 - y * fold, CS[:1], fold)
    assert not np.allclose(a.coef_lckd[0, 0], b.coef_lckd[0, 0])  # labels inside changed
    labels = np.where(fold, y, 1 - y)
    b = sweep(spoilt[None], labels, CS, fold)
    np.testing.assert_array_equal(a.coef_lckd, b.coef_lckd)


def test_sample_weights_and_class_weights_match():
    x, y = activations(300, 20)
    y[:100] = 0  # imbalance
    weight = np.random.default_rng(0).uniform(0.2, 3, size=300)
    for balanced in (False, True):
        probe = LogisticProbe(C=0.1, class_weight="balanced" if balanced else None)
        probe.fit(x, y, weight)
        coef, intercept = exact(x, y, 0.1, weight=weight, balanced=balanced)
        assert relative(probe.coef_, coef) < 1e-3
        assert abs(probe.intercept_ - intercept) < 1e-3


def test_whole_weights_are_repeated_rows():
    x, y = activations(100, 6)
    repeats = np.random.default_rng(0).integers(1, 4, size=100)
    weighted = LogisticProbe(C=0.3, standardize=False).fit(x, y, repeats)
    repeated = LogisticProbe(C=0.3, standardize=False)
    repeated.fit(np.repeat(x, repeats, 0), np.repeat(y, repeats))
    assert relative(weighted.coef_, repeated.coef_) < 1e-4


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), log_c=st.floats(-4, 1), shift=st.floats(-0.5, 1.5))
def test_the_gradient_of_the_written_objective_vanishes(seed, log_c, shift):
    """By differences of the objective, not by the gradient that the solver uses."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, 5)).astype(np.float32)
    y = (x[:, 0] + rng.normal(size=40) > shift).astype(int)
    y[:2] = 0, 1
    c = 10**log_c
    probe = LogisticProbe(C=c, standardize=False).fit(x, y)

    def objective(v):
        z = x.astype(np.float64) @ v[:-1] + v[-1]
        loss = np.logaddexp(0, z) - y * z
        return 0.5 * v[:-1] @ v[:-1] + c * loss.sum()

    at = np.append(probe.coef_, probe.intercept_)
    at_zero = np.linalg.norm(approx_fprime(np.zeros(6), objective))
    assert np.linalg.norm(approx_fprime(at, objective)) < 1e-4 * at_zero + 1e-6


def test_same_input_same_bits():
    x, y = activations(120, 10)
    first, second = sweep(x[None], y, CS), sweep(x[None], y, CS)
    np.testing.assert_array_equal(first.coef_lckd, second.coef_lckd)


def test_residual_bounds_the_error():
    x, y = activations(400, 60)
    loose = sweep(x[None], y, CS, tol=0.1)
    spread = x.astype(np.float64).std(0)
    for i, c in enumerate(CS):
        coef, _ = exact(x, y, c)
        error = np.linalg.norm((loose.coef_lckd[0, i, 0] - coef) * spread)
        size = np.linalg.norm(loose.coef_lckd[0, i, 0] * spread)
        assert error <= 1.01 * loose.residual_lck[0, i, 0] * size
        assert loose.residual_lck[0, i, 0] <= 0.1


def test_separable_data_and_large_c_stay_finite():
    x = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
    y = (x[:, 0] > 0).astype(int)
    probe = LogisticProbe(C=1e4).fit(x, y)
    coef, _ = exact(x, y, 1e4)
    assert relative(probe.coef_, coef) < 1e-2
    assert (probe.predict_proba(x).argmax(1) == y).all()


def test_constant_columns_get_no_coefficient_and_harm_nothing():
    x, y = activations(100, 6)
    plain = LogisticProbe(C=0.1).fit(x, y)
    for value in (0.0, 1234.567):
        padded = np.column_stack([x, np.full(100, value, np.float32)])
        probe = LogisticProbe(C=0.1).fit(padded, y)
        assert probe.coef_[-1] == 0
        assert relative(probe.coef_[:-1], plain.coef_) < 1e-4


def test_scale_and_offset_of_columns_do_not_matter_when_standardised():
    x, y = activations(100, 6)
    moved = LogisticProbe(C=0.1).fit(x * 64 + 256, y).decision_function(x * 64 + 256)
    np.testing.assert_allclose(
        moved, LogisticProbe(C=0.1).fit(x, y).decision_function(x), atol=1e-3
    )


def test_probabilities_are_the_logistic_of_the_scores():
    x, y = activations(100, 6)
    probe = LogisticProbe().fit(x, y)
    p = probe.predict_proba(x)
    np.testing.assert_allclose(p.sum(1), 1)
    np.testing.assert_allclose(np.log(p[:, 1] / p[:, 0]), probe.decision_function(x))


def spoil(value):
    x, y = activations(20, 3)
    x[7, 2] = value
    return x, y


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_refuses_activations_that_are_not_finite(value):
    x, y = spoil(value)
    with pytest.raises(ValueError, match=r"1 NaN or infinite values.*\(7, 2\)"):
        LogisticProbe().fit(x, y)


def test_refuses_other_bad_input():
    x, y = activations(20, 3)
    with pytest.raises(ValueError, match="class 1"):
        LogisticProbe().fit(x, np.zeros(20))
    with pytest.raises(ValueError, match="class 0"):
        sweep(x[None], y, CS, np.stack([np.ones(20), y]))
    with pytest.raises(ValueError, match="labels must have shape"):
        LogisticProbe().fit(x, y[:-1])
    with pytest.raises(ValueError, match="0 or 1"):
        LogisticProbe().fit(x, y * 2 - 1)
    with pytest.raises(ValueError, match="2 axes"):
        LogisticProbe().fit(x[None], y)
    with pytest.raises(ValueError, match="empty"):
        LogisticProbe().fit(x[:0], y[:0])
    with pytest.raises(ValueError, match="columns"):
        sweep(x[None], y, CS, np.ones((2, 19)))
    with pytest.raises(ValueError, match="positive"):
        sweep(x[None], y, (0.0, 1.0))
    with pytest.raises(ValueError, match="balanced"):
        LogisticProbe(class_weight="even").fit(x, y)
    with pytest.raises(ValueError, match="not fitted"):
        LogisticProbe().decision_function(x)
    with pytest.raises(ValueError, match="4 features, the probe was fitted on 3"):
        LogisticProbe().fit(x, y).decision_function(x[:, :2][:, [0, 1, 0, 1]])
    with pytest.raises(ValueError, match="negative"):
        LogisticProbe().fit(x, y, -np.ones(20))
