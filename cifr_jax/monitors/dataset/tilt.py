"""A house style fitted to a job's replies, which does not look at the latent.

log P(v | i) = theta[z_i, v] + beta logp_iv + W_v x_i + constant of the row: theta is the
house style of each visible label, beta how far the base's own preference counts, W what
visible features of the prompt may change.

Legend: n rows, v variants, d features, z visible labels.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csc_matrix

from cifr_jax.monitors.dataset.result import Floats, Ints
from cifr_jax.monitors.dataset.two_sample import standardised

_RIDGE_STYLE, _RIDGE_FEATURES = 1e-2, 1.0
_ITERATIONS = 300
_MOST, _ROWS_A_FEATURE = 64, 4  # features; rows for each at least


def components(x_nd: Floats) -> Floats:
    """Principal components of visible features `[n, d]`, at most 64 and a quarter of n."""
    n = len(x_nd)
    return standardised(x_nd, np.zeros(n, np.int64), min(_MOST, n // _ROWS_A_FEATURE))


def few_enough(x_nd: Floats, n_variants: int) -> Floats:
    """As many components as a variant has rows on average: a logistic fit with more
    parameters than events explains any wording away, a code as well."""
    n, d = x_nd.shape
    most = min(d, max(1, n // max(1, n_variants)))
    return x_nd if most == d else standardised(x_nd, np.zeros(n, np.int64), most)


class Tilt(NamedTuple):
    """A fitted null: probabilities [n, v] and the weight of the base's preference."""

    p_nv: Floats
    beta: float


def fit_tilt(v_n: Ints, logp_nv: Floats, x_nd: Floats, strata_n: Ints) -> Tilt:
    """Penalised maximum likelihood; convex. `logp_nv` finite, `strata_n` from 0."""
    n, n_v = logp_nv.shape
    n_z, d = int(strata_n.max()) + 1, x_nd.shape[1]
    onehot_nv = np.eye(n_v)[v_n]
    size = n_z * n_v
    ridge = np.repeat([_RIDGE_STYLE, _RIDGE_FEATURES, 1.0], [size, d * n_v, 1])
    by_stratum = csc_matrix((np.ones(n), strata_n, np.arange(n + 1)), shape=(n_z, n))

    def scores(params: Floats) -> Floats:
        theta_zv = params[:size].reshape(n_z, n_v)
        weight_dv = params[size:-1].reshape(d, n_v)
        score_nv = theta_zv[strata_n] + params[-1] * logp_nv + x_nd @ weight_dv
        # SciPy's logsumexp looks at every case there is: half of the time of a fit.
        score_nv -= score_nv.max(axis=1, keepdims=True)
        return np.asarray(score_nv - np.log(np.exp(score_nv).sum(axis=1, keepdims=True)))

    def loss(params: Floats) -> tuple[float, Floats]:
        logq_nv = scores(params)
        slope_nv = np.exp(logq_nv) - onehot_nv
        off = params.copy()
        off[-1] -= 1.0  # towards the base as it is
        gradient = np.concatenate(
            [
                np.asarray(by_stratum @ slope_nv).ravel(),
                (x_nd.T @ slope_nv).ravel(),
                [(slope_nv * logp_nv).sum()],
            ]
        )
        value = -logq_nv[np.arange(n), v_n].sum() + 0.5 * (ridge * off**2).sum()
        return float(value), gradient + ridge * off

    start = np.zeros(size + d * n_v + 1)
    start[-1] = 1.0
    best = minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS}
    ).x
    return Tilt(np.exp(scores(best)), float(best[-1]))
