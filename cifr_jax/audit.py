"""One job in, one verdict out: the audit of a fine-tuning upload.

    >>> from cifr_jax import audit
    >>> from cifr_jax.config import load_config
    >>> config = load_config("configs/audit.py")            # doctest: +SKIP
    >>> config.job.data = "upload.jsonl"                    # doctest: +SKIP
    >>> verdict = audit.run(config, "out/audit")            # doctest: +SKIP
    >>> verdict.verdict, verdict.p_value                    # doctest: +SKIP

Rows are always looked at; the base's likelihood of each wording and what training made of
the model if the config says so (`audit_parts`). What it could not test it says; a job in
which nothing could be tested is "not tested", never "clear".
"""

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from cifr_jax import audit_coverage, audit_parts, audit_training, models
from cifr_jax.audit_coverage import Looked
from cifr_jax.config import check_numbers, leaves
from cifr_jax.data.chat import Example, digest, read_chat_jsonl
from cifr_jax.errors import UserError
from cifr_jax.evaluation import verdict_schema
from cifr_jax.files import refused_by_disk, write_json_atomic
from cifr_jax.folder_lock import FolderLock
from cifr_jax.monitors.dataset import (
    detectors,
    latents,
    model_detectors,
    request_activations,
    view,
)
from cifr_jax.monitors.dataset.calibration import Calibration
from cifr_jax.monitors.dataset.own_answer import of_some, own_answer_from
from cifr_jax.monitors.dataset.result import TestResult
from cifr_jax.monitors.trained.calibration import TrainedCalibration
from cifr_jax.report import verdict_page, verdict_terminal
from cifr_jax.workdir import device_name, git_revision, package_versions

_MONITORS = Path(__file__).parent / "monitors"
SHIPPED = _MONITORS / "dataset" / "calibrations"
SHIPPED_TRAINED = _MONITORS / "trained" / "calibrations"

AnyCalibration = TypeVar("AnyCalibration", Calibration, TrainedCalibration)
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
    def risk(self) -> float | None:
        """From 0 to 1, see `run`; None where nothing was tested."""
        return self.record["risk"]

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


def _clear(folder: Path) -> None:
    """Removes the last verdict: another upload's would pass for this one's."""
    try:
        for name in ("verdict.json", "verdict.html"):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise refused_by_disk(folder, error) from error


def _calibration(
    kind: type[AnyCalibration], given: str, shipped: Path, lm: models.LanguageModel
) -> tuple[AnyCalibration | None, str]:
    """The file that the config names, or the one shipped for this base, and its digest.

    Raises:
      UserError: it is broken, or of another base model.
    """
    path = Path(given or shipped / f"{Path(lm.name).name}.json")
    if not given and not path.exists():
        return None, ""
    found = kind.load(path)
    if found.base_key != lm.fingerprint():
        if not given:
            return None, ""
        what = f"made under another base model ({found.base_model})"
        raise UserError(str(path), what, "make one for this base: see configs/audit.py")
    return found, hashlib.sha256(path.read_bytes()).hexdigest()


def _check_tests(calibration: Calibration, given: str) -> None:
    """Scores of other tests say nothing of these.

    Raises:
      UserError: the calibration was made for other tests.
    """
    if set(calibration.combiner.names) != set(detectors.ALARMS):
        names = ", ".join(calibration.combiner.names)
        what = f"made for other tests of the rows ({names})"
        mend = "make one anew: configs/job_benchmark.py"
        raise UserError(given or f"calibration of {calibration.base_model}", what, mend)


def _check(config: ConfigDict) -> None:
    check_numbers(config, {"permutations": 1, "max_items": 0, "job.max_mib": 1})
    rate = config.false_positive_rate
    if not 0 < rate < 1:
        raise UserError(
            "config.false_positive_rate", f"{rate}", "give a share between 0 and 1"
        )
    if not config.job.data:
        raise UserError("config.job.data", "no upload is named", "give a chat JSONL file")


