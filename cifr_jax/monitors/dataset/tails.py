"""How surprising a statistic is beyond the last of its draws, and how much it could be.

A permutation p-value stops at 1 / (1 + B), and with few rows far above it. The first is a
matter of time, and a tail fitted to the draws goes on from there; the second is a limit of
the data, which a verdict has to know.

Legend: b draws.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import pearson3, skew

from cifr_jax.monitors.dataset.result import Floats, monte_carlo_p

_SEEN = 10  # draws beyond the observed value from which their share is taken as it is


def least_p(all_b: ArrayLike) -> float:
    """The least p-value that these draws, the observed value among them, allow: the share
    of the largest, which is more than one of them where few arrangements exist."""
    values = np.asarray(all_b, float)
    top = float(values.max())
    return float(np.mean(values >= top - 1e-9 * max(1.0, abs(top))))


def tail_p(observed: float, draws_b: ArrayLike) -> float:
    """P(T >= observed) on a continuous scale.

    The share of draws while at least ten lie beyond, so that it is as valid as that; then
    the tail of a Pearson type III distribution of the draws' mean, variance and skewness,
    joined to it at the tenth (fitting tails to permutation p-values: Knijnenburg et al.
    2009; three moments: Josse et al. 2008). The normal tail would call every statistic
    with few degrees of freedom, whose draws are skewed, far more surprising than it is.
    """
    draws: Floats = np.asarray(draws_b, float)
    exact = monte_carlo_p(observed, draws)
    seen = min(_SEEN, max(1, draws.size // 5))
    if exact * (1 + draws.size) > seen or draws.std() < 1e-12:
        return exact
    anchor = float(np.partition(draws, -seen)[-seen])
    # Skewed to the left it would end somewhere, and beyond nothing could be told apart.
    shape = max(0.0, float(skew(draws))), float(draws.mean()), float(draws.std())
    at_anchor, at_observed = pearson3.sf([anchor, observed], *shape)
    if not at_anchor > 0:
        return exact
    joined = (1 + seen) / (1 + draws.size)
    return float(max(joined * min(1.0, at_observed / at_anchor), 1e-300))
