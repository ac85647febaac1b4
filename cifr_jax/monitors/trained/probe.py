"""A linear probe on a base model's activations, as a file that an audit takes.

Legend: n rows, d model width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ActivationProbe:
    """Reads one layer and pool of the residual stream.

    Attributes:
      layer, pool: what it reads (see `activations.capture`).
      coef: of the features, d of them.
      intercept: added.
    """

    layer: int
    pool: str
    coef: tuple[float, ...]
    intercept: float

    @classmethod
    def of(cls, monitor: Any) -> "ActivationProbe":
        """The probe that a fitted `monitors.LinearProbe` chose."""
        return cls(
            int(monitor.selection["layer"]),
            str(monitor.selection["pool"]),
            tuple(np.asarray(monitor.probe.coef_, float).ravel().tolist()),
            float(monitor.probe.intercept_),
        )

    def score(self, pooled: Mapping[str, np.ndarray]) -> np.ndarray:
        """Log-odds `[n]` of captured rows, `{pool: x_lnd}`."""
        x_nd = pooled[self.pool][self.layer].astype(np.float64)
        return x_nd @ np.array(self.coef) + self.intercept
