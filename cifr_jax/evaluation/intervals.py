"""Confidence intervals: a bootstrap over clusters, and the exact binomial one.

Prompts about one entity, or of one job, rise and fall together. Resampling prompts would
pretend that each is new evidence; so whole clusters are resampled.

Legend: b bootstrap replicates, n items, u distinct scores, g clusters.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from scipy.stats import beta

from cifr_jax.evaluation.metrics import as_scores, split_scores

# Bounds the memory of a chunk of replicates: 4M doubles are 32 MB a matrix.
_CHUNK = 4_000_000

Interval = tuple[float, float]


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Exact interval of a binomial rate (Clopper and Pearson, Biometrika 1934)."""
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} successes in {trials} trials make no rate")
    tail = (1 - level) / 2
    low = beta.ppf(tail, successes, trials - successes + 1) if successes else 0.0
    high = 1.0
    if successes < trials:
        high = beta.ppf(1 - tail, successes + 1, trials - successes)
    return float(low), float(high)


def _cluster_ids(clusters: Sequence[Hashable] | None, n: int) -> np.ndarray:
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise ValueError(f"{len(clusters)} cluster names for {n} scores")
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(c, len(number)) for c in clusters])


def _draw(
    rng: np.random.Generator, strata: list[np.ndarray], n_draws: int, n_clusters: int
) -> np.ndarray:
    """How often each replicate holds each cluster, `[b, g]`."""
    times_bg = np.zeros((n_draws, n_clusters), np.int32)
    for members in strata:
        share = np.full(len(members), 1 / len(members))
        times_bg[:, members] = rng.multinomial(len(members), share, size=n_draws)
    return times_bg


def clustered_bootstrap(
    scores: Any,
    labels: Any,
    clusters: Sequence[Hashable] | None = None,
    *,
    fpr: float = 0.01,
    n_bootstrap: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Percentile intervals of AUROC and of the TPR at `fpr`, resampling clusters.

    Clusters that hold positives only, negatives only and both are drawn apart, so every
    replicate holds both classes. Where every replicate says exactly 0 or exactly 1 the
    bootstrap is blind; there the open end is the exact binomial one with the smaller number
    of clusters of a class as trials (for m clusters that all score 1, the mean is at least
    the m-th root of the error probability).

    Args:
      scores, labels: `[n]`, as for `metrics.auroc`.
      clusters: a name for each item (entity, job); None: every item is its own.
      fpr: false positive rate of the second interval.
      n_bootstrap: replicates.
      seed: of the draws.
      level: confidence level, two-sided.

    Returns: `{"auroc": (low, high), "tpr": (low, high)}`.
    """
    split_scores(scores, labels)  # refuses bad input
    if n_bootstrap < 1:
        raise ValueError(f"n_bootstrap must be at least 1, got {n_bootstrap}")
    scores, labels = as_scores(scores), np.asarray(labels)
    ids = _cluster_ids(clusters, len(scores))
    n_clusters = int(ids.max()) + 1
    has = [np.bincount(ids[labels == c], minlength=n_clusters) > 0 for c in (0, 1)]
    kinds = [has[1] & ~has[0], has[0] & ~has[1], has[0] & has[1]]
    strata = [np.flatnonzero(kind) for kind in kinds if kind.any()]

    order = np.argsort(-scores, kind="stable")
    ids, positive = ids[order], labels[order] == 1
    # First item of each distinct score: `reduceat` adds up the items between.
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf) != 0)
    times_bg = _draw(np.random.default_rng(seed), strata, n_bootstrap, n_clusters)
    found: dict[str, list[np.ndarray]] = {"auroc": [], "tpr": []}
    chunk = max(1, _CHUNK // len(scores))
    for start in range(0, n_bootstrap, chunk):
        weight_bn = times_bg[start : start + chunk, ids].astype(np.float64)
        pos_bu = np.add.reduceat(weight_bn * positive, starts, axis=1)
        neg_bu = np.add.reduceat(weight_bn * ~positive, starts, axis=1)
        pos_above_bu, neg_above_bu = pos_bu.cumsum(1), neg_bu.cumsum(1)
        n_pos_b, n_neg_b = pos_above_bu[:, -1], neg_above_bu[:, -1]
        won_b = (neg_bu * (pos_above_bu - pos_bu / 2)).sum(1)
        found["auroc"].append(won_b / (n_pos_b * n_neg_b))
        allowed_bu = neg_above_bu <= fpr * n_neg_b[:, None] + 1e-9
        found["tpr"].append((pos_above_bu * allowed_bu).max(1) / n_pos_b)

    trials = min(int(has[0].sum()), int(has[1].sum()))
    tail = (1 - level) / 2
    intervals = {}
    for name, values in found.items():
        all_b = np.concatenate(values)
        low, high = (float(q) for q in np.quantile(all_b, [tail, 1 - tail]))
        if all_b.min() == 1:
            low = clopper_pearson(trials, trials, level)[0]
        elif all_b.max() == 0:
            high = clopper_pearson(0, trials, level)[1]
        intervals[name] = (low, high)
    return intervals
