"""Which feature of the replies goes with which latent, beyond a house style that does not
look at it: tests with reasons, where honest style may follow the topic.

Each feature of style gets a tilt of its own (`tilt`), is drawn from it again and again, and
every latent's score is compared with the draws (`conditional_randomisation`). Features are
drawn independently of each other, though in the job they go together. That is the safe
side: scores are sums of squares of variables that are nearly Gaussian, and of such, however
they depend on each other, the largest is no larger than of independent ones (the Gaussian
correlation inequality, Royen 2014).

Legend: n rows, r rows that take part, f features, k latents, p pairs of them, b draws.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from cifr_jax.monitors.dataset.conditional_randomisation import (
    beyond,
    compare,
    one_a_cluster,
    too_little,
)
from cifr_jax.monitors.dataset.permutation import latent_rows, search
from cifr_jax.monitors.dataset.result import (
    NOTHING,
    TestResult,
    codes,
    count,
    integers,
    matrix,
    untested,
)
from cifr_jax.monitors.dataset.tilt import components

_NAME = "style_randomisation"
_ROWS = 2_000  # that take part at most: a fit for each feature takes its time


def bank(
    features: Mapping[str, ArrayLike],
    u_kn: ArrayLike,
    x_nd: ArrayLike,
    strata_n: ArrayLike,
    cluster_n: ArrayLike,
    n_draws: int = 999,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> TestResult:
    """Tests that no feature of style depends on a latent, given what is visible.

    Of a cluster one row takes part, and of many rows 2,000, chosen by the seed.

    Args:
      features: codes `[n]` of few values each; of those that tell rows apart in the same
        way the first counts.
      u_kn, x_nd, strata_n, cluster_n, names: as in `conditional_randomisation.test`.
      n_draws: of each feature.
      seed: of rows and draws.

    Returns:
      statistic: the largest standardised score. detail: "best" [feature, latent],
      "reasons", the strongest first, {feature, latent, p_value, adjusted_p}, "rows" that
      took part, "n_draws".

    Raises:
      UserError: arguments of unlike length or kind, or no draws.
    """
    where = f"{_NAME}.bank"
    n_draws = count(where, "n_draws", n_draws)
    strata = integers(where, "strata_n", strata_n)
    n = strata.size
    cluster = integers(where, "cluster_n", cluster_n, n)
    x = matrix(where, "x_nd", x_nd, n)
    u, labels = latent_rows(where, u_kn, names)
    u = np.array([integers(where, "u_kn", row, n) for row in u]).reshape(len(u), n)
    rows = np.sort(one_a_cluster(cluster, seed)[:_ROWS])
    x, strata, u = components(x[rows]), codes(strata[rows]), u[:, rows]
    parts = [beyond(u_r, x, strata) for u_r in u]
    seen: set[bytes] = set()
    pairs, observed, draws, why = [], [], [], NOTHING
    for number, (feature, values) in enumerate(features.items()):
        v = codes(integers(where, feature, values, n)[rows])
        first = np.unique(v, return_index=True)[1]
        kind = np.argsort(np.argsort(first))[v].tobytes()  # numbered as they come
        if first.size < 2 or kind in seen:
            continue
        seen.add(kind)
        note = too_little(v, u, strata)
        if note:
            why = note
            continue
        alike = np.zeros((rows.size, first.size))  # no base prefers any value
        found = compare(v, alike, x, strata, parts, n_draws, [seed, 2, number])
        observed.append(found.observed_k)
        draws.append(found.draws_kb)
        pairs += [(feature, label) for label in labels]
    if not pairs:
        return untested(_NAME, why)
    best = search(np.concatenate(observed), np.concatenate(draws))
    order = np.argsort(-best.z_k, kind="stable").tolist()
    top = float(best.z_k[order[0]])
    if np.isneginf(top):
        return untested(_NAME, NOTHING)
    reasons = [
        {
            "feature": pairs[p][0],
            "latent": pairs[p][1],
            "p_value": best.marginal_k[p],
            "adjusted_p": best.adjusted_k[p],
        }
        for p in order
    ]
    detail = {**best.told, "best": list(pairs[order[0]]), "reasons": reasons}
    detail |= {"rows": int(rows.size), "n_draws": n_draws}
    return TestResult(_NAME, top, best.p, detail)
