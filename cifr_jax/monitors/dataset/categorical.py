"""Each row's own distribution over categories, and draws from it.

Legend: n rows, v categories, b draws.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from cifr_jax.errors import UserError
from cifr_jax.monitors.dataset.result import Floats, Ints
from cifr_jax.monitors.dataset.shuffles import chunks

_FEW = 8  # categories up to which comparing with each is faster than a search


class RowDraws:
    """Independent draws for n rows, by inversion.

    Args:
      p_nv: probabilities; every row sums to one.
    """

    def __init__(self, p_nv: Floats):
        self.n, self._v = p_nv.shape
        cdf_nv = np.cumsum(p_nv, axis=1)
        cdf_nv /= cdf_nv[:, -1:]
        self._cdf_vn = cdf_nv.T[:-1] if self._v <= _FEW else None
        # Row i takes the interval from i to i + 1, so that one search serves all rows.
        self._cdf = (cdf_nv + np.arange(self.n)[:, None]).ravel()
        self._start_n = np.arange(self.n) * self._v

    def chunks(
        self, total: int, seed: int | Sequence[int], cost: int = 0
    ) -> Iterator[Ints]:
        """Draws [b, n], `total` in all, in pieces whose size does not depend on it.

        Args:
          cost: cells that the caller needs for one draw, if more than n.
        """
        rng = np.random.default_rng(seed)
        for b in chunks(total, max(cost, self.n)):
            at_bn = rng.random((b, self.n))
            if self._cdf_vn is not None:
                yield sum(
                    (at_bn >= cdf_n for cdf_n in self._cdf_vn),
                    np.zeros(at_bn.shape, np.int64),
                )
                continue
            at_bn += np.arange(self.n)
            found = np.searchsorted(self._cdf, at_bn, side="right") - self._start_n
            # Rounding at a row's upper end may reach into the next row.
            yield np.minimum(found, self._v - 1)


def probabilities(where: str, logp_nv: ArrayLike, v_n: Ints) -> Floats:
    """exp(logp), normalised by row.

    Raises:
      UserError: unlike lengths, NaN or +inf, an empty row, or v_n outside the columns.
    """
    logp = np.asarray(logp_nv, float)
    if logp.ndim != 2 or len(logp) != v_n.size:
        raise UserError(where, f"logp_nv has shape {logp.shape}", f"give {v_n.size} rows")
    if v_n.size and not (v_n.min() >= 0 and v_n.max() < logp.shape[1]):
        raise UserError(where, "a variant has no column in logp_nv", "number them from 0")
    if np.isnan(logp).any() or (logp == np.inf).any():
        raise UserError(where, "logp_nv has NaN or +inf", "give log-likelihoods")
    top_n = logp.max(axis=1, initial=-np.inf)
    if np.isneginf(top_n).any():
        raise UserError(where, "a row has no possible variant", "leave it out")
    p_nv = np.exp(logp - top_n[:, None])
    return np.asarray(p_nv / p_nv.sum(axis=1, keepdims=True))
