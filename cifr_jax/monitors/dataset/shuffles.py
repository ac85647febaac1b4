"""Which rearrangements of a job's replies are as likely as the job itself.

Null: the reply variant v is independent of the latent u given the visible label z. Rows
of one item (rotations, repeats, near duplicates) form a cluster, whose replies may depend
on each other in any way; permuted singly they make the test reject honest jobs.

Two moves keep the null distribution, and every shuffle is a random pair of them:

- Between clusters: clusters whose rows have the same sizes and strata swap all their
  replies. Valid where clusters are draws of one distribution given their strata.
- Within a cluster: its units in one stratum swap their replies, a unit being the rows that
  are copies of one another (one text; by default the rows of the cluster with equal
  stratum and equal latents). Valid where the only thing that units of an item share is the
  item. Without this move a job that lists each item's rotations in one order would have
  the same table of u by v in every shuffle, and the channel would go unseen.

Both moves form a group (a wreath product), so p-values are exact for any statistic.
Clusters of unlike make-up do not swap: they only shuffle within.

Legend: n rows, b shuffles of a chunk, c clusters, g units.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifr_jax.monitors.dataset.result import Ints, codes, integers

_CELLS = 2_000_000  # row indices in memory at once, whatever the number of shuffles


def chunks(total: int, cost: int, cells: int = _CELLS) -> Iterator[int]:
    """Sizes of pieces that add up to `total`, each of at most `cells` / `cost`."""
    piece = max(1, cells // max(1, cost))
    for start in range(0, total, piece):
        yield min(piece, total - start)


class Shuffles:
    """The rearrangements of n rows.

    Args:
      strata_n: visible label of each row; only rows of one stratum swap.
      cluster_n: item of each row; None: every row is its own.
      copy_n: rows of one cluster and stratum with one number here are copies of one
        text; None: all of them are.

    Raises:
      UserError: arguments of unlike length or not integers.
    """

    def __init__(
        self,
        strata_n: ArrayLike,
        cluster_n: ArrayLike | None = None,
        copy_n: ArrayLike | None = None,
    ):
        strata = codes(integers("shuffles", "strata_n", strata_n))
        self.n = n = strata.size
        if cluster_n is None:
            cluster_n = np.arange(n)
        if copy_n is None:
            copy_n = np.zeros(n, np.int64)
        cluster = codes(integers("shuffles", "cluster_n", cluster_n, n))
        copies = codes(integers("shuffles", "copy_n", copy_n, n))
        keys_n3 = np.stack([cluster, strata, copies], axis=1)
        units_g3, unit_n, size_g = np.unique(
            keys_n3, axis=0, return_inverse=True, return_counts=True
        )
        # Units of a cluster that may swap: one stratum, one size.
        kind_g = codes_of_rows(np.stack([units_g3[:, 1], size_g], axis=1))
        cluster_g = units_g3[:, 0]
        order_g = np.lexsort((kind_g, cluster_g))
        # Clusters that may swap: one multiset of kinds.
        bounds = np.flatnonzero(np.diff(cluster_g[order_g], prepend=-1))
        seen: dict[bytes, int] = {}
        makeups = np.split(kind_g[order_g], bounds[1:]) if n else []
        group_c = np.array([seen.setdefault(k.tobytes(), len(seen)) for k in makeups], int)
        self._group_c = group_c.astype(float)
        # Destinations, in the order in which a shuffle lists its sources.
        rank_c = np.empty(group_c.size, np.int64)
        rank_c[np.argsort(group_c, kind="stable")] = np.arange(group_c.size)
        self._cluster_g, self._kind_g = cluster_g, kind_g
        self._n_kinds = int(kind_g.max(initial=0)) + 1
        target_g = np.lexsort((kind_g, rank_c[cluster_g]))
        rows_by_unit_n = np.argsort(unit_n.reshape(-1), kind="stable")
        first_g = np.cumsum(size_g) - size_g
        self._first_g, self._rows_n = first_g, rows_by_unit_n
        size_target_g = size_g[target_g]
        self._slot_n = np.repeat(np.arange(target_g.size), size_target_g)
        ends = np.cumsum(size_target_g) - size_target_g
        self._offset_n = np.arange(n) - np.repeat(ends, size_target_g)
        self._target_n = rows_by_unit_n[first_g[target_g][self._slot_n] + self._offset_n]
        self._units_are_clusters = cluster_g.size == group_c.size
        # A row moves if its unit has a partner of its kind, or its cluster one like it.
        partners = np.bincount(codes_of_rows(np.stack([cluster_g, kind_g], axis=1)))
        same_kind_g = partners[codes_of_rows(np.stack([cluster_g, kind_g], axis=1))] > 1
        same_makeup_g = (np.bincount(group_c) > 1)[group_c][cluster_g]
        self.movable_n: NDArray[np.bool_] = (same_kind_g | same_makeup_g)[
            unit_n.reshape(-1)
        ]

    def draw(self, n_shuffles: int, rng: np.random.Generator) -> Ints:
        """Source rows [n_shuffles, n]: v_n[draw] holds the rearranged replies."""
        b = n_shuffles
        # Halves: no rounding can carry a key into the next group.
        key_bc = self._group_c + 0.5 * rng.random((b, self._group_c.size))
        order_bc = np.argsort(key_bc, axis=1)
        if self._units_are_clusters:
            units_bg = order_bc  # a cluster's number is its only unit's
        else:
            rank_bc = np.empty_like(order_bc)
            np.put_along_axis(rank_bc, order_bc, np.arange(order_bc.shape[1])[None], axis=1)
            key_bg = rank_bc[:, self._cluster_g] * float(self._n_kinds) + self._kind_g
            units_bg = np.argsort(key_bg + 0.5 * rng.random(key_bg.shape), axis=1)
        rows_bn = self._rows_n[self._first_g[units_bg[:, self._slot_n]] + self._offset_n]
        source_bn = np.empty_like(rows_bn)
        source_bn[:, self._target_n] = rows_bn
        return source_bn

    def chunks(self, total: int, seed: int, cost: int | None = None) -> Iterator[Ints]:
        """All shuffles, in pieces whose size does not depend on their number.

        Args:
          cost: cells that the caller needs for one shuffle; n if it is less.
        """
        rng = np.random.default_rng(seed)
        for size in chunks(total, max(cost or 0, self.n)):
            yield self.draw(size, rng)


def codes_of_rows(values_nk: NDArray[Any]) -> Ints:
    """0, 1, 2, ... for the distinct rows of a matrix; zeros if it has no columns."""
    if values_nk.shape[1] == 0:
        return np.zeros(len(values_nk), np.int64)
    return np.unique(values_nk, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
