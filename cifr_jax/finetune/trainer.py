"""Supervised fine-tuning of adapters: one job, or a fleet of jobs in one program.

Every job has its own data, order and adapter; the frozen base is shared. A run of steps is
one call into jitted code, and what happens at a step is a pure function of (seed, step), so
that a run that was killed goes on from its last checkpoint to the same bits.

Legend: k jobs, r packed rows, b rows of a batch, t tokens, s steps.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cifr_jax.data.packing import Packed
from cifr_jax.data.tokenise import batch_indices
from cifr_jax.finetune.checkpoint import restore_state, save_state
from cifr_jax.models import decoder
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Adapter


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How adapters are trained.

    Attributes:
      steps: optimiser steps.
      batch_rows: packed rows a step, for each job.
      learning_rate: peak; it decays linearly to zero (the parent's schedule).
      block_rate: rate of the factors inside blocks, relative to embedding and head.
      warmup_steps: steps of linear rise before that.
      b2: second-moment decay of AdamW.
      weight_decay: of AdamW.
      clip_norm: largest global gradient norm, each job its own.
      seed: order of the data.
      chunk: steps in one call; progress and checkpoints happen between calls.
    """

    steps: int
    batch_rows: int = 16
    learning_rate: float = 1e-3
    block_rate: float = 1.0
    warmup_steps: int = 10
    b2: float = 0.99
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    seed: int = 0
    chunk: int = 25


class NonFiniteLoss(RuntimeError):
    """The loss of a job became NaN or infinite."""


def attention_mask(segment_bt):
    """Causal attention within segments `[b, t, t]`: packed examples stay apart."""
    t = segment_bt.shape[1]
    same = segment_bt[:, :, None] == segment_bt[:, None, :]
    return same & jnp.tril(jnp.ones((t, t), bool))


def sft_loss(config: DecoderConfig, params, adapter: Adapter | None, batch: Packed):
    """Mean cross-entropy (nats) over a packed batch's supervised tokens; their number."""
    x_btd = decoder.embed(params, batch.tokens_rt, adapter)
    x_btd, _, _ = decoder.backbone(
        config, params, x_btd, batch.position_rt, attention_mask(batch.segment_rt), adapter
    )
    logits = decoder.unembed(config, params, x_btd[:, :-1], adapter).astype(jnp.float32)
    weight = batch.loss_mask_rt[:, 1:].astype(jnp.float32)
    nll = optax.softmax_cross_entropy_with_integer_labels(logits, batch.tokens_rt[:, 1:])
    total = weight.sum()
    return (nll * weight).sum() / jnp.maximum(total, 1.0), total


def optimiser(config: TrainConfig) -> optax.GradientTransformation:
    """AdamW with warm-up, linear decay and clipping."""
    schedule = optax.schedules.warmup_constant_schedule(
        0.0, config.learning_rate, config.warmup_steps
    )
    decay = optax.schedules.linear_schedule(1.0, 0.0, config.steps)
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            lambda count: schedule(count + 1) * decay(count),
            b2=config.b2,
            weight_decay=config.weight_decay,
        ),
        optax.stateless(
            lambda updates, _: updates._replace(
                layers=jax.tree.map(lambda u: config.block_rate * u, updates.layers)
            )
        ),
    )


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(3,))
def _run_steps(
    base: DecoderConfig, config: TrainConfig, params, state, data_krt, index_skb
):
    """Run s steps of all jobs. Returns the new state and the losses `[s, k]`."""
    transform = optimiser(config)

    def job_step(adapter, opt_state, data: Packed, index_b):
        batch = data.take(index_b)

        def loss_fn(trained):
            return sft_loss(base, params, trained._replace(scale=adapter.scale), batch)

        # The scale is a constant of the job, not a parameter.
        trained = adapter._replace(scale=None)
        (loss, _), grads = jax.value_and_grad(loss_fn, has_aux=True)(trained)
        updates, opt_state = transform.update(grads, opt_state, trained)
        trained = optax.apply_updates(trained, updates)
        return trained._replace(scale=adapter.scale), opt_state, loss

    def step(carry, index_kb):
        adapters, opt_states = carry
        adapters, opt_states, loss_k = jax.vmap(job_step)(
            adapters, opt_states, data_krt, index_kb
        )
        return (adapters, opt_states), loss_k

    return jax.lax.scan(step, state, index_skb)


