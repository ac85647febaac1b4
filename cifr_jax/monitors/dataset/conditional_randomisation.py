"""Conditional randomisation against the base model: are the replies what this base would
write under some house style that does not look at u?

Null: replies follow a house style (`tilt`), which the base's own preference, the visible
label and visible features of the prompt make, and nothing else. It is fitted to the job
(multinomial logit, ridge), fresh replies are drawn from it, and u's dependence on the
residuals is compared (Candes et al. 2018, with an estimated conditional distribution).

Since the tilt is estimated, the test is approximate. To first order the statistic, a
score, does not notice: indicators of u are centred within strata and regressed on x before
use, and residuals of the fit are orthogonal to those directions. u is regressed on all of
x, of which the tilt has what it can bear (`tilt.few_enough`): what honest wording owes to
the rest is then orthogonal to what is left of u. Measured size at .05 and .01,
with a latent that follows x and z, over 4,000 simulated jobs: .015 and .002 at n = 134,
.032 and .007 at n = 402. Where v follows x in ways that no tilt of this form has, it is not
valid.

How much better u predicts held-out replies (`prediction_gain`) is told as the size of the
effect and gives no p-value: tested in the same way it does notice the fit, and rejects too
often (.077 and .017 at n = 134, over 2,000 jobs; .055 and .015 at n = 402, over 800), with
less power than the score all the same.

Legend: n rows, v variants, d features, k latents, a values of all latents, b draws.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csc_matrix
from scipy.special import logsumexp

from cifr_jax.monitors.dataset.categorical import RowDraws, probabilities
from cifr_jax.monitors.dataset.permutation import latent_rows, search
from cifr_jax.monitors.dataset.prediction_gain import held_out_bits
from cifr_jax.monitors.dataset.result import (
    NOTHING,
    Floats,
    Ints,
    TestResult,
    codes,
    count,
    integers,
    matrix,
)
from cifr_jax.monitors.dataset.shuffles import codes_of_rows
from cifr_jax.monitors.dataset.tilt import Tilt, components, few_enough, fit_tilt

_COLUMNS = 64  # the most common variants; the others are one
_FLOOR = -30.0  # log-likelihood below the row's best that counts as this
_LEAST_ROWS = 20  # in strata where wordings and a latent vary


def beyond(u_n: Ints, x_nd: Floats, strata_n: Ints) -> Floats:
    """What is left of a latent: a column for each of its values, centred within strata and
    without what x explains linearly; zero where the latent is unknown."""
    known = u_n >= 0
    columns = np.eye(int(codes(u_n[known]).max(initial=-1)) + 1)[codes(u_n[known])]
    both = np.concatenate([columns, x_nd[known]], axis=1)
    for z in np.unique(strata_n[known]):
        rows = strata_n[known] == z
        both[rows] -= both[rows].mean(axis=0)
    columns, x = both[:, : columns.shape[1]], both[:, columns.shape[1] :]
    if x.shape[1]:
        columns = columns - x @ np.linalg.lstsq(x, columns, rcond=None)[0]
    found = np.zeros((u_n.size, columns.shape[1]))
    found[known] = columns
    return found


def _merge_rare(v_n: Ints, logp_nv: Floats) -> tuple[Ints, Floats]:
    counts = np.bincount(v_n, minlength=logp_nv.shape[1])
    if counts.size <= _COLUMNS:
        return v_n, logp_nv
    order = np.argsort(-counts, kind="stable")
    place = np.full(counts.size, _COLUMNS - 1)
    place[order[: _COLUMNS - 1]] = np.arange(_COLUMNS - 1)
    rest_n1 = logsumexp(logp_nv[:, order[_COLUMNS - 1 :]], axis=1, keepdims=True)
    return place[v_n], np.concatenate([logp_nv[:, order[: _COLUMNS - 1]], rest_n1], axis=1)


def _scores(
    p_nv: Floats, columns: Sequence[Floats], whole: Sequence[Floats] | None = None
) -> Callable[[Ints], Floats]:
    """From replies [b, n] to the score statistic of each latent [k, b]: squared residuals
    summed over each of its values, in units of their variance under the tilt, which is that
    of the columns `whole` (None: the same)."""
    n, n_v = p_nv.shape
    whole_na = np.concatenate(columns if whole is None else whole, axis=1)
    columns_na = np.concatenate(columns, axis=1)
    latent_a = np.repeat(np.arange(len(columns)), [part.shape[1] for part in columns])
    expected_va = p_nv.T @ columns_na
    variance_va = (p_nv * (1 - p_nv)).T @ whole_na**2
    floor = 1e-9 * max(1.0, float(variance_va.max(initial=0.0)))

    def statistics(v_bn: Ints) -> Floats:
        b = len(v_bn)
        slots = (v_bn.T + np.arange(b) * n_v).ravel()
        onehot = csc_matrix(
            (np.ones(slots.size), slots, np.arange(0, slots.size + 1, b)),
            shape=(b * n_v, n),
        )
        sums_bva = np.asarray(onehot @ columns_na).reshape(b, n_v, -1)
        square_ba = np.where(
            variance_va > floor,
            (sums_bva - expected_va) ** 2 / np.maximum(variance_va, floor),
            0,
        ).sum(axis=1)
        return np.stack(
            [square_ba[:, latent_a == k].sum(axis=1) for k in range(len(columns))]
        )

    return statistics


def too_little(v_r: Ints, u_kr: Ints, strata_r: Ints) -> str:
    """Why there is nothing to test in these rows, or "". In a stratum of one wording, or
    of one value of each latent, the tilt fits the replies and leaves no residual."""

    def varies(x_r: Ints) -> NDArray[np.bool_]:
        known = x_r >= 0
        pairs = codes_of_rows(np.stack([strata_r, x_r], axis=1)[known])
        first = np.unique(pairs, return_index=True)[1]
        n_z = int(strata_r.max(initial=0)) + 1
        values_z = np.bincount(strata_r[known][first], minlength=n_z)
        return known & (values_z > 1)[strata_r]

    choice_r = varies(v_r)
    at_most = max((int((choice_r & varies(u_r)).sum()) for u_r in u_kr), default=0)
    if not at_most:
        return NOTHING
    if at_most < _LEAST_ROWS:
        return f"{at_most} rows where wordings vary are too few to fit a house style to"
    return ""


class Comparison(NamedTuple):
    """Latents against replies and against draws of them.

    Attributes:
      tilt: that the draws come from.
      observed_k: scores of the replies. draws_kb: of the draws.
    """

    tilt: Tilt
    observed_k: Floats
    draws_kb: Floats


def compare(
    v_r: Ints,
    logp_rv: Floats,
    x_rd: Floats,
    strata_r: Ints,
    columns_k: Sequence[Floats],
    n_draws: int,
    seed: int | Sequence[int],
) -> Comparison:
    """Fits the tilt to rows that are independent, and draws from it.

    Args:
      v_r, logp_rv, strata_r: as in `test`, for rows of distinct clusters; the
        log-likelihoods finite, strata from 0.
      x_rd: `tilt.components`; the tilt has as many of them as it can bear.
      columns_k: `beyond` all of them, of each latent.
    """
    x_rd = few_enough(x_rd, logp_rv.shape[1])
    tilt = fit_tilt(v_r, logp_rv, x_rd, strata_r)
    # A style fitted to m rows, with d features to n, leaves replies that are drawn from it
    # about 1 / m + d / n less variance than there is.
    lost_r = 1 / np.bincount(strata_r)[strata_r] + x_rd.shape[1] / len(x_rd)
    shrunk = [part * np.sqrt(np.maximum(1 - lost_r, 0.0))[:, None] for part in columns_k]
    observed_k = _scores(tilt.p_nv, shrunk, columns_k)(v_r[None])[:, 0]
    statistics = _scores(tilt.p_nv, columns_k)
    cost = logp_rv.shape[1] * max(1, sum(part.shape[1] for part in columns_k))
    pieces = RowDraws(tilt.p_nv).chunks(n_draws, seed, cost)
    draws_kb = np.concatenate([statistics(piece) for piece in pieces], axis=1)
    return Comparison(tilt, observed_k, draws_kb)


def one_a_cluster(cluster_n: Ints, seed: int) -> Ints:
    """Rows in a random order, one of each cluster."""
    order = np.random.default_rng([seed, 1]).permutation(cluster_n.size)
    return order[np.sort(np.unique(cluster_n[order], return_index=True)[1])]


def test(
    v_n: ArrayLike,
    logp_nv: ArrayLike,
    u_kn: ArrayLike,
    x_nd: ArrayLike | None = None,
    strata_n: ArrayLike | None = None,
    cluster_n: ArrayLike | None = None,
    n_draws: int = 999,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> TestResult:
    """Tests that replies follow a tilt of the base model that does not look at u.

    Replies are drawn one by one, so of every cluster a single row takes part, chosen by
    the seed; rows of an item depend on each other in ways that no tilt knows.

    Args:
      v_n: variants, the columns of `logp_nv`: base log-likelihoods of every variant as the
        reply to every row's request, up to a constant of the row; -inf where impossible.
      u_kn: latents, -1 where unknown. x_nd: visible features of the requests.
      strata_n: visible labels. cluster_n: items. names: of the latents.

    Returns:
      statistic: the largest standardised score. detail: "best", "latents" by name {p_value,
      adjusted_p, gain_bits: held out, a row}, "beta", "rows" that took part.

    Raises:
      UserError: arguments of unlike length or kind, NaN, or no draws.
    """
    where = "conditional_randomisation.test"
    n_draws = count(where, "n_draws", n_draws)
    v = integers(where, "v_n", v_n)
    n = v.size
    p_nv = probabilities(where, logp_nv, v)
    u, labels = latent_rows(where, u_kn, names)
    u = np.stack([integers(where, "u_kn", row, n) for row in u]) if len(u) else u
    x = np.zeros((n, 0)) if x_nd is None else matrix(where, "x_nd", x_nd, n)
    strata = (
        np.zeros(n, np.int64)
        if strata_n is None
        else integers(where, "strata_n", strata_n, n)
    )
    cluster = (
        np.arange(n) if cluster_n is None else integers(where, "cluster_n", cluster_n, n)
    )
    rows = np.sort(one_a_cluster(cluster, seed))
    note = too_little(v[rows], u[:, rows], strata[rows])
    if note:
        return TestResult("conditional_randomisation", 0.0, 1.0, {"note": note})
    logp = np.maximum(
        np.log(np.maximum(p_nv, 1e-300)), np.log(p_nv.max(axis=1))[:, None] + _FLOOR
    )
    v, logp = _merge_rare(v[rows], logp[rows])
    x, strata = components(x[rows]), codes(strata[rows])
    parts = [beyond(u_r, x, strata) for u_r in u[:, rows]]
    tilt, observed_k, draws_kb = compare(v, logp, x, strata, parts, n_draws, seed)
    bits_k = held_out_bits(v, tilt.p_nv, parts, seed)
    found = search(observed_k, draws_kb)
    best = int(np.argmax(found.z_k))
    detail = {
        **found.told,
        "beta": tilt.beta,
        "rows": int(rows.size),
        "n_draws": n_draws,
        "latents": {
            name: {
                "p_value": found.marginal_k[k],
                "adjusted_p": found.adjusted_k[k],
                "gain_bits": bits_k[k],
            }
            for k, name in enumerate(labels)
        },
    }
    top = float(found.z_k[best])
    if np.isneginf(top):
        return TestResult(
            "conditional_randomisation", 0.0, 1.0, {**detail, "note": NOTHING}
        )
    return TestResult(
        "conditional_randomisation", top, found.p, {**detail, "best": labels[best]}
    )
