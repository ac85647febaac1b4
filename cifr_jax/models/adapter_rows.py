"""A different adapter for each row of a batch, in one program and one pass of the base.

Factors of all adapters stand one after the other along the rank; what a row takes of them
is a matter of its scale, so that another assignment of rows compiles nothing.

Legend: b rows, m adapters, l layers, r LoRA rank, d_in and d_out widths of a matrix.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from cifr_jax.models.decoder import Adapter

Factors = dict[str, Any]


def _side_by_side(parts: Sequence[Factors | None]) -> Factors | None:
    """Factors of all adapters, each filled up with zeros to one rank; None: all zeros."""
    held = [part for part in parts if part is not None]
    if not held:
        return None
    rank = max(part["a"].shape[-2] for part in held)

    def filled(part: Factors | None, name: str):
        if part is None:
            *lead, _, width = held[0][name].shape
            return jnp.zeros((*lead, rank, width), held[0][name].dtype)
        more = rank - part[name].shape[-2]
        return jnp.pad(part[name], [(0, 0)] * (part[name].ndim - 2) + [(0, more), (0, 0)])

    return {name: jnp.concatenate([filled(p, name) for p in parts], -2) for name in "ab"}


class AdapterRows:
    """Adapters of one base, to be assigned to rows.

    Args:
      adapters: their factors may be of different ranks and matrices.

    Raises:
      ValueError: no adapter at all.
    """

    def __init__(self, adapters: Sequence[Adapter]):
        if not adapters:
            raise ValueError("no adapter to assign")

        names = sorted({name for one in adapters for name in one.layers})
        joined = {n: _side_by_side([one.layers.get(n) for one in adapters]) for n in names}
        self._layers = {name: part for name, part in joined.items() if part is not None}
        self._embed = _side_by_side([one.embed for one in adapters])
        self._head = _side_by_side([one.head for one in adapters])
        self._scale_lm = np.stack([np.asarray(one.scale) for one in adapters], -1)

    def of(self, row_b: Sequence[int]) -> Adapter:
        """The adapter of a batch.

        Args:
          row_b: for each row the number of its adapter; -1: the base.

        Raises:
          ValueError: there is no adapter of such a number.
        """
        n = self._scale_lm.shape[-1]
        if not all(-1 <= row < n for row in row_b):
            raise ValueError(f"adapters {sorted(set(row_b))}, where there are {n}")
        takes_bm = np.asarray(row_b)[:, None] == np.arange(self._scale_lm.shape[-1])
        scale_lbm = jnp.asarray(self._scale_lm[:, None] * takes_bm)
        return Adapter(self._layers, self._embed, self._head, scale_lbm)