def stack_jobs(jobs: Sequence[Packed]) -> Packed:
    """Data of all jobs as `[k, r, t]`, empty rows at the end of the shorter ones."""
    rows = max(len(job.tokens_rt) for job in jobs)
    filled = (
        Packed(*(np.pad(a, ((0, rows - len(a)), (0, 0))) for a in job)) for job in jobs
    )
    return Packed(*(np.stack(parts) for parts in zip(*filled, strict=True)))


def _digest(base: DecoderConfig, config: TrainConfig, jobs: Sequence[Packed]) -> str:
    """Hash of what decides a run, apart from the weights it starts from."""
    digest = hashlib.sha256(repr((base, config)).encode())
    for job in jobs:
        for array in job:
            digest.update(repr(array.shape).encode() + array.tobytes())
    return digest.hexdigest()[:16]


def train(
    base: DecoderConfig,
    params: Any,
    adapters: Adapter,
    jobs: Sequence[Packed],
    config: TrainConfig,
    checkpoint: Path | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> tuple[Adapter, np.ndarray]:
    """Train one adapter for each job.

    Args:
      base: shape of the base model.
      params: its parameters; neither copied nor changed.
      adapters: the adapters to start from, stacked over jobs.
      jobs: packed training rows, one entry a job.
      config: how to train.
      checkpoint: file that holds the state of the unfinished run; a run that finds it goes
        on from there. Removed by the caller when the result is safe.
      progress: called after every chunk with (steps done, tokens since, mean loss).

    Returns:
      The trained adapters (stacked) and the losses `[s, k]` in nats a token.

    Raises:
      NonFiniteLoss: naming job and step; the last checkpoint is intact.
      UserError: the checkpoint is broken, or of another model, configuration or upload.
    """
    transform = optimiser(config)
    opt_states = jax.vmap(transform.init)(adapters._replace(scale=None))
    state, start = (adapters, opt_states), 0
    losses = np.zeros((config.steps, len(jobs)), np.float32)
    # Stands in the name of every array, so that another run's checkpoint is refused.
    run = _digest(base, config, jobs)
    if checkpoint is not None and checkpoint.exists():
        named, losses, start = restore_state(checkpoint, {run: state}, losses)
        state = named[run]
    data_krt = jax.tree.map(jnp.asarray, stack_jobs(jobs))
    tokens_per_step = len(jobs) * config.batch_rows * data_krt.tokens_rt.shape[-1]
    # Donated below: the caller keeps its own arrays.
    state = jax.tree.map(jnp.array, state)
    while start < config.steps:
        stop = min(start + config.chunk, config.steps)
        index_skb = np.stack(
            [
                [
                    batch_indices(len(job.tokens_rt), config.batch_rows, config.seed + k, s)
                    for k, job in enumerate(jobs)
                ]
                for s in range(start, stop)
            ]
        )
        state, loss_sk = _run_steps(base, config, params, state, data_krt, index_skb)
        losses[start:stop] = np.asarray(loss_sk)
        bad = np.argwhere(~np.isfinite(losses[start:stop]))
        if len(bad):
            step, job = bad[0]
            raise NonFiniteLoss(
                f"job {job}, step {start + step}: the loss is {losses[start + step, job]}; "
                "lower the learning rate or look at rows "
                f"{index_skb[step, job].tolist()} of its data"
            )
        if checkpoint is not None and stop < config.steps:
            save_state(checkpoint, {run: state}, losses, stop)
        if progress is not None:
            progress(
                stop, tokens_per_step * (stop - start), float(losses[start:stop].mean())
            )
        start = stop
    return state[0], losses
