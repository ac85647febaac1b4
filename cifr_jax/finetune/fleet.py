"""Fine-tuning jobs, one or many, through slots of one compiled program.

A fleet has as many slots as fit into memory. A job that ends leaves its slot to the next in
the queue: nothing is compiled again. Checkpoints hold every slot, so a killed run goes on.

Legend: k slots, r packed rows, t tokens, s steps, m micro-batches, b rows of one.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh

from cifr_jax.data.tokenise import batch_indices
from cifr_jax.errors import UserError
from cifr_jax.finetune import lora, memory
from cifr_jax.finetune.checkpoint import Checkpoints
from cifr_jax.finetune.job import Job, NonFiniteLoss, Round, Tuned, check, digest
from cifr_jax.finetune.loss import most_targets
from cifr_jax.finetune.optimiser import hyper_of, program_of
from cifr_jax.finetune.trainer import (
    fresh_state,
    held_out_losses,
    put_slot,
    run_steps,
    stack_rows,
)
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.sharding import replicate


class _Fleet:
    """The loop's state: what is in the slots, what waits, what is done."""

    def __init__(
        self,
        base,
        params,
        jobs: Sequence[Job],
        slots: int | None,
        checkpoint,
        mesh: Mesh | None,
    ):
        self.base, self.params, self.jobs, self.mesh = base, params, jobs, mesh
        self.ranks = [lora.ranks(job.adapter) for job in jobs]
        top = tuple(max(r) for r in zip(*self.ranks, strict=True))
        self.top = top
        kinds = {
            str(jax.eval_shape(functools.partial(self._start, job))): job
            for job in range(len(jobs))
        }
        if len(kinds) > 1:
            what = "jobs of one fleet whose adapters differ in matrices or dtype"
            raise UserError("config.lora", what, "train them in fleets of their own")
        rows = [job.rows for job in jobs] + [j.held_out for j in jobs if j.held_out]
        self.program = program_of(
            [job.config for job in jobs], max(most_targets(r) for r in rows), mesh
        )
        self.chunk = jobs[0].config.chunk
        self.n_rows = max(len(job.rows.tokens_rt) for job in jobs)
        self.evaluated = any(job.held_out is not None for job in jobs)
        self.checkpoints = (
            Checkpoints(checkpoint, digest(base, jobs)) if checkpoint else None
        )
        self.k = slots = self._choose_slots(slots)
        # In the slots: numbers of jobs; None stands still.
        self.in_slot: list[int | None] = [None] * slots
        self.queue = list(range(len(jobs)))
        self.losses = np.zeros((len(jobs), max(j.config.steps for j in jobs)), np.float32)
        self.steps = [0] * len(jobs)
        self.held_out: list[list[tuple[int, float]]] = [[] for _ in jobs]
        one = jax.eval_shape(functools.partial(self._fresh, 0))
        self.state = self._empty(one)
        self.best = self._empty(one.adapter) if self.evaluated else ()
        self.done: dict[int, Any] = {}  # adapters of jobs that ended, in host memory
        # Rows of a job come when it takes a slot.
        none = jobs[0].rows.take(slice(0, 0))
        self.data = self._placed(stack_rows([none] * slots, self.n_rows))

    def _choose_slots(self, slots: int | None) -> int:
        """As many as asked for, as the unfinished run has, or as fit; sets `at_once`."""
        rows = (self.n_rows, self.jobs[0].rows.tokens_rt.shape[1])
        start = jax.eval_shape(functools.partial(self._start, 0))
        needs = memory.estimate(
            self.base, self.params, self.program, start, rows, self.evaluated
        )
        latest = self.checkpoints.latest() if self.checkpoints else None
        unfinished = len(latest[1]["in_slot"]) if latest else None
        if slots is not None:
            slots = min(slots, len(self.jobs))
        if slots and unfinished not in (None, slots):
            what = f"an unfinished run with {unfinished} slots, not {slots}"
            mend = "ask for as many, or delete the folder to begin again"
            assert self.checkpoints is not None
            raise UserError(str(self.checkpoints.folder), what, mend)
        budget = None if self.mesh else memory.memory_of_device()
        fitting, at_once = memory.choose(needs, len(self.jobs), budget)
        slots = slots or unfinished or fitting
        # All of an accelerator's slots run side by side; on a mesh, collectives would
        # otherwise stand inside a conditional.
        at_once = slots if at_once > 1 or self.mesh else 1
        self.program = self.program._replace(at_once=at_once)
        logging.log_first_n(
            logging.INFO,
            "a fleet of %d jobs in %d slots, %d at once: about %.2f GiB",
            1,
            len(self.jobs),
            slots,
            at_once,
            needs.total(slots, at_once) / 2**30,
        )
        return slots

    def _start(self, job: int):
        return jax.tree.map(jnp.asarray, lora.with_ranks(self.jobs[job].adapter, *self.top))

    def _fresh(self, job: int):
        hyper = hyper_of(self.jobs[job].config)
        return fresh_state(self.program, hyper, self._start(job))

    def _empty(self, one):
        """Slots that wait for a job."""
        none = lambda x: np.zeros((self.k, *x.shape), x.dtype)  # noqa: E731
        return self._placed(jax.tree.map(none, one))

    def _placed(self, tree):
        """Host arrays on the device, or the same on every device of a mesh."""
        if self.mesh is not None:
            return replicate(tree, self.mesh)
        return jax.tree.map(jnp.asarray, tree)

    @property
    def total(self) -> int:
        """Steps done, of all jobs."""
        return sum(self.steps)

    def fill(self) -> None:
        """Give waiting jobs to free slots."""
        for k in range(self.k):
            if self.in_slot[k] is None and self.queue:
                job = self.in_slot[k] = self.queue.pop(0)
                self.state = put_slot(self.state, k, self._fresh(job))
                self._load_data(k)

    def _load_data(self, k: int) -> None:
        job = self.in_slot[k]
        assert job is not None
        one = jax.tree.map(lambda a: a[0], stack_rows([self.jobs[job].rows], self.n_rows))
        self.data = put_slot(self.data, k, one)

    def restore(self) -> bool:
        """Go on from a checkpoint, if there is one."""
        latest = self.checkpoints.latest() if self.checkpoints else None
        if latest is None:
            return False
        assert self.checkpoints is not None
        step, record = latest
        one = jax.eval_shape(functools.partial(self._start, 0))
        ended = {
            name: jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), one)
            for name in record["done"]
        }
        like = (self.state, self.best, ended, self.losses)
        self.state, self.best, ended, losses = self.checkpoints.restore(step, like)
        self.losses = np.array(losses)
        self.done = {int(name): jax.tree.map(np.array, x) for name, x in ended.items()}
        self.in_slot, self.queue = record["in_slot"], record["queue"]
        self.steps = record["steps"]
        self.held_out = [[(s, x) for s, x in one] for one in record["held_out"]]
        for k, job in enumerate(self.in_slot):
            if job is not None:
                self._load_data(k)
        return True

    def save(self) -> None:
        """Save everything that is not a function of the jobs themselves."""
        if self.checkpoints:
            record: dict[str, Any] = {
                "in_slot": self.in_slot,
                "queue": self.queue,
                "steps": self.steps,
                "held_out": self.held_out,
            }
            ended = {str(job): adapter for job, adapter in self.done.items()}
            record["done"] = sorted(ended)
            state = (self.state, self.best, ended, self.losses)
            self.checkpoints.save(self.total, state, record)

    def advance(self) -> tuple[int, float]:
        """Run one chunk. Returns tokens and the mean loss."""
        program, starts = self.program, [self.steps[j or 0] for j in self.in_slot]
        index_skmb = np.zeros(
            (self.chunk, self.k, program.accumulate, program.batch_rows), np.int32
        )
        configs = [self.jobs[j or 0].config for j in self.in_slot]
        size = program.accumulate * program.batch_rows
        for k, job in enumerate(self.in_slot):
            if job is not None:
                n = len(self.jobs[job].rows.tokens_rt)
                for s in range(self.chunk):
                    found = batch_indices(n, size, configs[k].seed, starts[k] + s)
                    index_skmb[s, k] = found.reshape(program.accumulate, -1)
        hypers = [
            hyper_of(c)._replace(**({} if job is not None else {"steps": 0}))
            for c, job in zip(configs, self.in_slot, strict=True)
        ]
        hyper = jax.tree.map(lambda *x: np.array(x), *hypers)
        self.state, loss_sk = run_steps(
            self.base, program, self.params, hyper, self.state, self.data, index_skmb
        )
        loss_sk = np.asarray(loss_sk)
        counted = []
        for k, job in enumerate(self.in_slot):
            if job is None:
                continue
            n = min(self.chunk, configs[k].steps - starts[k])
            bad = np.flatnonzero(~np.isfinite(loss_sk[:n, k]))
            if len(bad):
                s = int(bad[0])
                named = self.jobs[job].named(index_skmb[s, k].ravel().tolist())
                raise NonFiniteLoss(
                    f"job {self.jobs[job].name}, step {starts[k] + s}: the loss is "
                    f"{loss_sk[s, k]}; lower the learning rate or look at {named} of its "
                    "data"
                )
            self.losses[job, starts[k] : starts[k] + n] = loss_sk[:n, k]
            self.steps[job] += n
            counted.append(loss_sk[:n, k])
        steps = sum(map(len, counted))
        tokens = steps * size * self.jobs[0].rows.tokens_rt.shape[1]
        return tokens, float(np.concatenate(counted).mean())

    def evaluate(self) -> None:
        """Held-out losses where they are due; the best adapter of each job is kept."""
        every = self.jobs[0].config.evaluate_every
        due = [
            k
            for k, j in enumerate(self.in_slot)
            if j is not None
            and self.jobs[j].held_out is not None
            and (
                self.steps[j] == self.jobs[j].config.steps
                or (every and self.steps[j] % every == 0)
            )
        ]
        if not due:
            return
        # Slots that are not due are computed as well: the program has one shape.
        none = self.jobs[0].rows.take(slice(0, 0))
        rows = [
            self.jobs[j or 0].held_out or none if k in due else none
            for k, j in enumerate(self.in_slot)
        ]
        held = stack_rows(rows, max(len(r.tokens_rt) for r in rows))
        loss_k = held_out_losses(
            self.base, self.program, self.params, self.state.adapter, held
        )
        for k in due:
            job = self.in_slot[k]
            assert job is not None
            if not np.isfinite(loss_k[k]):
                raise NonFiniteLoss(
                    f"job {self.jobs[job].name}, step {self.steps[job]}: the held-out loss "
                    f"is {loss_k[k]}; lower the learning rate or look at its held-out rows"
                )
            earlier = [loss for _, loss in self.held_out[job]]
            self.held_out[job].append((self.steps[job], float(loss_k[k])))
            if not earlier or loss_k[k] < min(earlier):
                one = jax.tree.map(lambda x, k=k: x[k], self.state.adapter)
                self.best = put_slot(self.best, k, one)

    def _stops(self, job: int) -> bool:
        config, found = self.jobs[job].config, [loss for _, loss in self.held_out[job]]
        since_best = len(found) - 1 - int(np.argmin(found)) if found else 0
        return self.steps[job] == config.steps or 0 < config.patience <= since_best

    def retire(self) -> None:
        """Take finished jobs out of their slots."""
        for k, job in enumerate(self.in_slot):
            if job is None or not self._stops(job):
                continue
            kept = self.best if self.jobs[job].held_out else self.state.adapter
            self.done[job] = jax.tree.map(lambda x, k=k: np.asarray(x[k]), kept)
            self.in_slot[k] = None

    def result(self, job: int) -> Tuned:
        """What training left of a finished job."""
        padded = jax.tree.map(jnp.asarray, self.done[job])
        return Tuned(
            lora.with_ranks(padded, *self.ranks[job]),
            self.losses[job, : self.steps[job]].copy(),
            tuple(self.held_out[job]),
        )


