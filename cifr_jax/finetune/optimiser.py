"""AdamW with the parent's schedules, its hyperparameters arrays: each job has its own.

Legend: k jobs.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from cifr_jax.errors import UserError

SCHEDULES = ("linear", "cosine", "constant")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How an adapter is trained.

    Jobs of a fleet may differ in every field but the last group, which decides the program.

    Attributes:
      steps: optimiser steps.
      learning_rate: peak.
      block_rate: rate of the factors inside blocks, relative to embedding and head.
      warmup_steps: steps of linear rise.
      weight_decay: of AdamW.
      clip_norm: largest global gradient norm.
      dropout: share of the adapters' inputs that is dropped while training.
      patience: evaluations without a better held-out loss after which a job stops; 0: none.
      seed: order of the data, dropout.
      batch_rows: packed rows of a micro-batch.
      accumulate: micro-batches of an optimiser step.
      schedule: how the rate falls after the warm-up: linear (the parent's) or cosine, to
        zero at the last step, or constant.
      b2: second-moment decay of AdamW.
      chunk: steps in one call; progress, checkpoints and evaluations happen between calls.
      evaluate_every: steps between evaluations on held-out rows; 0: none.
      remat: compute blocks again on the way back: slower, less memory.
    """

    steps: int
    learning_rate: float = 1e-3
    block_rate: float = 1.0
    warmup_steps: int = 10
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    dropout: float = 0.0
    patience: int = 0
    seed: int = 0

    batch_rows: int = 16
    accumulate: int = 1
    schedule: str = "linear"
    b2: float = 0.99
    chunk: int = 25
    evaluate_every: int = 0
    remat: bool = False

    def __post_init__(self):
        for name in ("steps", "batch_rows", "accumulate", "chunk"):
            if getattr(self, name) < 1:
                what = f"{getattr(self, name)} {name.replace('_', ' ')}"
                raise UserError(f"config.{name}", what, "give a positive integer")
        if self.schedule not in SCHEDULES:
            what = f"unknown schedule {self.schedule!r}"
            raise UserError("config.schedule", what, f"known: {', '.join(SCHEDULES)}")
        if not 0 <= self.dropout < 1:
            what = f"{self.dropout} is no share to drop"
            raise UserError("config.dropout", what, "give a number from 0 to below 1")
        if self.evaluate_every % self.chunk:
            what = f"{self.evaluate_every} is no multiple of chunk {self.chunk}"
            raise UserError("config.evaluate_every", what, "give a multiple, or 0")


class Hyper(NamedTuple):
    """Hyperparameters of jobs as arrays, scalars or `[k]`."""

    steps: Any
    learning_rate: Any
    block_rate: Any
    warmup_steps: Any
    weight_decay: Any
    clip_norm: Any
    dropout: Any
    seed: Any


class Program(NamedTuple):
    """What jobs of a fleet share: the compiled program depends on it.

    `at_once` slots are computed side by side, group after group.
    """

    batch_rows: int
    accumulate: int
    schedule: str
    b2: float
    remat: bool
    dropout: bool
    max_targets: int
    mesh: Mesh | None = None
    at_once: int = 1


def hyper_of(config: TrainConfig) -> Hyper:
    """The hyperparameters of one job, of the same types whatever the user wrote."""
    # 0 for 0.0 would be another program; JAX's default integers have 32 bits.
    whole = ("steps", "warmup_steps", "seed")
    own = {name: getattr(config, name) for name in Hyper._fields}
    return Hyper(**{n: x % 2**31 if n in whole else float(x) for n, x in own.items()})


def program_of(
    configs: Sequence[TrainConfig],
    max_targets: int,
    mesh: Mesh | None = None,
    at_once: int = 1,
) -> Program:
    """The program that trains all of these jobs, its batches split over a mesh.

    Raises:
      UserError: they differ in a field that jobs of one fleet share, or a batch does not
        divide over the mesh.
    """
    shared = ("batch_rows", "accumulate", "schedule", "b2", "remat")
    for name in (*shared, "chunk", "evaluate_every"):
        found = sorted({getattr(config, name) for config in configs})
        if len(found) > 1:
            what = f"jobs of one fleet with {name} {' and '.join(map(str, found))}"
            raise UserError(f"config.{name}", what, "train them in fleets of their own")
    first = configs[0]
    parts = mesh.shape["data"] * mesh.shape["fsdp"] if mesh else 1
    if first.batch_rows % parts:
        what = f"{first.batch_rows} rows do not divide over {parts} devices (data x fsdp)"
        raise UserError("config.batch_rows", what, f"give a multiple of {parts}")
    return Program(
        first.batch_rows,
        first.accumulate,
        first.schedule,
        first.b2,
        first.remat,
        any(config.dropout for config in configs),
        max_targets,
        mesh,
        at_once,
    )


def learning_rate(schedule: str, hyper: Hyper, step):
    """The rate of one step: a linear rise, and then the schedule."""
    rise = jnp.minimum(1.0, (step + 1) / jnp.maximum(hyper.warmup_steps, 1))
    share = step / jnp.maximum(hyper.steps, 1)  # an empty slot has no steps
    fall = {
        "linear": 1.0 - share,
        "cosine": 0.5 * (1.0 + jnp.cos(jnp.pi * share)),
        "constant": 1.0,
    }[schedule]
    return hyper.learning_rate * rise * fall


def optimiser(program: Program, hyper: Hyper, step) -> optax.GradientTransformation:
    """AdamW of one job at one step; hyperparameters and step may be traced."""

    def slower_blocks(updates, _):
        layers = jax.tree.map(lambda u: hyper.block_rate * u, updates.layers)
        return updates._replace(layers=layers)

    return optax.chain(
        optax.clip_by_global_norm(hyper.clip_norm),
        optax.scale_by_adam(b2=program.b2),
        optax.add_decayed_weights(hyper.weight_decay),
        optax.scale_by_learning_rate(learning_rate(program.schedule, hyper, step)),
        optax.stateless(slower_blocks),
    )