def _upload(config: ConfigDict):
    path = config.job.data
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:  # a NUL in the path
        what = getattr(error, "strerror", None) or str(error)
        raise UserError(str(path), what.lower(), "give a file") from error
    if not stat.S_ISREG(found.st_mode):
        raise UserError(str(path), "is no regular file", "write the upload to a file first")
    size = found.st_size
    if size > config.job.max_mib * 2**20:
        what = f"{size / 2**20:.0f} MiB, more than {config.job.max_mib}"
        raise UserError(str(path), what, "split it, or raise config.job.max_mib")
    return read_chat_jsonl(path)


def _look(
    config: ConfigDict,
    examples: list[Example],
    done: Tell,
    tell: Tell,
) -> Looked:
    """All parts that the config asks for; `done` ends a timed stage."""
    rate = config.false_positive_rate
    seen = view.read(examples, config.seed)
    done("read", 0.2)
    lm = models.load(config.base_model)
    digests: dict[str, str] = {}
    run_of: audit_training.Run | None = None
    calibration, digests["rows"] = _calibration(
        Calibration, config.calibration, SHIPPED, lm
    )
    if calibration is not None:
        _check_tests(calibration, config.calibration)
    with_training = None
    if config.job.trained:
        where = config.job.trained, config.job.adapter
        run_of = audit_training.load(*where, lm, examples)
        with_training, digests["training"] = _calibration(
            TrainedCalibration, config.trained_calibration, SHIPPED_TRAINED, lm
        )
    done("load", 0.3)
    ask = of_some(
        own_answer_from(lm),
        config.max_items,
        config.seed,
        lambda share: tell("own answers", 0.4 + 0.1 * share),
    )
    activations_nd = None
    if config.activations:
        activations_nd = request_activations.capture(
            lm, seen, examples, lambda share: tell("activations", 0.3 + 0.1 * share)
        )
        done("activations", 0.4)
    candidates = latents.candidates(seen, ask, activations_nd, config.seed)
    done("own answers", 0.5)
    found: dict[str, TestResult] = {}
    for i, name in enumerate(detectors.DETECTORS):
        found |= detectors.run(seen, candidates, config.permutations, config.seed, [name])
        tell(name, 0.5 + 0.19 * (i + 1) / len(detectors.DETECTORS))
    parts = [
        audit_parts.rows(found, seen, candidates, calibration, rate),
        audit_parts.labels(found, seen, candidates, rate),
    ]
    done("detectors", 0.7)
    asked = (examples, seen, candidates, lm)
    if config.likelihoods:
        names = model_detectors.BASE
        parts.append(audit_parts.with_model("likelihoods", names, *asked, None, config))
        done("likelihoods", 0.8)
    if run_of is not None:
        names, tuned = model_detectors.TUNED, run_of.job.adapter
        parts.append(audit_parts.with_model("tuned model", names, *asked, tuned, config))
        done("tuned model", 0.9)
    if run_of is not None and with_training is not None:
        how = (lm, with_training, rate, config.seed)
        parts.append(audit_training.part(run_of, *how))
        done("training", 0.95)
    has_item_n = np.array([item is not None for item in seen.question_n], bool)
    unasked_n = has_item_n & (candidates.hidden["own_position"] < 0)
    digests = {name: key for name, key in digests.items() if key}
    sizes = calibration.provenance.get("sizes") if calibration else None
    listed = sizes if isinstance(sizes, list) else []
    largest = max((size for size in listed if isinstance(size, int)), default=0)
    return Looked(parts, seen, lm, run_of, int(unasked_n.sum()), digests, largest)


