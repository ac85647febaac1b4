"""How much better replies are predicted when a latent is known, on rows held out.

A latent's indicators c_ia (one column for each value) add sum_a c_ia W_av to the log-odds
of a fitted null. W is one Newton step from zero with a Gaussian prior of variance one,
taken on the other folds; the gain is the held-out log-likelihood over the null's, in bits a
row. A latent that says nothing costs a little: the gain is then below zero.

Legend: n rows, v variants, a values of a latent, k latents.
"""

from collections.abc import Sequence

import numpy as np

from cifr_jax.monitors.dataset.result import Floats, Ints

_FOLDS = 5
_PRIOR = 1.0  # precision of W
_MOST = 4.0  # of W: where the null gives a reply next to nothing, one step overshoots


def held_out_bits(
    v_n: Ints, p_nv: Floats, columns: Sequence[Floats], seed: int
) -> list[float]:
    """Gain of each latent, k numbers in bits a row.

    Args:
      v_n: variants.
      p_nv: the null's probabilities of them.
      columns: indicators [n, a] of each latent, 0 where it is unknown.
      seed: of the folds.
    """
    n, n_v = p_nv.shape
    order = np.random.default_rng([seed, 3]).permutation(n)
    folds = [np.sort(order[f::_FOLDS]) for f in range(min(_FOLDS, n))]
    residual_nv = np.eye(n_v)[v_n] - p_nv
    variance_nv = p_nv * (1 - p_nv)
    bits_k = []
    for c_na in columns:
        slope_av, size_av = c_na.T @ residual_nv, (c_na**2).T @ variance_nv
        gain = 0.0
        for rows in folds:
            # The other folds: what is left of the total.
            slope = slope_av - c_na[rows].T @ residual_nv[rows]
            size = size_av - (c_na[rows] ** 2).T @ variance_nv[rows]
            logit = c_na[rows] @ np.clip(slope / (size + _PRIOR), -_MOST, _MOST)
            own = np.take_along_axis(logit, v_n[rows, None], 1)[:, 0]
            mean = (p_nv[rows] * np.exp(logit)).sum(axis=1)
            gain += float((own - np.log(mean)).sum())
        bits_k.append(gain / n / np.log(2))
    return bits_k
