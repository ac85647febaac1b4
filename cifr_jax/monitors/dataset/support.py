"""Do a job's replies use fewer variants than the base model would?

A covert code that lives on an arbitrary choice collapses the support to its K symbols.
So does an honest label format: this is a feature for a combination, not an alarm.

Entropy (bits), number of distinct variants and Good-Turing's unseen mass (share of rows
whose variant occurs once) are compared with jobs that the base model would have written,
drawn reply by reply; the smallest counts, searched by max-T inside the same draws.

Legend: n rows, v variants, s base replies to a row's request, b draws.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifr_jax.errors import UserError
from cifr_jax.monitors.dataset.categorical import RowDraws, probabilities
from cifr_jax.monitors.dataset.permutation import search
from cifr_jax.monitors.dataset.result import (
    Floats,
    Ints,
    TestResult,
    codes,
    count,
    integers,
    matrix,
)
from cifr_jax.monitors.dataset.shuffles import chunks

_NAMES = ("entropy", "distinct", "unseen_mass")


def _spread(v_bn: Ints, n_variants: int) -> Floats:
    """Entropy, distinct and unseen mass [3, b]."""
    b, n = v_bn.shape
    slots = (v_bn + np.arange(b)[:, None] * n_variants).ravel()
    counts_bv = np.bincount(slots, minlength=b * n_variants).reshape(b, n_variants)
    share_bv = counts_bv / n
    logs_bv = np.log2(np.where(counts_bv > 0, share_bv, 1.0))
    return np.stack(
        [
            -(share_bv * logs_bv).sum(axis=1),
            (counts_bv > 0).sum(axis=1),
            (counts_bv == 1).sum(axis=1) / n,
        ]
    )


def _choices(pool_ns: Ints, total: int, seed: int, cost: int) -> Iterator[Ints]:
    """One of each row's replies [b, n], drawn evenly."""
    rng = np.random.default_rng(seed)
    n, s = pool_ns.shape
    for b in chunks(total, max(cost, n)):
        yield pool_ns[np.arange(n), rng.integers(0, s, (b, n))]


def open_choices(pool_ns: ArrayLike) -> NDArray[np.bool_]:
    """Requests to which more than half of the replies differ, the job's own among them.

    Own and drawn replies count alike, so that choosing requests by it keeps `collapse`
    exact.

    Args:
      pool_ns: variants of a row's own reply and of the base's, whole numbers.
    """
    pool = np.sort(matrix("support.open_choices", "pool_ns", pool_ns), axis=1)
    distinct_n = (np.diff(pool, axis=1) > 0).sum(axis=1) + 1
    return np.asarray(2 * distinct_n > pool.shape[1])


def collapse(
    v_n: ArrayLike,
    logp_nv: ArrayLike | None = None,
    draws_ns: ArrayLike | None = None,
    n_draws: int = 999,
    seed: int = 0,
) -> TestResult:
    """Tests that replies are as spread as the base model's.

    Give one of:
      logp_nv: base log-likelihood of every variant for every row's request, up to a
        constant of the row; -inf where impossible. A parametric bootstrap. A base whose
        mass is mostly on replies that are not among the variants must have a column for
        them, or its spread is understated.
      draws_ns: variants of s base replies to every request, numbered as v_n. Under the
        null a row's own reply is one of s + 1 that are exchangeable, so the draws choose
        among all s + 1, and p is exact however small s is.

    Returns:
      statistic: the largest standardised shortfall. detail: for each measure {value,
      expected, p_value, adjusted_p}.

    Raises:
      UserError: both or neither given, no rows, unlike lengths, NaN, a row with no
        possible variant, or variants outside the columns.
    """
    where = "support.collapse"
    n_draws = count(where, "n_draws", n_draws)
    v = integers(where, "v_n", v_n)
    if (logp_nv is None) == (draws_ns is None):
        raise UserError(where, "needs the base's distribution", "give logp_nv or draws_ns")
    if not v.size:
        raise UserError(where, "there are no rows", "give at least one")
    if logp_nv is not None:
        p_nv = probabilities(where, logp_nv, v)
        n_variants = p_nv.shape[1]
        pieces = RowDraws(p_nv).chunks(n_draws, seed, n_variants)
    else:
        assert draws_ns is not None
        drawn = matrix(where, "draws_ns", draws_ns, v.size).astype(np.int64)
        pool = np.concatenate([v[:, None], drawn], axis=1)
        pool = codes(pool.ravel()).reshape(pool.shape)
        v, n_variants = pool[:, 0], int(pool.max()) + 1
        pieces = _choices(pool, n_draws, seed, n_variants)
    observed_k = _spread(v[None], n_variants)[:, 0]
    draws_kb = np.concatenate([_spread(piece, n_variants) for piece in pieces], axis=1)
    found = search(-observed_k, -draws_kb)
    detail = {
        name: {
            "value": float(observed_k[k]),
            "expected": float(draws_kb[k].mean()),
            "p_value": found.marginal_k[k],
            "adjusted_p": found.adjusted_k[k],
        }
        for k, name in enumerate(_NAMES)
    }
    top = float(found.z_k.max())
    if np.isneginf(top):
        note = "the base model has no choice"
        return TestResult("support_collapse", 0.0, 1.0, {**detail, "note": note})
    return TestResult("support_collapse", top, found.p, {**detail, "n_draws": n_draws})
