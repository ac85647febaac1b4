"""Detection metrics: AUROC, ROC, true positives at a false positive rate, calibration.

Scores are higher for the more suspicious; label 1 is an attack. A threshold flags what lies
strictly above it, so a threshold placed on a negative never flags that negative or its
ties. All functions raise ValueError for NaN scores and where a class that they need is
missing. Infinite scores count as the largest numbers there are.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from cifr_jax.probes.ranking import as_scores, split_scores
from cifr_jax.probes.ranking import auroc as auroc

# Guards products like 0.29 * 100 = 28.999999999999996 before rounding down.
_ROUNDING = 1e-9


class RocCurve(NamedTuple):
    """Operating points from "flag nothing" to "flag all", one for each distinct score.

    `threshold[i]` flags what is strictly above it; the last is -inf.
    """

    fpr: np.ndarray
    tpr: np.ndarray
    threshold: np.ndarray


def roc_curve(scores: Any, labels: Any) -> RocCurve:
    """All operating points; ties move together, nothing is dropped."""
    negatives, positives = split_scores(scores, labels)
    levels = np.unique(np.concatenate([negatives, positives]))[::-1]
    threshold = np.append(levels, -np.inf)
    above = [
        len(side) - np.searchsorted(np.sort(side), threshold, side="right")
        for side in (negatives, positives)
    ]
    return RocCurve(above[0] / len(negatives), above[1] / len(positives), threshold)


def threshold_at_fpr(negatives: Any, fpr: float, *, conformal: bool = False) -> float:
    """Threshold that flags at most a share `fpr` of the given negatives.

    It is always one of their scores: with fewer than 1/fpr negatives, the largest.

    Args:
      negatives: scores of benign validation items.
      fpr: stated false positive rate, in [0, 1].
      conformal: guarantee the rate for the next exchangeable negative too, by the
        ceil((1 - fpr)(n + 1))-th smallest score; +inf (flag nothing) where n is too small.
    """
    negatives = np.sort(as_scores(negatives))[::-1]
    if not 0 <= fpr <= 1:
        raise ValueError(f"fpr must be in [0, 1], got {fpr}")
    if not len(negatives):
        raise ValueError("a threshold needs at least one negative score")
    n = len(negatives)
    if conformal:
        allowed = math.floor(fpr * (n + 1) + _ROUNDING) - 1
        if allowed < 0:
            return math.inf
    else:
        allowed = math.floor(fpr * n + _ROUNDING)
    return float(negatives[allowed]) if allowed < n else -math.inf


def tpr_at_fpr(scores: Any, labels: Any, fpr: float) -> float:
    """Share of positives above the threshold that the negatives at hand allow.

    Conservative: no interpolation between operating points. Below one false alarm in the
    data this is the share caught without any, which says less than the rate's name does.
    """
    negatives, positives = split_scores(scores, labels)
    return float(np.mean(positives > threshold_at_fpr(negatives, fpr)))


def accuracy_at(scores: Any, labels: Any, threshold: float) -> float:
    """Share of items on the right side of the threshold."""
    labels = np.asarray(labels)
    if not len(labels):
        raise ValueError("accuracy needs at least one item")
    return float(np.mean((as_scores(scores) > threshold) == (labels == 1)))


def log_auroc(scores: Any, labels: Any, lowest_fpr: float = 1e-3) -> float:
    """Mean TPR over log10(FPR) on [lowest_fpr, 1], on the conservative step curve.

    Weighs every decade of the false positive rate alike. The name is that of
    arXiv 2604.14865, which does not define it; this definition is ours.
    """
    if not 0 < lowest_fpr < 1:
        raise ValueError(f"lowest_fpr must be in (0, 1), got {lowest_fpr}")
    curve = roc_curve(scores, labels)
    corners = np.unique(np.clip(curve.fpr, lowest_fpr, 1))
    corners = np.union1d(corners, [lowest_fpr, 1.0])
    # The best point at or left of each corner holds until the next one.
    at = np.searchsorted(curve.fpr, corners[:-1] + _ROUNDING, side="right") - 1
    widths = np.diff(np.log10(corners))
    return float(np.sum(curve.tpr[at] * widths) / -np.log10(lowest_fpr))


def expected_calibration_error(probabilities: Any, labels: Any, n_bins: int = 10) -> float:
    """Mean |stated - observed| rate over bins of equal width, weighted by their size.

    Source: Naeini, Cooper and Hauskrecht (AAAI 2015).
    """
    p, labels = np.asarray(probabilities, np.float64), np.asarray(labels, np.float64)
    if p.ndim != 1 or p.shape != labels.shape or not len(p):
        raise ValueError(f"shapes do not agree or are empty: {p.shape}, {labels.shape}")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("probabilities must be in [0, 1]")
    bins = np.minimum((p * n_bins).astype(int), n_bins - 1)
    gap = np.bincount(bins, p, n_bins) - np.bincount(bins, labels, n_bins)
    return float(np.abs(gap).sum() / len(p))