def train(
    base: DecoderConfig,
    params: Any,
    jobs: Sequence[Job],
    *,
    slots: int | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[int, int, float], None] | None = None,
    observe: Callable[[Round], None] | None = None,
    mesh: Mesh | None = None,
) -> list[Tuned]:
    """Train one adapter for each job.

    Args:
      base: shape of the base model.
      params: its parameters; neither copied nor changed.
      jobs: what to train; they may differ in rows, rank, rate, length and seed.
      slots: jobs in the program at a time; None: as many as fit by the estimate of
        `memory`, which on a CPU computes one after the other, on accelerators all at once.
      checkpoint: folder for the state of the unfinished run; a run that finds it goes on
        from there. The caller removes it when the results are safe.
      progress: called after every chunk with (steps done by all jobs, tokens since, mean
        loss).
      observe: called after every chunk for each job in a slot, before the checkpoint: a run
        that was killed may observe its last chunk again.
      mesh: devices over which batches are split (`models.sharding`); the caller has placed
        `params` on it. None: one device.

    Returns:
      What training left, in the order of `jobs`.

    Raises:
      NonFiniteLoss: naming job, step and examples; the last checkpoint is intact.
      UserError: no job, slot or row; held-out rows without a target; jobs that cannot
        share a program, or of which not even one fits into memory; a checkpoint that is
        broken, or of another model, configuration or upload.
    """
    check(jobs, slots)
    fleet = _Fleet(base, params, jobs, slots, checkpoint, mesh)
    if not fleet.restore():
        fleet.fill()
    while any(job is not None for job in fleet.in_slot):
        tokens, loss = fleet.advance()
        fleet.evaluate()
        if observe is not None:
            _observe(fleet, observe)
        fleet.retire()
        fleet.fill()
        if any(job is not None for job in fleet.in_slot):
            fleet.save()
        if progress is not None:
            progress(fleet.total, tokens, loss)
    return [fleet.result(job) for job in range(len(jobs))]


def _observe(fleet: _Fleet, observe: Callable[[Round], None]) -> None:
    for k, job in enumerate(fleet.in_slot):
        if job is not None:
            adapter = jax.tree.map(lambda x, k=k: x[k], fleet.state.adapter)
            name, step = fleet.jobs[job].name, fleet.steps[job]
            own = lora.with_ranks(adapter, *fleet.ranks[job])
            observe(Round(name, step, own, fleet.losses[job, :step].copy()))
