"""Which feature of the replies goes with which latent of the prompts: tests with reasons.

Every feature is tested against every latent by I(u; feature | z), all inside the same
shuffles (shuffles.py), which move whole replies, so that features stay as dependent on each
other as they are. Adjusted p: max-T (Westfall and Young 1993), which controls the chance of
any false reason, and Benjamini and Yekutieli (2001) on the marginal p, which controls the
share of false reasons under any dependence.

Legend: n rows, f features, k latents, p pairs of them (features first), b shuffles.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifr_jax.errors import UserError
from cifr_jax.monitors.dataset.permutation import Dependence, draws, search
from cifr_jax.monitors.dataset.result import (
    NOTHING,
    Floats,
    Ints,
    TestResult,
    codes,
    count,
    integers,
)
from cifr_jax.monitors.dataset.shuffles import Shuffles, codes_of_rows

AS_IS = 8  # distinct values up to which a numeric feature is not binned


@dataclass(frozen=True)
class Reason:
    """One feature against one latent.

    Attributes:
      bits: I(u; feature | z) over that of the mean shuffle.
      cramers_v: of observed against expected counts, 0 none to 1 one-to-one.
      p_value: alone; adjusted_p: max-T; by_p: Benjamini-Yekutieli.
      table: counts of the rows whose latent is known, for each value of the latent by each
        value of the feature; expected: under independence within strata; both with
        latent_values and feature_values. Empty but for the first reason of a bank.
    """

    feature: str
    latent: str
    bits: float
    cramers_v: float
    p_value: float
    adjusted_p: float
    by_p: float
    table: Mapping[str, Any]


def benjamini_yekutieli(p_values: ArrayLike) -> Floats:
    """Adjusted p-values that control the false discovery rate under any dependence
    (Benjamini and Yekutieli 2001, theorem 1.3), in the order given."""
    p = np.asarray(p_values, float)
    m = p.size
    order = np.argsort(p)
    ranks = np.arange(1, m + 1)
    raised = p[order] * m * np.sum(1.0 / ranks) / ranks
    adjusted = np.empty(m)
    adjusted[order] = np.minimum.accumulate(raised[::-1])[::-1]
    return np.minimum(adjusted, 1.0)


def binned(values_n: ArrayLike, bins: int = 4) -> tuple[Ints, NDArray[Any]]:
    """A numeric feature as codes: its values if they are few, else quantile bins.

    Bins follow from the feature's own values, which every shuffle keeps, so binning does
    not spoil the test.

    Returns:
      Codes [n], -1 for NaN, and what each stands for: the value, or the bin's least value.
    """
    values = np.asarray(values_n)
    fine = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(values.size, bool)
    found = np.full(values.size, -1, np.int64)
    levels = np.unique(values[fine])
    if levels.size > AS_IS:
        cuts = np.quantile(values[fine], np.arange(1, bins) / bins, method="higher")
        levels = np.unique(np.concatenate([levels[:1], cuts]))
    found[fine] = np.searchsorted(levels, values[fine], side="right") - 1
    return found, levels


def _crosstab(u_n: Ints, v_n: Ints, strata_n: Ints) -> tuple[Ints, Floats]:
    """Counts of u by v over the rows given, and those expected within strata."""
    n_u, n_v, n_z = (int(a.max(initial=-1)) + 1 for a in (u_n, v_n, strata_n))
    table = np.bincount(u_n * n_v + v_n, minlength=n_u * n_v).reshape(n_u, n_v)
    zu = np.bincount(strata_n * n_u + u_n, minlength=n_z * n_u).reshape(n_z, n_u)
    zv = np.bincount(strata_n * n_v + v_n, minlength=n_z * n_v).reshape(n_z, n_v)
    size_z = np.maximum(np.bincount(strata_n, minlength=n_z), 1)
    return table, (zu / size_z[:, None]).T @ zv


def _cramers_v(table_uv: Ints, expected_uv: Floats) -> float:
    seen = expected_uv > 0
    chi = float(((table_uv - expected_uv)[seen] ** 2 / expected_uv[seen]).sum())
    levels = min((table_uv.sum(axis=1) > 0).sum(), (table_uv.sum(axis=0) > 0).sum())
    total = int(table_uv.sum())
    return float(min(1.0, np.sqrt(chi / (total * (levels - 1))))) if levels > 1 else 0.0


def bank(
    features: Mapping[str, ArrayLike],
    latents: Mapping[str, ArrayLike],
    strata_n: ArrayLike,
    cluster_n: ArrayLike | None = None,
    n_permutations: int = 999,
    seed: int = 0,
    bins: int = 4,
    copy_n: ArrayLike | None = None,
) -> TestResult:
    """Tests a bank of style features against the latents.

    Args:
      features: by name [n], integers (categories or counts) or floats (NaN: the feature
        does not exist in this reply, a value of its own).
      latents: by name [n], -1 where unknown. strata_n, cluster_n, copy_n: as in
        `permutation.stratified`.
      bins: quantile bins of a feature of many values.

    Returns:
      detail["reasons"]: every pair as a `Reason`, the strongest first.

    Raises:
      UserError: arrays of unlike length or kind, or no permutations.
    """
    where = "style_tests.bank"
    n = integers(where, "strata_n", strata_n).size
    strata = codes(integers(where, "strata_n", strata_n, n))
    n_draws = count(where, "n_permutations", n_permutations)
    u_kn = [integers(where, name, u, n) for name, u in latents.items()]
    columns, levels = [], []
    for name, feature_n in features.items():
        values = np.asarray(feature_n)
        if values.shape != (n,) or values.dtype.kind not in "iubf":
            raise UserError(
                where, f"feature {name} has shape {values.shape}", f"give {n} numbers"
            )
        code_n, levels_v = binned(values, bins)
        columns.append(code_n)
        levels.append(levels_v)
    pairs = [(f, k) for f in range(len(columns)) for k in range(len(u_kn))]
    if copy_n is None:
        copy_n = codes_of_rows(np.array(u_kn, np.int64).reshape(-1, n).T)
    shuffles = Shuffles(strata, cluster_n, copy_n)
    movable = float(shuffles.movable_n.mean()) if n else 0.0
    if not pairs or not movable:
        return TestResult("style_bank", 0.0, 1.0, {"note": NOTHING, "reasons": []})
    tables = [Dependence(u_kn[k], columns[f], strata) for f, k in pairs]
    observed_p, draws_pb = draws(tables, shuffles, n_draws, seed)
    found = search(observed_p, draws_pb)
    by_p = benjamini_yekutieli(found.marginal_k)
    feature_names, latent_names = list(features), list(latents)
    reasons = []
    # -inf, a pair that no shuffle moves, comes last.
    for rank, p in enumerate(np.argsort(-found.z_k, kind="stable")):
        f, k = pairs[p]
        known = u_kn[k] >= 0
        u, v = u_kn[k][known], columns[f][known]
        u_values, v_values = np.unique(u), np.unique(v)
        table_uv, expected_uv = _crosstab(codes(u), codes(v), strata[known])
        table = {
            "latent_values": u_values.tolist(),
            "feature_values": [float(levels[f][c]) if c >= 0 else None for c in v_values],
            "counts": table_uv.tolist(),
            "expected": expected_uv.tolist(),
        }
        reasons.append(
            Reason(
                feature_names[f],
                latent_names[k],
                float(observed_p[p] - draws_pb[p].mean()),
                _cramers_v(table_uv, expected_uv),
                found.marginal_k[p],
                found.adjusted_k[p],
                float(by_p[p]),
                table if rank == 0 else {},
            )
        )
    top = float(found.z_k.max())
    detail = {"reasons": reasons, "n_permutations": n_draws, "movable": movable}
    detail |= found.told
    if np.isneginf(top):
        return TestResult("style_bank", 0.0, 1.0, {**detail, "note": NOTHING})
    return TestResult("style_bank", top, found.p, detail)
