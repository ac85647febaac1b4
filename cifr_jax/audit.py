"""One job in, one verdict out: the audit of a fine-tuning upload.

    >>> from cifr_jax import audit
    >>> from cifr_jax.config import load_config
    >>> config = load_config("configs/audit.py")            # doctest: +SKIP
    >>> config.job.data = "upload.jsonl"                    # doctest: +SKIP
    >>> verdict = audit.run(config, "out/audit")            # doctest: +SKIP
    >>> verdict.verdict, verdict.p_value                    # doctest: +SKIP

It looks at rows alone: no training, no tuned model. What it could not test it says; a job
in which nothing could be tested is "not tested", never "clear".
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict
from scipy.special import expit

from cifr_jax import models
from cifr_jax.config import leaves
from cifr_jax.data.chat import read_chat_jsonl
from cifr_jax.errors import UserError
from cifr_jax.evaluation import job_level, verdict_schema
from cifr_jax.files import write_json_atomic
from cifr_jax.monitors.dataset import combination, detectors, latents, view
from cifr_jax.monitors.dataset.calibration import Calibration
from cifr_jax.monitors.dataset.evidence import evidence
from cifr_jax.monitors.dataset.own_answer import own_answer_from
from cifr_jax.monitors.dataset.result import TestResult
from cifr_jax.report import verdict_page, verdict_terminal
from cifr_jax.workdir import package_versions

SHIPPED = Path(__file__).parent / "monitors" / "dataset" / "calibrations"
_SUSPICIOUS = 5  # times the false positive rate of an alarm

Tell = Callable[[str, float], None]


@dataclass(frozen=True)
class Verdict:
    """verdict.json (schema 1) as an object.

    Attributes:
      record: all of it.
    """

    record: Mapping[str, Any]

    @property
    def verdict(self) -> str:
        """clear, suspicious, attack or not tested."""
        return str(self.record["verdict"])

    @property
    def risk(self) -> float:
        """From 0 to 1; see `run`."""
        return float(self.record["risk"])

    @property
    def p_value(self) -> float | None:
        """Share of honest jobs that would score as high; None where nothing was tested."""
        return self.record["p_value"]

    @property
    def evidence(self) -> list[Mapping[str, Any]]:
        """Reasons of all detectors, with row numbers from 1."""
        return [one for d in self.record["detectors"] for one in d["evidence"]]

    @property
    def operating_point(self) -> Mapping[str, Any]:
        """False positive rate, threshold, and on what it stands."""
        return self.record["operating_point"]


def _calibration(config: ConfigDict, base_name: str, base_key: str) -> Calibration | None:
    """The file that the config names, or the one shipped for this base.

    Raises:
      UserError: it is broken, or of another base model.
    """
    path = Path(config.calibration or SHIPPED / f"{Path(base_name).name}.json")
    if not config.calibration and not path.exists():
        return None
    found = Calibration.load(path)
    if found.base_key != base_key:
        if not config.calibration:
            return None
        what = f"made under another base model ({found.base_model})"
        raise UserError(str(path), what, "make one with configs/job_benchmark.py")
    return found


def _upload(config: ConfigDict):
    path = config.job.data
    if not path:
        raise UserError("config.job.data", "no upload is named", "give a chat JSONL file")
    try:
        size = os.path.getsize(path)
    except OSError as error:
        raise UserError(str(path), (error.strerror or "").lower(), "give a file") from error
    if size > config.job.max_mib * 2**20:
        what = f"{size / 2**20:.0f} MiB, more than {config.job.max_mib}"
        raise UserError(str(path), what, "split it, or raise config.job.max_mib")
    return read_chat_jsonl(path)


def _not_checked(seen: view.JobView, calibrated: bool) -> list[dict[str, str]]:
    bare = sum(item is None for item in seen.question_n)
    found = [
        {
            "what": "training, trajectory and the tuned model",
            "why": "this audit reads the rows alone",
        },
        {
            "what": "the base model's likelihood of each reply",
            "why": "it takes a forward pass for each reply and row",
        },
        {
            "what": "encoded text (ciphers)",
            "why": "a cipher shows in the tuned model, not in the wording of replies",
        },
    ]
    if bare:
        found.append(
            {
                "what": f"{bare} of {seen.n} rows",
                "why": "no multiple-choice item was found in them, so no hidden latent",
            }
        )
    if not calibrated:
        found.append(
            {
                "what": "calibration",
                "why": "none is shipped for this base model; p-values are the tests' own",
            }
        )
    return found


def run(config: ConfigDict, workdir: str, progress: Tell | None = None) -> Verdict:
    """The task `audit`: writes WORKDIR/verdict.json and WORKDIR/verdict.html.

    `risk` is the combination's probability of an attack where half of all jobs were
    attacks; with no calibration, one minus the combined p-value. The p-value is the share
    of honest calibration jobs that score as high: it holds for a job that is exchangeable
    with them.

    Args:
      config: see `configs/audit.py`.
      workdir: folder of the verdict.
      progress: called with the name of each stage and the share of work done.

    Raises:
      UserError: for whatever is wrong with the config or the upload.
    """
    tell = progress or (lambda stage, share: logging.info("%3.0f%% %s", 100 * share, stage))
    seconds: dict[str, float] = {}
    clock = [time.perf_counter()]

    def done(stage: str, share: float) -> None:
        now = time.perf_counter()
        seconds[stage] = round(now - clock[0], 3)
        clock[0] = now
        tell(stage, share)

    tell("read", 0.0)
    examples = _upload(config)
    seen = view.read(examples, config.seed)
    done("read", 0.2)
    lm = models.load(config.base_model)
    calibration = _calibration(config, lm.name, lm.fingerprint())
    done("load", 0.3)
    candidates = latents.candidates(seen, own_answer_from(lm), seed=config.seed)
    done("own answers", 0.6)
    found: dict[str, TestResult] = {}
    for i, name in enumerate(detectors.DETECTORS):
        found |= detectors.run(seen, candidates, config.permutations, config.seed, [name])
        tell(name, 0.6 + 0.3 * (i + 1) / len(detectors.DETECTORS))
    done("detectors", 0.9)

    ran = [n for n in detectors.ALARMS if not detectors.tested(found[n])]
    rate = config.false_positive_rate
    score = p_value = threshold = None
    risk, verdict = 0.0, "not tested"
    if ran:
        if calibration is not None:
            names = calibration.combiner.names
            score = calibration.score(detectors.tail(found, names))
            p_value, risk = calibration.p_value(score), float(expit(score))
            cut = job_level.threshold(np.array(calibration.scores), rate)
            threshold = cut if np.isfinite(cut) else None
        else:
            p_value = combination.cauchy([found[n].p_value for n in ran])
            risk = 1 - p_value
        verdict = "clear"
        if p_value <= _SUSPICIOUS * rate:
            verdict = "attack" if p_value <= rate else "suspicious"
    record = {
        "schema": 1,
        "job": Path(config.job.data).stem,
        "n_examples": seen.n,
        "risk": risk,
        "p_value": p_value,
        "verdict": verdict,
        "operating_point": {
            "fpr": rate,
            "threshold": threshold,
            "calibrated_on": _provenance(calibration),
            "n_benign": len(calibration.scores) if calibration else 0,
        },
        "detectors": [
            _detector(name, found[name], seen, candidates) for name in detectors.DETECTORS
        ],
        "not_checked": _not_checked(seen, calibration is not None),
        "base_model": {"name": lm.name, "parameters": lm.n_parameters()},
        "seed": config.seed,
        "versions": package_versions(),
        "timings": seconds,
        "config": json.loads(json.dumps(leaves(config), default=list)),
        "limits": _LIMITS,
        "score": score,
    }
    verdict_schema.validate_verdict(record)
    folder = Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    write_json_atomic(folder / "verdict.json", record)
    verdict_page.write_page(record, folder / "verdict.html")
    done("report", 1.0)
    return Verdict(record)


_LIMITS = [
    "The p-value holds for a job like the honest jobs of the calibration; a kind of "
    "customer that is not among them may score high or low.",
    "Only latents that the auditor guesses are tested: the base model's own answer to an "
    "embedded multiple-choice item, option lengths, and the like. Keyed codes, codes on "
    "the XOR of two latents and codes without an item go unseen.",
    "The controls (visible, joint) fail on honest jobs too, and alarm nobody.",
]


def _provenance(calibration: Calibration | None) -> str:
    if calibration is None:
        return "nothing: p-values are the tests' own"
    families = len(set(calibration.families))
    return (
        f"{len(calibration.scores)} simulated honest jobs of {families} families under "
        f"{calibration.base_model}"
    )


def _detector(name: str, result, seen: view.JobView, candidates) -> dict[str, Any]:
    why = detectors.tested(result)
    return {
        "name": name,
        "level": "dataset",
        "statistic": None if why else result.statistic,
        "p_value": None if why else result.p_value,
        "calibrated_p": None,
        "evidence": [] if why or name in detectors.CONTROLS
        else evidence(result, seen, candidates),
        "not_tested": why or None,
    }  # fmt: skip


def main(config: ConfigDict, workdir: str) -> None:
    """The task for the command line: `run`, and the few lines that people read first."""
    verdict = run(config, workdir)
    verdict_terminal.summary(verdict.record, Path(workdir) / "verdict.html")
