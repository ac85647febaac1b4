"""One row of `results.json`: a monitor's figures on one cell of one role."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from cifr_jax.evaluation import metrics
from cifr_jax.evaluation.intervals import clustered_bootstrap
from cifr_jax.evaluation.schema import MAX_ROC_POINTS

FALSE_POSITIVE_RATES = (0.001, 0.01, 0.05)


def _number(value: float | None) -> float | None:
    """A float that JSON can hold, or None."""
    return None if value is None or not math.isfinite(value) else float(value)


def curve_points(scores: Any, labels: Any) -> list[list[float]]:
    """At most 100 points `[fpr, tpr]` of the ROC from (0, 0) to (1, 1), for a figure.

    Only corners carry the shape. Where they are too many, those kept are spread evenly
    along the curve as drawn with a linear and with a logarithmic FPR axis.
    """
    curve = metrics.roc_curve(scores, labels)
    fpr, tpr = curve.fpr, curve.tpr
    across, up = np.diff(fpr) > 0, np.diff(tpr) > 0
    straight = (across[1:] == across[:-1]) & (up[1:] == up[:-1]) & (across[1:] ^ up[1:])
    corners = np.flatnonzero(np.concatenate([[True], ~straight, [True]]))
    fpr, tpr = fpr[corners], tpr[corners]
    if len(fpr) > MAX_ROC_POINTS:
        n_negatives = int(np.sum(np.asarray(labels) == 0))
        decades = np.log10(np.maximum(fpr, 0.5 / n_negatives))
        length = fpr + tpr + (decades - decades[0]) / -decades[0]
        targets = np.linspace(length[0], length[-1], MAX_ROC_POINTS)
        keep = np.unique(np.searchsorted(length, targets - 1e-12))
        keep = np.union1d(keep, [0, len(fpr) - 1])[-MAX_ROC_POINTS:]
        keep[0] = 0
        fpr, tpr = fpr[keep], tpr[keep]
    return [[float(f), float(t)] for f, t in zip(fpr, tpr, strict=True)]


def score_row(
    *,
    monitor: str,
    level: str,
    control: bool,
    role: str,
    cipher: str,
    cell: str,
    scores: Any,
    labels: Any,
    clusters: Sequence[Hashable] | None,
    threshold: float | None,
    seconds_per_1000: float | None = None,
    seed: int = 0,
    n_bootstrap: int = 1000,
) -> dict[str, Any]:
    """The figures of one monitor on one set of scores, ready for JSON.

    Args:
      monitor, level, control, role, cipher, cell: copied into the row.
      scores, labels: `[n]`; higher is more suspicious, 1 is an attack.
      clusters: what the bootstrap resamples (entity, job); None: items.
      threshold: the operating point, chosen on validation; None: no accuracy, no FPR.
      seconds_per_1000: cost of scoring a thousand items.
      seed, n_bootstrap: of the intervals.

    Returns: the keys of a row of `results.json`, and "roc" with the points of the curve.
      What the data do not allow (a class missing) is None.

    Raises:
      ValueError: scores are NaN, or lengths do not agree.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
    if scores.ndim != 1 or scores.shape != labels.shape or np.isnan(scores).any():
        raise ValueError(
            f"{monitor}, {role}, {cell}: scores must be numbers, one for each label; got "
            f"{scores.shape} and {labels.shape}, {int(np.isnan(scores).sum())} NaN"
        )
    n_positive, n_negative = int(np.sum(labels == 1)), int(np.sum(labels == 0))
    row: dict[str, Any] = {
        "monitor": monitor,
        "level": level,
        "control": bool(control),
        "role": role,
        "cipher": cipher,
        "cell": cell,
        "n_positive": n_positive,
        "n_negative": n_negative,
        "auroc": None,
        "accuracy": None,
        "tpr_at_fpr": {f"{fpr:g}": None for fpr in FALSE_POSITIVE_RATES},
        "fpr_at_threshold": None,
        "ci95": {"auroc": None, "tpr_at_1pct": None},
        "seconds_per_1000": _number(seconds_per_1000),
        "roc": None,
    }
    if threshold is not None and len(scores):
        row["accuracy"] = metrics.accuracy_at(scores, labels, threshold)
        if n_negative:
            row["fpr_at_threshold"] = float(np.mean(scores[labels == 0] > threshold))
    if n_positive and n_negative:
        row["auroc"] = metrics.auroc(scores, labels)
        row["tpr_at_fpr"] = {
            f"{fpr:g}": metrics.tpr_at_fpr(scores, labels, fpr)
            for fpr in FALSE_POSITIVE_RATES
        }
        intervals = clustered_bootstrap(
            scores, labels, clusters, seed=seed, n_bootstrap=n_bootstrap
        )
        row["ci95"] = {
            "auroc": list(intervals["auroc"]),
            "tpr_at_1pct": list(intervals["tpr"]),
        }
        row["roc"] = curve_points(scores, labels)
    return row
