"""The area under the ROC curve, and the checks of scores that all metrics share.

Below `evaluation` in the house, since probes and monitors choose their settings by it.
"""

from typing import Any

import numpy as np
from scipy.stats import rankdata

_LARGEST = float(np.finfo(np.float64).max)


def as_scores(scores: Any) -> np.ndarray:
    """Finite float64 scores; ValueError for NaN."""
    scores = np.asarray(scores, np.float64)
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).sum())} scores are NaN")
    return np.clip(scores, -_LARGEST, _LARGEST)


def split_scores(scores: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """`(negatives, positives)` as float64; ValueError for bad input or one class."""
    scores, labels = as_scores(scores), np.asarray(labels)
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ValueError(
            f"scores and labels must be of one length, got {scores.shape}, {labels.shape}"
        )
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    negatives, positives = scores[labels == 0], scores[labels == 1]
    if not len(negatives) or not len(positives):
        raise ValueError(
            f"both classes are needed, got {len(negatives)} negatives and "
            f"{len(positives)} positives"
        )
    return negatives, positives


def auroc(scores: Any, labels: Any) -> float:
    """P(positive above negative) + P(tie)/2: the Mann-Whitney statistic over pairs."""
    negatives, positives = split_scores(scores, labels)
    ranks = rankdata(np.concatenate([positives, negatives]))[: len(positives)]
    pairs_won = ranks.sum() - len(positives) * (len(positives) + 1) / 2
    return float(pairs_won / (len(positives) * len(negatives)))
