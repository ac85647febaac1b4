"""L2 logistic regression with scikit-learn's objective, batched over layers, C and folds.

Each fit minimises `0.5 |w|^2 + C sum_n weight_n loss_n`, the intercept unpenalised, as
`sklearn.linear_model.LogisticRegression` does. CIFR (arXiv 2508.17158) fits one such probe
a layer with C = 0.01.

Legend: l layers, n rows, d features, c values of C, k folds, f fits (c times k).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from cifr_jax.probes import newton
from cifr_jax.probes.base import (
    LinearScores,
    check_features,
    check_labels,
    check_weights,
)

# A column whose spread is below float32's resolution of its mean is constant.
_CONSTANT = 1e-7


class SweepResult(NamedTuple):
    """Every probe of a sweep; coefficients act on raw features.

    Attributes:
      Cs: the values of C, `[c]`.
      coef_lckd, intercept_lck: the probes, float64.
      residual_lck: bound on the relative error of the (standardised) coefficients.
    """

    Cs: np.ndarray
    coef_lckd: np.ndarray
    intercept_lck: np.ndarray
    residual_lck: np.ndarray

    def decision_function(self, x_lnd: Any) -> np.ndarray:
        """Log-odds of every probe for the given rows, `[l, c, k, n]`."""
        x_lnd = check_features(x_lnd, ndim=3)
        n_layers, c, k, width = self.coef_lckd.shape
        if x_lnd.shape[0] != n_layers or x_lnd.shape[2] != width:
            raise ValueError(
                f"features of shape {x_lnd.shape} do not fit probes of {n_layers} layers "
                f"and {width} features"
            )
        scores = np.empty((n_layers, c, k, x_lnd.shape[1]))
        for l in range(n_layers):  # one layer in double precision at a time
            z = self.coef_lckd[l].reshape(c * k, width) @ x_lnd[l].T.astype(np.float64)
            scores[l] = z.reshape(c, k, -1)
        return scores + self.intercept_lck[..., None]

    def probe(self, layer: int, c_index: int, fold: int = 0) -> "LogisticProbe":
        """One fitted probe of the sweep."""
        probe = LogisticProbe(C=float(self.Cs[c_index]))
        probe.coef_ = self.coef_lckd[layer, c_index, fold]
        probe.intercept_ = float(self.intercept_lck[layer, c_index, fold])
        return probe


class _Columns(NamedTuple):
    """Centred, scaled columns of one layer, and the standardisation of each fold."""

    x_nd: np.ndarray
    mean_d: np.ndarray
    spread_d: np.ndarray
    shift_kd: np.ndarray
    scale_kd: np.ndarray


def _columns(x_nd: np.ndarray, weight_kn: np.ndarray, standardize: bool) -> _Columns:
    """Float64 moments, float32 data.

    The shared copy is standardised over all rows that any fold uses; what a fold adds is
    then a small shift and a scale near one, which float32 bears well.
    """
    used_kn = (weight_kn > 0).astype(np.float64)
    used_n = used_kn.any(0)
    x_nd = x_nd.astype(np.float64)
    mean_d = x_nd[used_n].mean(0)
    x_nd -= mean_d
    deviation_d = np.sqrt(np.square(x_nd[used_n]).mean(0))
    constant_d = deviation_d <= _CONSTANT * np.abs(mean_d)
    spread_d = (
        np.where(constant_d, 1.0, deviation_d) if standardize else np.ones_like(mean_d)
    )
    x_nd /= spread_d
    if not standardize:
        shape = (len(weight_kn), len(mean_d))
        return _Columns(x_nd, mean_d, spread_d, np.zeros(shape), np.ones(shape))
    used_kn /= used_kn.sum(1, keepdims=True)
    shift_kd = used_kn @ x_nd
    second_kd = np.maximum(used_kn @ np.square(x_nd) - shift_kd**2, 0)
    # Constant among a fold's rows: standardised to zero, so its coefficient is zero.
    dead_kd = constant_d | (second_kd <= 1e-12)
    scale_kd = np.where(dead_kd, 0.0, 1 / np.sqrt(np.where(dead_kd, 1.0, second_kd)))
    return _Columns(x_nd, mean_d, spread_d, shift_kd, scale_kd)


def _class_weights(weight_kn: np.ndarray, y_n: np.ndarray) -> np.ndarray:
    """Weights n / (2 n_class), counted over the weights of each fold, as scikit-learn's."""
    positive_k = weight_kn @ y_n
    total_k = weight_kn.sum(1)
    return (
        np.where(y_n > 0, 0.5 / positive_k[:, None], 0.5 / (total_k - positive_k)[:, None])
        * total_k[:, None]
    )


