"""Conditional mutual information between latents and reply variants, tested by permutation.

The statistic is the plug-in I(u; v | z) in bits: u a latent attribute of the prompt that
might be smuggled, v the variant of the reply, z the visible label. Its bias is the same in
every shuffle and does no harm. Which shuffles are valid, with items that come more than
once, is in shuffles.py.

Several candidate latents are searched at once: every shuffle moves the replies against all
latents together, and the largest standardised statistic is compared with its own
distribution over the shuffles (max-T of Westfall and Young 1993). The least marginal p
would serve as well in theory, but among B shuffles it takes few values, and several
shuffles always tie at the smallest: with B = 999 a level of .001 could never be reached.

Legend: n rows, k latents, b shuffles.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifr_jax.errors import UserError
from cifr_jax.monitors.dataset import tails
from cifr_jax.monitors.dataset.result import (
    NOTHING,
    Floats,
    Ints,
    TestResult,
    codes,
    count,
    integers,
    monte_carlo_p,
)
from cifr_jax.monitors.dataset.shuffles import Shuffles, codes_of_rows


class Dependence:
    """I(u; v | z) in bits of one latent with the replies, for many shuffles at once.

    Cells are kept for the pairs (z, v) that occur, not for all; a variant that occurs once
    in its stratum adds the same to every shuffle and has no cell.

    Args:
      u_n: latent, -1 where unknown: such rows do not count.
      v_n: variant. strata_n: visible label.
    """

    def __init__(self, u_n: Ints, v_n: Ints, strata_n: Ints):
        known_n = u_n >= 0
        self._rows = np.flatnonzero(known_n)
        self.n_known = self._rows.size
        z, u = strata_n[known_n], u_n[known_n]
        zu = codes_of_rows(np.stack([z, u], axis=1))
        first_zu = np.unique(zu, return_index=True)[1]
        # Number of the latent's value within its stratum: 0, 1, ...
        z_of_zu = codes(z[first_zu])
        starts = np.searchsorted(z_of_zu, np.arange(z_of_zu.max(initial=-1) + 1))
        self._u_rows = (np.arange(first_zu.size) - starts[z_of_zu])[zu]
        width = int(self._u_rows.max(initial=0)) + 1
        zv_n = codes_of_rows(np.stack([strata_n, v_n], axis=1))
        repeated = np.bincount(zv_n) > 1
        place = np.where(repeated, np.cumsum(repeated) - 1, repeated.sum())
        self._pair_n = place[zv_n]
        self._n_pairs = int(repeated.sum())
        self._width, self.cells = width, (self._n_pairs + 1) * width
        self._cell_n = self._pair_n * width
        counts = np.arange(u_n.size + 1)
        self._xlogx = counts * np.log2(np.maximum(counts, 1))
        self._pairs_move = not known_n.all()
        self._fixed = float(self._sum(np.bincount(z)) - self._sum(np.bincount(zu)))
        if not self._pairs_move:
            self._fixed -= float(self._sum(np.bincount(zv_n)))

    def _sum(self, counts: NDArray[np.intp]) -> Floats:
        return np.asarray(self._xlogx[counts].sum(axis=-1))

    def _tables(self, index_br: Ints, kept: int, width: int) -> NDArray[np.intp]:
        b = len(index_br)
        index_br += np.arange(b)[:, None] * width
        return np.bincount(index_br.ravel(), minlength=b * width).reshape(b, -1)[:, :kept]

    def bits(self, source_bn: Ints) -> Floats:
        """The statistic of each shuffle [b]; 0 where no row's latent is known."""
        if not self.n_known:
            return np.zeros(len(source_bn))
        source_br = source_bn[:, self._rows] if self._pairs_move else source_bn
        index_br = self._cell_n[source_br] + self._u_rows
        total = self._fixed + self._sum(
            self._tables(index_br, self._n_pairs * self._width, self.cells)
        )
        if self._pairs_move:
            total -= self._sum(
                self._tables(self._pair_n[source_br], self._n_pairs, self._n_pairs + 1)
            )
        return total / self.n_known


class Search(NamedTuple):
    """A search over k statistics inside one set of draws.

    Attributes:
      p: of the largest standardised statistic. least_p: the least that it could be.
      tail_p: the same beyond the last draw, see `tails`.
      z_k: standardised; -inf where a statistic never moves.
      marginal_k: p of each alone. adjusted_k: p of each given the search (max-T).
    """

    p: float
    z_k: Floats
    marginal_k: list[float]
    adjusted_k: list[float]
    least_p: float
    tail_p: float

    @property
    def told(self) -> dict[str, float]:
        """Entries of a test's detail."""
        return {"least_p": self.least_p, "tail_p": self.tail_p}


