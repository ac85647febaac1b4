"""The compiled part of fine-tuning: steps of a fleet of jobs on one frozen base.

Every slot holds a job: its own data, order, hyperparameters, adapter and optimiser. A run
of steps is one call into jitted code, and what happens at a step is a pure function of
(seed, step), so that a run that was killed goes on from its last checkpoint to the same
bits, and a job in a fleet does what it would do alone.

Legend: k slots, r packed rows, m micro-batches, b rows of one, t tokens, s steps.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding

from cifr_jax.data.packing import Packed
from cifr_jax.finetune.loss import summed_loss
from cifr_jax.finetune.optimiser import Hyper, Program, optimiser
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Adapter, Dropout
from cifr_jax.models.sharding import BATCH


class SlotState(NamedTuple):
    """The state of a job, or of all slots with a leading axis.

    Attributes:
      adapter: its LoRA factors.
      opt_state: moments of AdamW.
      step: steps done; from the job's last on, a slot stands still.
    """

    adapter: Adapter
    opt_state: Any
    step: Any


def fresh_state(program: Program, hyper: Hyper, adapter: Adapter) -> SlotState:
    """A job that begins."""
    opt_state = optimiser(program, hyper, 0).init(adapter._replace(scale=None))
    return SlotState(adapter, opt_state, jnp.zeros((), jnp.int32))


def stack_rows(jobs: Sequence[Packed], rows: int) -> Packed:
    """Data of all slots as `[k, r, t]`, empty rows at the end of the shorter ones."""
    filled = (
        Packed(*(np.pad(a, ((0, rows - len(a)), (0, 0))) for a in job)) for job in jobs
    )
    stacked = Packed(*(np.stack(parts) for parts in zip(*filled, strict=True)))
    # Booleans or weights: slots take turns with both, and neither may become the other.
    return stacked._replace(loss_mask_rt=stacked.loss_mask_rt.astype(np.float32))


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(4,))
def run_steps(
    base: DecoderConfig, program: Program, params, hyper: Hyper, state, data_krt, index_skmb
):
    """Run s steps of all slots. Returns the new state and the losses `[s, k]`.

    Args:
      base: shape of the base model.
      program: what all slots share.
      params: of the base, frozen.
      hyper: of each slot.
      state: `SlotState` of all slots; donated.
      data_krt: their rows.
      index_skmb: rows of each micro-batch of each step.
    """

    def gradient(factors, scale, batch, key, rate):
        dropout = Dropout(rate, key) if program.dropout else None

        def loss_fn(factors):
            return summed_loss(
                base,
                params,
                factors._replace(scale=scale),
                batch,
                program.max_targets,
                dropout,
                program.remat,
            )

        return jax.value_and_grad(loss_fn, has_aux=True)(factors)

    def job_step(own: Hyper, old: SlotState, data: Packed, index_mb):
        # The scale is a constant of the job, not a parameter.
        factors, scale = old.adapter._replace(scale=None), old.adapter.scale
        key = jax.random.fold_in(jax.random.key(own.seed), old.step)

        def micro(total, numbered):
            number, index_b = numbered
            batch = data.take(index_b)
            if program.mesh is not None:
                split = NamedSharding(program.mesh, BATCH)
                batch = jax.lax.with_sharding_constraint(batch, split)
            keyed = jax.random.fold_in(key, number)
            (loss, weight), grads = gradient(factors, scale, batch, keyed, own.dropout)
            return jax.tree.map(jnp.add, total, (loss, weight, grads)), None

        # Sums over micro-batches, divided once: the gradient of the one big batch.
        zero = jax.tree.map(jnp.zeros_like, (0.0, 0.0, factors))
        if program.accumulate == 1:
            (loss, weight, grads), _ = micro(zero, (0, index_mb[0]))
        else:
            numbered = (jnp.arange(program.accumulate), index_mb)
            (loss, weight, grads), _ = jax.lax.scan(micro, zero, numbered)
        weight = jnp.where(weight > 0, weight, 1.0)
        grads = jax.tree.map(lambda g: g / weight, grads)
        updates, opt_state = optimiser(program, own, old.step).update(
            grads, old.opt_state, factors
        )
        factors = optax.apply_updates(factors, updates)
        new = SlotState(factors._replace(scale=scale), opt_state, old.step + 1)
        going = old.step < own.steps
        return jax.tree.map(lambda a, b: jnp.where(going, a, b), new, old), loss / weight

    k, size = index_skmb.shape[1], program.at_once
    side_by_side = jax.vmap(job_step)

    def step(state, index_kmb):
        if size >= k:
            return side_by_side(hyper, state, data_krt, index_kmb)

        # A loop over groups that writes in place: activations of one group at a time, and
        # no second copy of the states. A group of idle slots computes nothing.
        def group(state, start):
            own, old, data, index = (
                jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, size), tree)
                for tree in (hyper, state, data_krt, index_kmb)
            )
            new, loss_k = jax.lax.cond(
                (old.step < own.steps).any(),
                lambda: side_by_side(own, old, data, index),
                lambda: (old, jnp.zeros(size)),
            )
            put = lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, start, 0)  # noqa: E731
            return jax.tree.map(put, state, new), loss_k

        state, loss_gk = jax.lax.scan(group, state, jnp.arange(0, k, size))
        return state, loss_gk.reshape(k)

    return jax.lax.scan(step, state, index_skmb)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _summed(base: DecoderConfig, program: Program, params, adapters, batch_kbt: Packed):
    def one(pair):
        adapter, batch = pair
        return summed_loss(base, params, adapter, batch, program.max_targets)

    return jax.lax.map(one, (adapters, batch_kbt), batch_size=program.at_once)


def held_out_losses(
    base: DecoderConfig, program: Program, params, adapters: Adapter, data_krt: Packed
) -> np.ndarray:
    """Mean loss of each slot's adapter on its held-out rows, `[k]` nats a token."""
    rows, size = data_krt.tokens_rt.shape[1], program.batch_rows
    totals: list[Any] = []
    for start in range(0, rows, size):
        batch = Packed(*(a[:, start : start + size] for a in data_krt))
        missing = ((0, 0), (0, size - batch.tokens_rt.shape[1]), (0, 0))
        batch = Packed(*(np.pad(a, missing) for a in batch))  # one shape, one compile
        totals.append(_summed(base, program, params, adapters, batch))
    loss_k, weight_k = (np.sum([np.asarray(t[i]) for t in totals], 0) for i in (0, 1))
    return loss_k / np.maximum(weight_k, 1e-9)


@functools.partial(jax.jit, donate_argnums=(0,))
def put_slot(stacked, k, one):
    """`stacked` with slot k replaced; one program whatever the slot."""
    return jax.tree.map(lambda a, b: a.at[k].set(b), stacked, one)