def sweep(
    x_lnd: Any,
    y_n: Any,
    Cs: Sequence[float],
    folds_kn: Any = None,
    *,
    sample_weight: Any = None,
    standardize: bool = True,
    class_weight: str | None = None,
    tol: float = 1e-5,
    max_steps: int = 50,
) -> SweepResult:
    """Fits a probe for every layer, C and fold in one jitted program.

    Args:
      x_lnd: features; layers may be any stack of matrices over the same rows.
      y_n: labels 0/1.
      Cs: inverse strengths of the penalty.
      folds_kn: True (or a weight) where a row trains the fold; None: one fold of all.
      sample_weight: `[n]`, multiplies the loss of each row.
      standardize: scale every column to zero mean and unit deviation over the rows with
        positive weight in the fold, weights not counted (a pipeline with StandardScaler).
      class_weight: None or "balanced".
      tol: stop at |gradient| <= tol |w|, which also bounds the relative error of w;
        float32 reaches 1e-5 and the fit stops where it goes no further.
      max_steps: limit on Newton steps.

    Raises:
      ValueError: features not finite, a fold with one class, shapes that do not agree.
    """
    x_lnd = check_features(x_lnd, ndim=3)
    y_n = check_labels(y_n, x_lnd.shape[1])
    c_values = np.asarray(Cs, np.float64)
    if c_values.ndim != 1 or not len(c_values) or not (c_values > 0).all():
        raise ValueError(f"Cs must be positive numbers, got {Cs!r}")
    if class_weight not in (None, "balanced"):
        raise ValueError(f"class_weight must be None or 'balanced', got {class_weight!r}")
    weight_kn = np.atleast_2d(np.ones_like(y_n) if folds_kn is None else folds_kn)
    weight_kn = check_weights(weight_kn, y_n)
    weight_kn = check_weights(weight_kn * check_weights(sample_weight, y_n), y_n)
    columns = [_columns(x_nd, weight_kn, standardize) for x_nd in x_lnd]
    if class_weight == "balanced":
        weight_kn = weight_kn * _class_weights(weight_kn, y_n)

    n_c, n_k = len(c_values), len(weight_kn)
    shift_lkd = np.stack([c.shift_kd for c in columns])
    scale_lkd = np.stack([c.scale_kd for c in columns])

    def to_fits(a: np.ndarray) -> jnp.ndarray:  # [..., k, m] -> [..., c * k, m]
        return jnp.asarray(np.concatenate([a] * n_c, axis=-2), jnp.float32)

    solution = newton.solve_layers(
        jnp.asarray(np.stack([c.x_nd.astype(np.float32) for c in columns])),
        jnp.asarray(y_n, jnp.float32),
        to_fits(weight_kn),
        jnp.asarray(np.repeat(c_values, n_k), jnp.float32),
        to_fits(shift_lkd),
        to_fits(scale_lkd),
        float(tol),
        max_steps=max_steps,
    )
    lck = (len(x_lnd), n_c, n_k)
    u_lckd = np.asarray(solution.w_fd, np.float64).reshape(*lck, -1) * scale_lkd[:, None]
    b_lck = np.asarray(solution.b_f, np.float64).reshape(lck)
    b_lck = b_lck - np.sum(u_lckd * shift_lkd[:, None], -1)
    coef_lckd = u_lckd / np.stack([c.spread_d for c in columns])[:, None, None]
    mean_ld = np.stack([c.mean_d for c in columns])
    intercept_lck = b_lck - np.einsum("lckd,ld->lck", coef_lckd, mean_ld)
    residual_lck = np.asarray(solution.residual_f).reshape(lck)
    return SweepResult(c_values, coef_lckd, intercept_lck, residual_lck)


class LogisticProbe(LinearScores):
    """One L2 logistic regression on activations.

    Args:
      C: inverse strength of the penalty.
      standardize: scale columns on the training rows first.
      class_weight: None or "balanced".

    After `fit`: `coef_` `[d]` and `intercept_`, acting on raw features.
    """

    def __init__(
        self, C: float = 0.01, standardize: bool = True, class_weight: str | None = None
    ):
        self.C, self.standardize, self.class_weight = C, standardize, class_weight

    def fit(self, x_nd: Any, y_n: Any, sample_weight: Any = None) -> "LogisticProbe":
        """Fits on `x_nd`, labels 0/1; raises ValueError as `sweep` does."""
        result = sweep(
            check_features(x_nd)[None],
            y_n,
            (self.C,),
            sample_weight=sample_weight,
            standardize=self.standardize,
            class_weight=self.class_weight,
        )
        self.coef_ = result.coef_lckd[0, 0, 0]
        self.intercept_ = float(result.intercept_lck[0, 0, 0])
        return self
