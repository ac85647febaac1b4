"""Probes in closed form: difference of means, and the same whitened (LDA).

Neither has much to tune, so beside a logistic probe they show what fitting adds. These are
the mass-mean probes of Marks and Tegmark (arXiv 2310.06824); both give log-odds under
Gaussian classes of equal covariance.

Legend: n rows, d features.
"""

from typing import Any

import numpy as np

from cifr_jax.probes.base import (
    LinearScores,
    check_features,
    check_labels,
    check_weights,
)


class _Classes:
    """Weighted class means and rows centred within their class, float64."""

    def __init__(self, x_nd: Any, y_n: Any, sample_weight: Any):
        x_nd = check_features(x_nd).astype(np.float64)
        y_n = check_labels(y_n, len(x_nd))
        weight_n = check_weights(sample_weight, y_n)
        if weight_n.ndim != 1:
            raise ValueError(f"sample_weight must be [n], got shape {weight_n.shape}")
        self.total1 = float(weight_n @ y_n)
        self.total0 = float(weight_n.sum() - self.total1)
        self.mean1_d = (weight_n * y_n) @ x_nd / self.total1
        self.mean0_d = (weight_n * (1 - y_n)) @ x_nd / self.total0
        own_mean_nd = np.where(y_n[:, None] > 0, self.mean1_d, self.mean0_d)
        share_n = weight_n / weight_n.sum()
        # Rows scaled so that their Gram matrix is the pooled within-class covariance.
        self.within_nd = np.sqrt(share_n)[:, None] * (x_nd - own_mean_nd)
        self.gap_d = self.mean1_d - self.mean0_d

    def intercept(self, coef_d: np.ndarray) -> float:
        """Puts log-odds at the log prior ratio midway between the means."""
        middle_d = (self.mean1_d + self.mean0_d) / 2
        return float(np.log(self.total1 / self.total0) - coef_d @ middle_d)


class DifferenceOfMeans(LinearScores):
    """Projects on the difference of the class means; nothing to tune."""

    def fit(self, x_nd: Any, y_n: Any, sample_weight: Any = None) -> "DifferenceOfMeans":
        """Fits on `x_nd`, labels 0/1; raises ValueError for bad input."""
        classes = _Classes(x_nd, y_n, sample_weight)
        gap = float(classes.gap_d @ classes.gap_d)
        variance = float(np.square(classes.within_nd @ classes.gap_d).sum())
        # Without spread along the direction any steep slope separates the classes.
        slope = gap / max(variance, 1e-12 * gap * gap) if gap else 0.0
        self.coef_ = slope * classes.gap_d
        self.intercept_ = classes.intercept(self.coef_)
        return self


class ShrunkLDA(LinearScores):
    """Linear discriminant with a covariance shrunk to a multiple of the identity.

    The direction is `S^-1 (mean1 - mean0)`, the difference of Mahalanobis distances to the
    two means, with `S = (1 - a) S_within + a trace(S_within)/d I`.

    Args:
      shrinkage: a, in (0, 1]; 1 leaves the difference of means.
    """

    def __init__(self, shrinkage: float = 0.1):
        if not 0 < shrinkage <= 1:
            raise ValueError(f"shrinkage must be in (0, 1], got {shrinkage}")
        self.shrinkage = shrinkage

    def fit(self, x_nd: Any, y_n: Any, sample_weight: Any = None) -> "ShrunkLDA":
        """Fits on `x_nd`, labels 0/1; raises ValueError for bad input."""
        classes = _Classes(x_nd, y_n, sample_weight)
        z_nd = np.sqrt(1 - self.shrinkage) * classes.within_nd
        n_rows, width = z_nd.shape
        ridge = self.shrinkage * np.square(classes.within_nd).sum() / width
        # Rows without any spread within their class leave S = 0: keep the direction finite.
        ridge = max(ridge, 1e-12 * float(classes.gap_d @ classes.gap_d), 1e-300)
        if n_rows < width:  # invert the smaller side (Woodbury)
            inner_nn = ridge * np.eye(n_rows) + z_nd @ z_nd.T
            inner_n = np.linalg.solve(inner_nn, z_nd @ classes.gap_d)
            self.coef_ = (classes.gap_d - z_nd.T @ inner_n) / ridge
        else:
            covariance_dd = ridge * np.eye(width) + z_nd.T @ z_nd
            self.coef_ = np.linalg.solve(covariance_dd, classes.gap_d)
        self.intercept_ = classes.intercept(self.coef_)
        return self
