"""The rounds of a job's training, as configs/finetune.py leaves them: for people to see.

After every few steps the run wrote its loss, the norm of the weight change and how far the
activations on its canaries, held-out requests of the upload, had drifted from the base
(drift over rounds of fine-tuning: arXiv 2508.17158). No honest customers' rounds calibrate
these figures, so they are shown and alarm nobody.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cifr_jax.errors import UserError

_KEY = re.compile("[0-9a-f]{16,64}")  # of an artefact: part of a path
_MEND = "give the work folder as configs/finetune.py left it"


@dataclass(frozen=True)
class RoundFigures:
    """One round.

    Attributes:
      step: optimiser steps done.
      loss: of the steps since the round before, nats a supervised token.
      drift: of activations at the last token of canaries, relative to the base's length,
        mean over layers.
      weight_change: Frobenius norm over all matrices.
    """

    step: int
    loss: float
    drift: float
    weight_change: float

    def record(self) -> dict[str, float]:
        """As an entry of verdict.json."""
        return asdict(self)


def _figures(record: Mapping[str, Any]) -> RoundFigures:
    figures = {str(k): float(v) for k, v in record["figures"].items()}
    drifts = [v for k, v in figures.items() if k.startswith("drift/last/")]
    norms = [v for k, v in figures.items() if k.startswith("norm/")]
    found = RoundFigures(
        int(record["step"]),
        figures["loss"],
        sum(drifts) / len(drifts),
        math.sqrt(sum(v**2 for v in norms)),
    )
    if not all(math.isfinite(v) for v in asdict(found).values()) or found.step < 1:
        raise ValueError("a figure that is not finite")
    return found


def read(folder: str | Path, artefact: str) -> list[RoundFigures]:
    """The rounds of a run in order of their steps; none where it was not watched.

    Args:
      folder: the work folder of the run.
      artefact: key of the training, from the run's result.json.

    Raises:
      UserError: a key that is none, or a round that cannot be read.
    """
    if not _KEY.fullmatch(artefact):
        what = "its artefact is no key"
        raise UserError(str(Path(folder) / "result.json"), what, _MEND)
    found = []
    for path in sorted((Path(folder) / "trajectory" / artefact[:16]).glob("round-*.json")):
        try:
            found.append(_figures(json.loads(path.read_bytes())))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError,
                OverflowError) as error:  # fmt: skip
            raise UserError(str(path), "is no round of a training", _MEND) from error
    return sorted(found, key=lambda one: one.step)
