"""What trained honest jobs show under one base model, with the reader of their rows.

A figure counts by its normal tail among honest training jobs; a logistic combination
without negative weights makes one score of them, and the place of a job's score among
honest calibration jobs is its p-value.

Legend: n jobs, j figures.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from cifr_jax.errors import UserError
from cifr_jax.files import write_json_atomic
from cifr_jax.monitors.dataset import combination
from cifr_jax.monitors.dataset.combination import Combiner
from cifr_jax.monitors.trained import evidence
from cifr_jax.monitors.trained.row_reader import POOLS, SIGNS, Linear, Place, RowReader

_FORMAT = 2
WORLD = frozenset(("entities", "seed", "fractions", "canaries"))  # keys of `world`
_MEND = "make one with configs/cipher_jobs.py"
_LEAST_TAIL = 1e-300


def _sound(reader: RowReader) -> bool:
    n = len(SIGNS)
    n_terms = n + n * (n + 1) // 2
    shaped = len(reader.centre) == len(reader.spread) == n
    shaped = shaped and len(reader.alone.weights) == n_terms
    shaped = shaped and len(reader.apart.weights) == 2 * n_terms
    placed = reader.place.pool in POOLS and reader.place.layer >= 0 and reader.place.C > 0
    return shaped and placed and min(reader.spread) > 0


def _linear(held: Mapping[str, Any]) -> Linear:
    return Linear(tuple(map(float, held["weights"])), float(held["bias"]))


def reader_of(held: Mapping[str, Any]) -> RowReader:
    """A reader from what `dataclasses.asdict` makes of it."""
    place = held["place"]
    return RowReader(
        Place(int(place["layer"]), str(place["pool"]), float(place["C"])),
        tuple(map(float, held["centre"])),
        tuple(map(float, held["spread"])),
        _linear(held["alone"]),
        _linear(held["apart"]),
    )


@dataclass(frozen=True)
class TrainedCalibration:
    """See the module.

    Attributes:
      base_model, base_key: name and fingerprint of the base.
      reader: scores rows in the model that a job starts from.
      centre, spread: of each alarm (`evidence.ALARMS`) over honest training jobs.
      combiner: makes one score.
      scores, families: of the honest calibration jobs.
      world: of the canaries: entities, seed, fractions, and canaries, how many.
      audit_rows: of an upload that are looked at.
      provenance: how they were made.
    """

    base_model: str
    base_key: str
    reader: RowReader
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    combiner: Combiner
    scores: tuple[float, ...]
    families: tuple[str, ...]
    world: Mapping[str, Any]
    audit_rows: int
    provenance: Mapping[str, Any]

    @classmethod
    def fit(
        cls,
        base: tuple[str, str],
        reader: RowReader,
        train: Sequence[Mapping[str, float | None]],
        attack_n: np.ndarray,
        honest: Sequence[Mapping[str, float | None]],
        families: Sequence[str],
        world: Mapping[str, Any],
        audit_rows: int,
        provenance: Mapping[str, Any],
    ) -> "TrainedCalibration":
        """Learns the combination on training jobs and scores the calibration jobs.

        Args:
          base: name and fingerprint.
          reader: see above.
          train: figures of the training jobs; attack_n: 1 or 0.
          honest: figures of the calibration jobs; families: of these.
          world, audit_rows, provenance: see above.
        """
        names = tuple(evidence.ALARMS)
        x_nj = np.array([[one[name] for name in names] for one in train], float)
        good_nj = x_nj[attack_n == 0]
        centre, spread = good_nj.mean(0), np.maximum(good_nj.std(0), 1e-6)
        tail_nj = np.maximum(norm.sf((x_nj - centre) / spread), _LEAST_TAIL)
        made = cls(
            *base,
            reader,
            tuple(centre.tolist()),
            tuple(spread.tolist()),
            Combiner.fit(names, tail_nj, attack_n),
            (),
            tuple(families),
            world,
            audit_rows,
            provenance,
        )
        scores = tuple(round(made.score(one), 6) for one in honest)
        return dataclasses.replace(made, scores=scores)

    def score(self, figures: Mapping[str, float | None]) -> float:
        """One score of a job; higher is more suspicious."""
        x_j = np.array([figures[name] for name in self.combiner.names], float)
        z_j = (x_j - np.array(self.centre)) / np.array(self.spread)
        tail_j = np.maximum(norm.sf(z_j), _LEAST_TAIL)
        return float(self.combiner.score(tail_j[None])[0])

    def p_value(self, score: float) -> float:
        """Share of honest calibration jobs that score as high."""
        return combination.conformal(score, np.array(self.scores))

    def save(self, path: str | Path) -> None:
        """Writes JSON, whole or not at all."""
        write_json_atomic(path, {"format": _FORMAT, **dataclasses.asdict(self)})

    @classmethod
    def load(cls, path: str | Path) -> "TrainedCalibration":
        """Reads what `save` wrote.

        Raises:
          UserError: it cannot be read, or is no calibration of trained jobs.
        """
        try:
            held = json.loads(Path(path).read_text(encoding="utf-8"))
            made = held["combiner"]
            found = cls(
                str(held["base_model"]),
                str(held["base_key"]),
                reader_of(held["reader"]),
                tuple(map(float, held["centre"])),
                tuple(map(float, held["spread"])),
                Combiner(
                    tuple(map(str, made["names"])),
                    tuple(map(float, made["weights"])),
                    float(made["bias"]),
                ),
                tuple(map(float, held["scores"])),
                tuple(map(str, held["families"])),
                dict(held["world"]),
                int(held["audit_rows"]),
                dict(held["provenance"]),
            )
            numbers = (
                found.reader.place.C, *found.reader.centre, *found.reader.spread,
                *found.reader.alone.weights, found.reader.alone.bias,
                *found.reader.apart.weights, found.reader.apart.bias,
                *found.centre, *found.spread,
                *found.combiner.weights, found.combiner.bias, *found.scores,
            )  # fmt: skip
            n = len(found.combiner.names)
            sound = held["format"] == _FORMAT and bool(np.isfinite(numbers).all())
            sound = sound and set(found.combiner.names) <= set(evidence.NAMES)
            sound = sound and n == len(found.combiner.weights) == len(found.centre)
            sound = sound and n == len(found.spread) and min(found.spread) > 0
            sound = sound and len(found.scores) == len(found.families) > 0
            sound = sound and _sound(found.reader)
            sound = sound and found.audit_rows > 0
            sound = sound and set(found.world) == WORLD
        except OSError as error:
            raise UserError(str(path), "cannot be read", _MEND) from error
        except (ValueError, KeyError, TypeError) as error:
            what = "is no calibration of trained jobs"
            raise UserError(str(path), what, _MEND) from error
        if not sound:
            raise UserError(str(path), "is no calibration of trained jobs", _MEND)
        return found
