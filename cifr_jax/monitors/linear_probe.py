"""Logistic regression on activations: the defence of CIFR (arXiv 2508.17158)."""

from collections.abc import Sequence

import numpy as np

from cifr_jax.monitors.base import register
from cifr_jax.monitors.selection import ActivationMonitor
from cifr_jax.probes import Probe, sweep


@register
class LinearProbe(ActivationMonitor):
    """L2 logistic regression; layer, pool and C chosen on validation.

    Args:
      Cs: inverse penalties to choose from; CIFR's is 0.01.
      pools, layers: as for `ActivationMonitor`.
      class_weight: None or "balanced".
    """

    name = "linear_probe"

    def __init__(
        self,
        Cs: Sequence[float] = (1e-3, 1e-2, 1e-1, 1.0),
        pools: Sequence[str] | None = None,
        layers: Sequence[int] | None = None,
        class_weight: str | None = None,
    ):
        super().__init__(pools, layers)
        self.Cs = tuple(sorted(Cs))
        self.class_weight = class_weight

    def fit_layers(
        self, x_lnd: np.ndarray, y_n: np.ndarray, folds_kn: np.ndarray
    ) -> list[list[list[Probe]]]:
        """All layers, values of C and folds in one program."""
        Cs = [float(c) for c in self.Cs if c is not None]
        result = sweep(x_lnd, y_n, Cs, folds_kn, class_weight=self.class_weight)
        folds = range(len(folds_kn))
        return [
            [[result.probe(l, c, k) for k in folds] for c in range(len(Cs))]
            for l in range(len(x_lnd))
        ]
