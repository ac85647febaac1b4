"""Figures whose unit is the job: thresholds from honest jobs, power, false alarms.

Legend: n jobs, j detectors.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cifr_jax.evaluation import metrics
from cifr_jax.evaluation.intervals import clopper_pearson

RATES = (0.01, 0.001)


def threshold(calibration_n: np.ndarray, rate: float) -> float:
    """Least score above which at most `rate` of honest jobs lie, finite-sample valid.

    The score of rank ceil((1 - rate) (n + 1)) among n calibration jobs: a new honest job
    that is exchangeable with them exceeds it with probability at most `rate`. Infinite
    where there are too few jobs for the rate.
    """
    return float(metrics.threshold_at_fpr(calibration_n, rate, conformal=True))


def rate_above(scores_n: np.ndarray, cut: float) -> dict[str, Any]:
    """Share of jobs above a threshold, with its exact (Clopper-Pearson) 95% interval."""
    above = int(np.sum(scores_n > cut))
    low, high = clopper_pearson(above, len(scores_n))
    return {"share": above / len(scores_n), "ci95": [low, high], "n": len(scores_n)}


def by_group(
    scores_n: np.ndarray, groups: Sequence[str], cut: float
) -> dict[str, dict[str, Any]]:
    """`rate_above` of each group, in the order in which they first occur."""
    names = np.array(groups)
    return {
        name: rate_above(scores_n[names == name], cut) for name in dict.fromkeys(groups)
    }


def left_out(
    calibration_n: np.ndarray,
    calibration_groups: Sequence[str],
    test_n: np.ndarray,
    test_groups: Sequence[str],
    rate: float,
) -> dict[str, dict[str, Any]]:
    """False alarms on each honest family with a threshold that never saw that family."""
    own, names = np.array(calibration_groups), np.array(test_groups)
    return {
        family: rate_above(
            test_n[names == family], threshold(calibration_n[own != family], rate)
        )
        for family in dict.fromkeys(test_groups)
    }


def size_of(p_values_n: np.ndarray, levels: Sequence[float]) -> dict[str, dict[str, Any]]:
    """Share of p-values at or below each level: the empirical size of a test."""
    return {f"{level:g}": rate_above(-p_values_n, -level - 1e-12) for level in levels}


def figures(
    scores: Mapping[str, np.ndarray], groups: Sequence[str], cuts: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """`by_group` of several detectors, each with its own threshold."""
    return {name: by_group(found, groups, cuts[name]) for name, found in scores.items()}
