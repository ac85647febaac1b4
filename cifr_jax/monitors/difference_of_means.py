"""Projection on the difference of class means: a probe with nothing to fit."""

import numpy as np

from cifr_jax.monitors.base import register
from cifr_jax.monitors.selection import ActivationMonitor
from cifr_jax.probes import DifferenceOfMeans, Probe


@register
class DifferenceOfMeansMonitor(ActivationMonitor):
    """Difference of means; layer and pool chosen on validation."""

    name = "difference_of_means"

    def fit_layers(
        self, x_lnd: np.ndarray, y_n: np.ndarray, folds_kn: np.ndarray
    ) -> list[list[list[Probe]]]:
        """One direction a layer and fold."""
        return [
            [[DifferenceOfMeans().fit(x_nd, y_n, rows_n) for rows_n in folds_kn]]
            for x_nd in x_lnd
        ]
