"""What goes into a fleet and what comes out: jobs, their rounds, their results.

Legend: s steps.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

import jax
import numpy as np

from cifr_jax.data.packing import Packed
from cifr_jax.errors import UserError
from cifr_jax.finetune.optimiser import TrainConfig
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Adapter


class NonFiniteLoss(RuntimeError):
    """The loss of a job became NaN or infinite."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One fine-tuning job.

    Attributes:
      name: for messages.
      adapter: where it starts.
      rows: what it trains on.
      config: how.
      held_out: rows on which it is evaluated, or None.
      examples: the examples in each packed row, for messages.
    """

    name: str
    adapter: Adapter
    rows: Packed
    config: TrainConfig
    held_out: Packed | None = None
    examples: Sequence[Sequence[int]] = ()

    def named(self, rows: Sequence[int]) -> str:
        """What the user would look at: examples of these rows, where known."""
        if not self.examples:
            return f"rows {sorted(set(rows))}"
        return f"examples {sorted({e for r in rows for e in self.examples[r]})} (from 0)"


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What a job's training left.

    Attributes:
      adapter: after the last step; with held-out rows, the best one evaluated.
      losses: `[s]`, nats a supervised token; as many as steps were done.
      held_out: (step, loss) of every evaluation.
    """

    adapter: Adapter
    losses: np.ndarray
    held_out: tuple[tuple[int, float], ...] = ()


@dataclasses.dataclass(frozen=True)
class Round:
    """A job at the end of a chunk, for whoever watches training.

    Attributes:
      job: its name.
      step: steps done.
      adapter: as it is now.
      losses: of all steps done.
    """

    job: str
    step: int
    adapter: Adapter
    losses: np.ndarray


def digest(base: DecoderConfig, jobs: Sequence[Job]) -> str:
    """Hash of what decides a run, apart from the weights of the base."""
    found = hashlib.sha256(repr(base).encode())
    for job in jobs:
        found.update(repr((job.name, job.config)).encode())
        arrays = [*job.rows, *(job.held_out or ()), *jax.tree.leaves(job.adapter)]
        for array in map(np.asarray, arrays):
            found.update(repr((array.shape, array.dtype)).encode() + array.tobytes())
    return found.hexdigest()


def check(jobs: Sequence[Job], slots: int | None) -> None:
    """Refuse what cannot be trained, before anything is compiled."""
    if not jobs:
        raise UserError("jobs", "there are none", "give at least one")
    if slots is not None and slots < 1:
        raise UserError("slots", f"{slots} is too few", "give a positive integer")
    lengths = set()
    for job in jobs:
        where = f"job {job.name}"
        for kind, rows in (("training", job.rows), ("held-out", job.held_out)):
            if rows is not None and not len(rows.tokens_rt):
                raise UserError(where, f"no {kind} rows", "give at least one")
            if rows is not None:
                lengths.add(rows.tokens_rt.shape[1])
        if job.held_out is not None and not np.any(job.held_out.loss_mask_rt[:, 1:]):
            what = "no supervised token in the held-out rows"
            raise UserError(where, what, "give rows with an answer")
    if len(lengths) > 1:
        what = f"rows of {' and '.join(map(str, sorted(lengths)))} tokens in one fleet"
        raise UserError("config.row_length", what, "pack all rows to one length")
