"""What every linear probe shares: checked inputs, scores, probabilities.

Legend: n rows, d features.
"""

from typing import Any, Protocol

import numpy as np
from scipy.special import expit


class Probe(Protocol):
    """The common interface of the probes, after scikit-learn's conventions."""

    coef_: np.ndarray
    intercept_: float

    def fit(self, x_nd: Any, y_n: Any, sample_weight: Any = None) -> "Probe": ...
    def decision_function(self, x_nd: Any) -> np.ndarray: ...
    def predict_proba(self, x_nd: Any) -> np.ndarray: ...


class LinearScores:
    """Scores of a fitted linear probe. `coef_` acts on raw, unstandardised features."""

    coef_: np.ndarray
    intercept_: float

    def decision_function(self, x_nd: Any) -> np.ndarray:
        """Log-odds of the positive class, `[n]`.

        Raises ValueError before `fit`, and for features of another width or not finite.
        """
        if not hasattr(self, "coef_"):
            raise ValueError(f"{type(self).__name__} is not fitted; call fit first")
        x_nd = check_features(x_nd)
        if x_nd.shape[1] != len(self.coef_):
            raise ValueError(
                f"x_nd has {x_nd.shape[1]} features, the probe was fitted on "
                f"{len(self.coef_)}"
            )
        # Log-odds may be small differences of large sums: double precision costs little.
        return x_nd.astype(np.float64) @ self.coef_ + self.intercept_

    def predict_proba(self, x_nd: Any) -> np.ndarray:
        """Probabilities of classes 0 and 1, `[n, 2]`."""
        p_n = expit(self.decision_function(x_nd))
        return np.stack([1 - p_n, p_n], axis=-1)


def check_features(x: Any, ndim: int = 2) -> np.ndarray:
    """The features as floats with `ndim` axes, or ValueError saying what is wrong."""
    x = np.asarray(x)
    if x.ndim != ndim:
        raise ValueError(f"features must have {ndim} axes, got shape {x.shape}")
    if 0 in x.shape:
        raise ValueError(f"features are empty: shape {x.shape}")
    if not np.issubdtype(x.dtype, np.floating):
        x = x.astype(np.float32)
    # A sum is finite only if every term is: one cheap pass, no mask in memory.
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(np.sum(x, dtype=np.float64))
    if not finite and not np.isfinite(x).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        count = int(np.sum(~np.isfinite(x)))
        raise ValueError(
            f"features hold {count} NaN or infinite values, the first at index {place}"
        )
    return x


def check_labels(y_n: Any, n_rows: int) -> np.ndarray:
    """The labels as 0/1 float64 `[n]`, or ValueError saying what is wrong."""
    y_n = np.asarray(y_n)
    if y_n.shape != (n_rows,):
        raise ValueError(f"labels must have shape ({n_rows},), got {y_n.shape}")
    if not np.isin(y_n, (0, 1)).all():
        raise ValueError("labels must be 0 or 1 (1: the class to detect)")
    return y_n.astype(np.float64)


def check_weights(sample_weight: Any, y_n: np.ndarray) -> np.ndarray:
    """Row weights as float64 `[..., n]`; both classes must keep some weight."""
    if sample_weight is None:
        sample_weight = np.ones_like(y_n)
    weight = np.asarray(sample_weight, np.float64)
    if weight.shape[-1:] != y_n.shape:
        raise ValueError(
            f"row weights must have {len(y_n)} columns, got shape {weight.shape}"
        )
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise ValueError("row weights must be finite and not negative")
    for label in (0, 1):
        if (weight[..., y_n == label].sum(-1) <= 0).any():
            raise ValueError(
                f"no row of class {label} in a fit; a probe needs both classes"
            )
    return weight