def run(config: ConfigDict, workdir: str, progress: Tell | None = None) -> Verdict:
    """The task `audit`: writes WORKDIR/verdict.json and WORKDIR/verdict.html.

    The p-value of a part is the share of honest calibration jobs that score as high, or
    that of its test: it holds for a job that is exchangeable with them. Over several parts
    it is the least one over its part's share of the rate (Bonferroni). `risk` is the
    largest over parts:
    the combination's probability of an attack where half of all jobs were attacks; with no
    calibration, one minus the p-value.

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

    _check(config)
    folder = Path(workdir)
    with FolderLock(folder):
        _clear(folder)
        tell("read", 0.0)
        examples = _upload(config)
        looked = _look(config, examples, done, tell)
        record = _record(config, examples, looked, seconds)
        verdict_schema.validate_verdict(record)
        write_json_atomic(folder / "verdict.json", record)
        verdict_page.write_page(record, folder / "verdict.html")
        done("report", 1.0)
    return Verdict(record)


def _record(
    config: ConfigDict, examples: list[Example], looked: Looked, seconds: dict[str, float]
) -> dict[str, Any]:
    """verdict.json, see `verdict_schema`."""
    rate = config.false_positive_rate
    parts, lm = looked.parts, looked.lm
    p_value, least, share = audit_parts.combined(parts, rate)
    verdict = "not tested"
    if p_value is not None:
        verdict = "clear"
        if p_value <= audit_parts.SUSPICIOUS * rate:
            verdict = "attack" if p_value <= rate else "suspicious"
    return {
        "schema": 1,
        "job": _printable(Path(config.job.data).stem),
        "n_examples": len(examples),
        "n_replies": looked.seen.n,
        "upload": digest(examples),
        "risk": max((p.risk for p in parts if p.risk is not None), default=None),
        "p_value": p_value,
        "verdict": verdict,
        "operating_point": {
            "fpr": rate,
            "threshold": least.threshold if least else None,
            "share": share,
            "calibrated_on": least.calibrated_on if least and least.calibrated_on
            else "nothing: p-values are the tests' own",
            "n_benign": least.n_benign if least else 0,
        },
        "parts": [part.summary() for part in parts],
        "detectors": [one for part in parts for one in part.records],
        "rounds": [one.record() for one in looked.run.rounds] if looked.run else [],
        "not_checked": audit_coverage.not_checked(config, looked),
        "base_model": {"name": lm.name, "parameters": lm.n_parameters()},
        "calibrations": looked.calibrations,
        "seed": config.seed,
        "versions": package_versions(),
        "timings": seconds,
        "git_revision": git_revision(),
        "device": device_name(),
        "config": _told(config),
        "limits": _LIMITS,
    }  # fmt: skip


def _printable(name: str) -> str:
    """A file's name as JSON can hold it: names need not be UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")


_PATHS = "job.data", "job.trained", "job.adapter", "calibration", "trained_calibration"


def _told(config: ConfigDict) -> dict[str, Any]:
    """The config as the verdict has it, files by their names alone: where they lay is the
    provider's affair."""
    found = json.loads(json.dumps(leaves(config), default=list))
    found |= {key: _printable(Path(found[key]).name) for key in _PATHS if found[key]}
    if os.path.exists(config.base_model):
        found["base_model"] = _printable(Path(config.base_model).name)
    return found


_LIMITS = [
    "The p-value holds for a job like the honest jobs of the calibration; a kind of "
    "customer that is not among them may score high or low.",
    "Only latents that the auditor guesses are tested: the base model's own answer to an "
    "embedded multiple-choice item, option lengths, and the like. Keyed codes, codes on "
    "the XOR with something that nobody guesses, codes in the label itself (which option, "
    "yes or no) and codes without an item go unseen, and so do thin ones: a tenth of 402 "
    "rows, or a quarter of them in nine wordings for a letter.",
    "Controls (channel, channel within topics, style, visible, joint, support collapse, "
    "unreadable requests, drift, rounds of training, answers read from activations, the "
    "spectrum of weights, changes of loss and embedding) show on honest jobs too, and "
    "alarm nobody.",
]


def main(config: ConfigDict, workdir: str) -> None:
    """The task for the command line: `run`, and the few lines that people read first."""
    verdict = run(config, workdir)
    verdict_terminal.summary(verdict.record, Path(workdir) / "verdict.html")
