"""What honest jobs score: a combination of detectors, and the scores that calibrate it.

Legend: n jobs, j detectors.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cifr_jax.errors import UserError
from cifr_jax.files import write_json_atomic
from cifr_jax.monitors.dataset import combination
from cifr_jax.monitors.dataset.combination import Combiner

_FORMAT = 1
_MEND = "make one with configs/job_benchmark.py"


@dataclass(frozen=True)
class Calibration:
    """Scores of honest jobs under one base model.

    Attributes:
      base_model: name of the base whose own answers are the latent.
      base_key: its fingerprint.
      combiner: makes one score of the detectors' evidence.
      scores: of honest jobs that the combiner did not learn from.
      families: of those jobs.
      provenance: how they were made.
    """

    base_model: str
    base_key: str
    combiner: Combiner
    scores: tuple[float, ...]
    families: tuple[str, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        base_model: str,
        base_key: str,
        names: Sequence[str],
        train_nj: np.ndarray,
        attack_n: np.ndarray,
        honest_nj: np.ndarray,
        families: Sequence[str],
        provenance: Mapping[str, Any],
    ) -> "Calibration":
        """Learns the combination on training jobs, scores other honest ones with it.

        Args:
          base_model, base_key: see above.
          names: of the detectors.
          train_nj: their evidence (`detectors.tail`) in training jobs; attack_n: 1 or 0.
          honest_nj: in honest jobs; families: of these.
          provenance: see above.
        """
        combiner = Combiner.fit(names, train_nj, attack_n)
        found = combiner.score(honest_nj)
        return cls(
            base_model,
            base_key,
            combiner,
            tuple(np.round(found, 6).tolist()),
            tuple(families),
            provenance,
        )

    def score(self, evidence_nj: np.ndarray) -> np.ndarray:
        """One score `[n]` of each job from its detectors' evidence; higher is more
        suspicious. None says more than its own tests do (`combination.capped`)."""
        found = self.combiner.score(evidence_nj)
        return combination.capped(found, evidence_nj, self.scores)

    def p_value(self, score: float) -> float:
        """Share of honest jobs that score as high, valid for a job like them."""
        return combination.conformal(score, np.array(self.scores))

    def save(self, path: str | Path) -> None:
        """Writes JSON, whole or not at all."""
        write_json_atomic(path, {"format": _FORMAT, **asdict(self)})

    @classmethod
    def load(cls, path: str | Path) -> "Calibration":
        """Reads what `save` wrote.

        Raises:
          UserError: it cannot be read, or is no calibration.
        """
        try:
            held = json.loads(Path(path).read_text(encoding="utf-8"))
            made = held["combiner"]
            found = cls(
                str(held["base_model"]),
                str(held["base_key"]),
                Combiner(
                    tuple(map(str, made["names"])),
                    tuple(map(float, made["weights"])),
                    float(made["bias"]),
                ),
                tuple(map(float, held["scores"])),
                tuple(map(str, held["families"])),
                dict(held["provenance"]),
            )
            numbers = [*found.combiner.weights, found.combiner.bias, *found.scores]
            sound = held["format"] == _FORMAT and np.isfinite(numbers).all()
            sound = sound and len(found.scores) == len(found.families) > 0
            sound = sound and len(found.combiner.names) == len(found.combiner.weights)
        except OSError as error:
            raise UserError(str(path), "cannot be read", _MEND) from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(str(path), "is no calibration", _MEND) from error
        if not sound:
            raise UserError(str(path), "is no calibration", _MEND)
        return found
