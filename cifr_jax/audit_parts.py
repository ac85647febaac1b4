"""What an audit can look at, part by part: rows, likelihoods, the tuned model, training.

A part has a p-value of its own, valid for an honest job, or could not be tested. Parts are
combined by Bonferroni: the least p-value over its part's share of the false positive rate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from scipy.special import expit

from cifr_jax.data.chat import Example
from cifr_jax.evaluation import job_level
from cifr_jax.models.decoder import Adapter
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.monitors.dataset import combination, detectors, model_detectors
from cifr_jax.monitors.dataset.calibration import Calibration
from cifr_jax.monitors.dataset.evidence import evidence
from cifr_jax.monitors.dataset.latents import Latents
from cifr_jax.monitors.dataset.result import TestResult
from cifr_jax.monitors.dataset.view import JobView

SUSPICIOUS = 5  # times the false positive rate of an alarm


@dataclass(frozen=True)
class Part:
    """One way to look at a job.

    Attributes:
      name: of the part.
      p_value: None where nothing could be tested.
      least_p: the least that it could be.
      risk: from 0 to 1, or None.
      score, threshold: on the scale of its calibration, where there is one.
      calibrated_on: in words; "" without a calibration.
      n_benign: honest jobs of the calibration.
      records: of its detectors, as verdict.json has them.
    """

    name: str
    p_value: float | None = None
    least_p: float = 1.0
    risk: float | None = None
    score: float | None = None
    threshold: float | None = None
    calibrated_on: str = ""
    n_benign: int = 0
    records: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    def summary(self) -> dict[str, Any]:
        """Without the detectors."""
        return {
            "name": self.name,
            "p_value": self.p_value,
            "risk": self.risk,
            "score": self.score,
            "threshold": self.threshold,
            "calibrated_on": self.calibrated_on,
            "n_benign": self.n_benign,
        }


def combined(
    parts: Sequence[Part], rate: float
) -> tuple[float | None, Part | None, float | None]:
    """p-value over all parts that ran, the part that makes it, and that part's share of
    the false positive rate (`combination.shares_of`)."""
    ran = [part for part in parts if part.p_value is not None]
    if not ran:
        return None, None, None
    p_values = np.array([part.p_value for part in ran], float)
    shares = combination.shares_of([part.least_p for part in ran], rate)
    first = int(np.argmin(p_values / shares))
    return combination.bonferroni(p_values, shares), ran[first], float(shares[first])


def out_of_reach(parts: Sequence[Part], rate: float) -> list[str]:
    """Names of the parts whose p-value could not have made an alarm."""
    ran = [part for part in parts if part.p_value is not None]
    shares = combination.shares_of([part.least_p for part in ran], rate)
    return [p.name for p, w in zip(ran, shares, strict=True) if p.least_p > rate * w]


def provenance(kind: str, families: Sequence[str], base: str) -> str:
    """On what a calibration stands, in words."""
    return f"{len(families)} {kind} of {len(set(families))} families under {base}"


def _dataset_record(
    name: str,
    result: TestResult,
    seen: JobView,
    candidates: Latents,
    told: bool,
    rate: float,
) -> dict[str, Any]:
    """One detector of verdict.json; `told`: with its reasons."""
    why = detectors.not_tested(result, rate)
    return {
        "name": name,
        "level": "dataset",
        "statistic": None if why else result.statistic,
        "p_value": None if why else result.p_value,
        "evidence": evidence(result, seen, candidates) if told and not why else [],
        "not_tested": why or None,
    }


def _least_p(result: TestResult) -> float:
    return max(float(result.detail.get("least_p", 0.0)), 1e-12)


def rows(
    found: Mapping[str, TestResult],
    seen: JobView,
    candidates: Latents,
    calibration: Calibration | None,
    rate: float,
) -> Part:
    """The tests of the upload's rows (`monitors.dataset.detectors`), calibrated.

    Args:
      found: results by name, all of `detectors.DETECTORS`.
      seen, candidates: the job and its latents, for the reasons.
      calibration: of honest jobs; None: the tests' own p-values, combined after Cauchy.
      rate: of false alarms at which the verdict is given.
    """
    weight_of = dict.fromkeys(detectors.ALARMS, 1.0)
    if calibration is not None:
        weight_of = dict(
            zip(calibration.combiner.names, calibration.combiner.weights, strict=True)
        )
    # A test that cannot move the score has not been run as far as the verdict goes.
    ran = [
        n
        for n in detectors.ALARMS
        if weight_of.get(n) and not detectors.not_tested(found[n], rate)
    ]

    reasons = {*ran, *detectors.REASONS}

    def records(p_value: float | None) -> list[dict[str, Any]]:
        # One of several tests is below .05 in many honest jobs: no reason to accuse.
        told = p_value is not None and p_value <= SUSPICIOUS * rate
        return [
            _dataset_record(n, found[n], seen, candidates, told and n in reasons, rate)
            for n in (*detectors.ALARMS, *detectors.CONTROLS)
        ]

    if not ran:
        return Part("rows", records=records(None))
    if calibration is None:
        p_value = combination.cauchy([found[n].p_value for n in ran])
        least = combination.cauchy([_least_p(found[n]) for n in ran])
        return Part("rows", p_value, least, 1 - p_value, records=records(p_value))
    evidence_1j = detectors.tail(found, calibration.combiner.names)[None]
    score = float(calibration.score(evidence_1j)[0])
    p_value = calibration.p_value(score)
    cut = job_level.threshold(np.array(calibration.scores), rate)
    families = calibration.families
    return Part(
        "rows",
        p_value,
        1 / (1 + len(calibration.scores)),
        float(expit(score)),
        score,
        cut if np.isfinite(cut) else None,
        provenance("simulated honest jobs", families, calibration.base_model),
        len(families),
        records(p_value),
    )


def labels(
    found: Mapping[str, TestResult], seen: JobView, candidates: Latents, rate: float
) -> Part:
    """The tests of what replies name (`detectors.LABELS`), by their own p-values.

    Args:
      found, seen, candidates, rate: as `rows`.
    """
    ran = [n for n in detectors.LABELS if not detectors.not_tested(found[n], rate)]
    p_value = combination.bonferroni([found[n].p_value for n in ran]) if ran else None
    least = len(ran) * min((_least_p(found[n]) for n in ran), default=1.0)
    told = p_value is not None and p_value <= SUSPICIOUS * rate
    records = [
        _dataset_record(n, found[n], seen, candidates, told and n in ran, rate)
        for n in detectors.LABELS
    ]
    risk = None if p_value is None else 1 - p_value
    return Part("labels", p_value, least, risk, records=records)


def with_model(
    name: str,
    which: Sequence[str],
    examples: Sequence[Example],
    seen: JobView,
    candidates: Latents,
    lm: LanguageModel,
    adapter: Adapter | None,
    config: ConfigDict,
) -> Part:
    """Tests that ask the base or the tuned model (`monitors.dataset.model_detectors`).

    Args:
      name: of the part.
      which: names of the tests; those of `model_detectors.CONTROLS` make no p-value.
      examples, seen, candidates: the upload, the job that was read from it, its latents.
      lm: the base. adapter: what tuning made of it; None: the base alone is asked.
      config: see `configs/audit.py`.
    """
    found = model_detectors.run(
        seen, candidates, examples, lm, adapter,
        draws=config.permutations, seed=config.seed, names=which,
    )  # fmt: skip
    rate = config.false_positive_rate
    alarms = [n for n in which if n not in model_detectors.CONTROLS]
    ran = [n for n in alarms if not detectors.not_tested(found[n], rate)]
    idle = set(alarms) - set(ran)
    p_value = combination.bonferroni([found[n].p_value for n in ran]) if ran else None
    least = len(ran) * min((_least_p(found[n]) for n in ran), default=1.0)
    told = p_value is not None and p_value <= SUSPICIOUS * rate
    records = [
        # Controls give reasons too where the part alarms: they tell what was learned.
        _dataset_record(n, found[n], seen, candidates, told and n not in idle, rate)
        | ({"level": "adapter"} if adapter is not None else {})
        for n in which
    ]
    risk = None if p_value is None else 1 - p_value
    return Part(name, p_value, least, risk, records=records)
