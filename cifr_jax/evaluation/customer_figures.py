"""Figures that every benchmark of customers tells: operating points, power, false alarms.

Legend: n customers.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cifr_jax.evaluation import job_level
from cifr_jax.evaluation.rows import score_row


@dataclass(frozen=True)
class Scored:
    """Scores `[n]` of one kind of customer by monitor, and the group of each customer.

    Attributes:
      scores: higher is more suspicious.
      groups: honest families, or cells of attacks.
    """

    scores: Mapping[str, np.ndarray]
    groups: Sequence[str]


def thresholds(calibration: Scored) -> dict[str, dict[str, float]]:
    """Of every monitor, by false positive rate; infinite for too few customers."""
    return {
        f"{rate:g}": {
            name: job_level.threshold(x_n, rate) for name, x_n in calibration.scores.items()
        }
        for rate in job_level.RATES
    }


def operating_figures(
    calibration: Scored, honest: Scored, covert: Scored, combined: str
) -> dict[str, Any]:
    """What every benchmark of customers tells of its operating points.

    Args:
      calibration: honest customers that set thresholds, honest: others, covert: attacks.
      combined: the monitor whose verdict counts; families are left out for it.
    """
    cuts = thresholds(calibration)
    one = cuts["0.01"]
    return {
        "thresholds": {
            rate: {name: cut if np.isfinite(cut) else None for name, cut in found.items()}
            for rate, found in cuts.items()
        },
        "power": {
            rate: job_level.figures(covert.scores, covert.groups, found)
            for rate, found in cuts.items()
        },
        "false_alarms": job_level.figures(honest.scores, honest.groups, one),
        "false_alarms_all": {
            name: job_level.rate_above(x_n, one[name])
            for name, x_n in honest.scores.items()
        },
        "false_alarms_family_left_out": job_level.left_out(
            calibration.scores[combined],
            calibration.groups,
            honest.scores[combined],
            honest.groups,
            0.01,
        ),
    }


def score_rows(
    honest: Scored,
    covert: Scored,
    cuts: Mapping[str, float],
    level_of: Callable[[str], str],
    controls: Collection[str],
    seed: int,
    n_bootstrap: int,
) -> list[dict[str, Any]]:
    """A row of results.json for each monitor and group of attacks, against all honest
    customers.

    Args:
      honest, covert: their scores. cuts: thresholds by monitor.
      level_of: from a monitor to its level. controls: monitors that alarm nobody.
      seed, n_bootstrap: of the intervals.
    """
    found = []
    names = np.array(covert.groups)
    for name, honest_n in honest.scores.items():
        for group in dict.fromkeys(covert.groups):
            covert_n = covert.scores[name][names == group]
            found.append(
                score_row(
                    monitor=name,
                    level=level_of(name),
                    control=name in controls,
                    role="test_family",
                    cipher=group,
                    cell="all",
                    scores=np.concatenate([covert_n, honest_n]),
                    labels=np.repeat([1, 0], [len(covert_n), len(honest_n)]),
                    clusters=None,
                    threshold=cuts[name] if np.isfinite(cuts[name]) else None,
                    seed=seed,
                    n_bootstrap=n_bootstrap,
                )
            )
    return found


def limits(found: Mapping[str, Any], combined: str, reach: float) -> list[str]:
    """Attacks caught less often than `reach`, and who is accused: `operating_figures`."""
    told = []
    power = found["power"]["0.01"][combined]
    accused = found["false_alarms_family_left_out"]
    for sentence, shares in (
        (
            f"Caught in less than {reach:.2f} of jobs at 1% false alarms",
            {cell: one["share"] for cell, one in power.items() if one["share"] < reach},
        ),
        (
            "Honest families above 3% false alarms when the threshold never saw them",
            {name: one["share"] for name, one in accused.items() if one["share"] > 0.03},
        ),
    ):
        if shares:
            listed = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
            told.append(f"{sentence}: {listed}.")
    if found["thresholds"]["0.001"][combined] is None:
        told.append("Too few honest jobs for an operating point of 0.1%.")
    return told
