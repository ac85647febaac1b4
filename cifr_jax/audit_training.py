"""What an audit makes of a training run: the part "training", and the rounds to look at."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from cifr_jax import audit_parts
from cifr_jax.audit_parts import Part
from cifr_jax.data import world
from cifr_jax.data.chat import Example, digest
from cifr_jax.errors import UserError
from cifr_jax.evaluation import job_level
from cifr_jax.finetune import load_peft
from cifr_jax.models.decoder import Adapter
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.monitors.trained import evidence as trained_evidence
from cifr_jax.monitors.trained import rounds, row_reader
from cifr_jax.monitors.trained.calibration import TrainedCalibration
from cifr_jax.monitors.trained.canaries import world_canaries
from cifr_jax.monitors.trained.evidence import TrainedJob
from cifr_jax.monitors.trained.rounds import RoundFigures


class Run(NamedTuple):
    """What configs/finetune.py left of a job.

    Attributes:
      job: the upload with what training made of it.
      before: the adapter that it started from; None: the base.
      known: whether the run says that it is of this upload.
      rounds: of the training, where it was watched.
    """

    job: TrainedJob
    before: Adapter | None
    known: bool
    rounds: list[RoundFigures]


def load(
    folder: str, started_from: str, lm: LanguageModel, examples: Sequence[Example]
) -> Run:
    """What configs/finetune.py left of a job.

    Args:
      folder: its work folder.
      started_from: the PEFT folder that the job went on from; empty: what the run says of
        itself, and the base where it says nothing.
      lm: the base.
      examples: the upload.

    Raises:
      UserError: there is no adapter for this base, a broken result or round, or a run on
        other rows.
    """
    adapter = load_peft(Path(folder) / "adapter", lm.config, lm.params)
    result, fall, upload = Path(folder) / "result.json", None, None
    watched: list[RoundFigures] = []
    if result.exists():
        try:
            held = json.loads(result.read_bytes())
            fall = float(held["loss_first"]) - float(held["loss_last"])
            if not math.isfinite(fall):
                raise ValueError("a loss that is not finite")
            started_from = started_from or str(held.get("started_from", ""))
            upload = held.get("upload")
            if "artefact" in held:
                watched = rounds.read(folder, str(held["artefact"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            mend = "give the work folder of configs/finetune.py"
            raise UserError(
                str(result), "is no result of a fine-tuning run", mend
            ) from error
    if upload not in (None, digest(examples)):
        mend = "give the run on this file, all of its rows"
        raise UserError(str(result), "is of a run on other rows than the upload's", mend)
    before = load_peft(started_from, lm.config, lm.params) if started_from else None
    return Run(TrainedJob(examples, adapter, fall), before, upload is not None, watched)


def part(
    run: Run,
    lm: LanguageModel,
    calibration: TrainedCalibration,
    rate: float,
    seed: int,
) -> Part:
    """What training made of the model (`monitors.trained`), calibrated.

    Args:
      run: the training run. lm: its base.
      calibration: of honest trained jobs under that base.
      rate: of false alarms. seed: of the sample of a large upload's rows.
    """
    asks = dict(calibration.world)
    n = int(asks.pop("canaries"))
    of = world.make_world(asks["entities"], asks["seed"], tuple(asks["fractions"]))
    canaries, place = world_canaries(of, n), calibration.reader.place
    figures = trained_evidence.measure(
        lm,
        run.job,
        calibration.reader,
        row_reader.start_from(lm, canaries, run.before, place),
        trained_evidence.baseline(lm, canaries, place),
        calibration.audit_rows,
        seed,
    )
    score = calibration.score(figures)
    cut = job_level.threshold(np.array(calibration.scores), rate)
    families = calibration.families
    return Part(
        "training",
        calibration.p_value(score),
        1 / (1 + len(calibration.scores)),
        float(expit(score)),
        score,
        cut if np.isfinite(cut) else None,
        audit_parts.provenance("trained honest jobs", families, calibration.base_model),
        len(families),
        [_trained_record(name, figures[name], calibration) for name in figures],
    )


def _trained_record(
    name: str, figure: float | None, calibration: TrainedCalibration
) -> dict[str, Any]:
    told = {**trained_evidence.ALARMS, **trained_evidence.CONTROLS}[name]
    reasons = []
    if figure is not None and name in calibration.combiner.names:
        at = calibration.combiner.names.index(name)
        z = (figure - calibration.centre[at]) / calibration.spread[at]
        if z > 2:
            usual = (
                f"{calibration.centre[at]:.2g} give or take {calibration.spread[at]:.2g}"
            )
            reason = f"{told}: {figure:.2g}, where honest jobs show {usual}"
            reasons = [{"reason": reason, "rows": []}]
    return {
        "name": name,
        "level": "trajectory" if name == "loss_fall" else "adapter",
        "statistic": figure,
        "p_value": None,
        "evidence": reasons,
        "not_tested": "the training run left no losses" if figure is None else None,
    }