def search(observed_k: Floats, draws_kb: Floats) -> Search:
    """Standardises by mean and deviation over the draws *and* the observed value, so that
    all B + 1 are treated alike and p stays exact; then takes the largest of each."""
    all_kb = np.concatenate([observed_k[:, None], draws_kb], axis=1)
    sd_k = all_kb.std(axis=1)
    moves_k = sd_k > 1e-12 * np.maximum(1.0, np.abs(all_kb).max(axis=1))
    if not moves_k.any():
        ones = [1.0] * len(observed_k)
        return Search(1.0, np.full(len(observed_k), -np.inf), ones, ones, 1.0, 1.0)
    centred_kb = all_kb - all_kb.mean(axis=1, keepdims=True)
    z_kb = np.full(all_kb.shape, -np.inf)
    z_kb[moves_k] = centred_kb[moves_k] / sd_k[moves_k, None]
    top_b = z_kb.max(axis=0)
    marginal = [
        monte_carlo_p(z[0], z[1:]) if m else 1.0 for z, m in zip(z_kb, moves_k, strict=True)
    ]
    adjusted = [
        monte_carlo_p(z[0], top_b[1:]) if m else 1.0
        for z, m in zip(z_kb, moves_k, strict=True)
    ]
    return Search(
        monte_carlo_p(top_b[0], top_b[1:]),
        z_kb[:, 0],
        marginal,
        adjusted,
        tails.least_p(top_b),
        tails.tail_p(float(top_b[0]), top_b[1:]),
    )


def draws(
    tables: Sequence[Dependence], shuffles: Shuffles, n_draws: int, seed: int
) -> tuple[Floats, Floats]:
    """Each table's statistic as observed `[k]`, and in every shuffle `[k, b]`."""
    observed_k = np.array([t.bits(np.arange(shuffles.n)[None])[0] for t in tables])
    cost = max(t.cells for t in tables)
    pieces = [
        np.stack([t.bits(source) for t in tables])
        for source in shuffles.chunks(n_draws, seed, cost)
    ]
    return observed_k, np.concatenate(pieces, axis=1)


def latent_rows(
    where: str, u_kn: ArrayLike, names: Sequence[str] | None
) -> tuple[Ints, list[str]]:
    """Latents [k, n] (a vector is one latent) and their names.

    Raises:
      UserError: not integers, or another number of names than of latents.
    """
    u = np.atleast_2d(np.asarray(u_kn))
    if u.ndim != 2 or (u.size and u.dtype.kind not in "iub"):
        raise UserError(
            where, f"latents of shape {u.shape}, {u.dtype}", "give k x n integers"
        )
    labels = [f"latent {k}" for k in range(len(u))] if names is None else list(names)
    if len(labels) != len(u):
        raise UserError(where, f"{len(labels)} names for {len(u)} latents", "give one each")
    return u.astype(np.int64), labels


def stratified(
    u_kn: ArrayLike,
    v_n: ArrayLike,
    strata_n: ArrayLike,
    cluster_n: ArrayLike | None = None,
    n_permutations: int = 999,
    seed: int = 0,
    names: Sequence[str] | None = None,
    copy_n: ArrayLike | None = None,
) -> TestResult:
    """Tests that v is independent of every latent given the visible label.

    Memory is independent of the number of permutations but for one float for each latent
    and permutation.

    Args:
      u_kn: latents, -1 where unknown. v_n: variants. strata_n: visible labels.
      cluster_n: item of each row; None: every row is its own.
      names: of the latents.
      copy_n: which rows of an item are one text; None: those that agree in all latents.

    Returns:
      statistic: the largest standardised I(u; v | z). detail: "best", the latent that
      reached it; "latents", by name {bits, excess_bits, p_value, adjusted_p, n_known}
      (excess: over the mean shuffle); "movable", the share of rows that can change place.

    Raises:
      UserError: arguments of unlike length, not integers, or no permutations.
    """
    where = "permutation.stratified"
    u, labels = latent_rows(where, u_kn, names)
    n = u.shape[1]
    v = integers(where, "v_n", v_n, n)
    strata = codes(integers(where, "strata_n", strata_n, n))
    n_draws = count(where, "n_permutations", n_permutations)
    shuffles = Shuffles(strata, cluster_n, codes_of_rows(u.T) if copy_n is None else copy_n)
    if not len(u) or not shuffles.movable_n.any():
        return TestResult("stratified_cmi", 0.0, 1.0, {"note": NOTHING, "movable": 0.0})
    tables = [Dependence(row, v, strata) for row in u]
    observed, draws_kb = draws(tables, shuffles, n_draws, seed)
    found = search(observed, draws_kb)
    detail = {
        **found.told,
        "n_permutations": n_draws,
        "movable": float(shuffles.movable_n.mean()),
        "latents": {
            name: {
                "bits": float(observed[k]),
                "excess_bits": float(observed[k] - draws_kb[k].mean()),
                "p_value": found.marginal_k[k],
                "adjusted_p": found.adjusted_k[k],
                "n_known": tables[k].n_known,
            }
            for k, name in enumerate(labels)
        },
    }
    best = int(np.argmax(found.z_k))
    if np.isneginf(found.z_k[best]):  # every table is the same in every shuffle
        return TestResult("stratified_cmi", 0.0, 1.0, {**detail, "note": NOTHING})
    return TestResult(
        "stratified_cmi", float(found.z_k[best]), found.p, {**detail, "best": labels[best]}
    )
