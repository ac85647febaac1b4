"""How much memory a fleet needs, and how many jobs therefore train at once.

An estimate from shapes alone, before anything is compiled or allocated. `benchmarks.fleet`
and the tests hold it against what XLA reports of the compiled program.

Legend: k slots, b rows of a micro-batch, t tokens, d model width, v vocabulary.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from cifr_jax.errors import UserError
from cifr_jax.finetune.loss import LOGITS_AT_ONCE
from cifr_jax.finetune.optimiser import Program
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Adapter
from cifr_jax.models.quantised import n_bytes

_SHARE = 0.85  # of a device's memory that is planned with: the rest is the allocator's
_CGROUP = Path("/sys/fs/cgroup/memory.max")


class Estimate(NamedTuple):
    """Bytes that training needs.

    Attributes:
      base: parameters of the base model, once.
      state: of one slot: adapter, two moments, rows; the best adapter where evaluated.
      activations: of one job's micro-batch, kept for the backward pass.
    """

    base: int
    state: int
    activations: int

    def total(self, slots: int, at_once: int) -> int:
        """Bytes of a fleet of `slots`, of which `at_once` are computed side by side."""
        return self.base + slots * self.state + at_once * self.activations


def estimate(
    base: DecoderConfig,
    params: Any,
    program: Program,
    adapter: Adapter,
    rows: tuple[int, int],
    evaluated: bool = False,
) -> Estimate:
    """What one fleet on this base needs.

    Args:
      base: shape of the model.
      params: its parameters, or their shapes (`jax.eval_shape`).
      program: what the jobs share.
      adapter: of the largest job.
      rows: packed rows and tokens of a row of the largest job.
      evaluated: the best adapter so far is kept beside.
    """
    b, t = program.batch_rows, rows[1]
    heads, d = base.n_heads * base.d_head, base.d_model
    kv = base.n_kv_heads * base.d_head
    width = np.dtype(params["embed"].dtype).itemsize
    # Of each token of a block: the residual stream and both norms, queries, keys and values
    # before and after rotation, what attention returns, four of the gated feed-forward.
    wide = 6 * d + 3 * heads + 5 * kv + 4 * base.d_ff
    # What other families keep besides: more norms, a gate whose slope takes another array.
    wide += 4 * d if base.post_norm else 0
    wide += 2 * (heads + kv) if base.qk_norm else 0
    wide += base.d_ff if base.activation == "gelu_tanh" else 0
    attention = (3 if base.attention_cap is None else 4) * base.n_heads * t
    block = wide + attention
    kept = base.n_layers * d + block if program.remat else base.n_layers * block
    logits = 3 * min(b * program.max_targets * base.vocab_size, LOGITS_AT_ONCE)
    # The gradient of the factors is there beside them; a tenth for what comes and goes.
    gradient = n_bytes(adapter)
    return Estimate(
        n_bytes(params),
        (4 if evaluated else 3) * n_bytes(adapter) + rows[0] * t * 16,
        int(1.1 * (b * t * kept * width + logits * 4 + gradient)),
    )


def memory_of_device() -> int | None:
    """Bytes that may be planned with on the default device; None where nobody says."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        limit = (device.memory_stats() or {}).get("bytes_limit")
        return int(_SHARE * limit) if limit else None
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
    if _CGROUP.exists() and (text := _CGROUP.read_text().strip()).isdigit():
        found = min(found, int(text))
    return int(_SHARE * found)


def choose(needs: Estimate, jobs: int, budget: int | None) -> tuple[int, int]:
    """Slots, and how many of them are computed side by side.

    On a CPU one job is computed at a time, since side by side is slower (its caches hold
    one job's activations: 1.3 to 1.8 times on the tiny base); accelerators are filled.

    Args:
      needs: the estimate.
      jobs: in the queue.
      budget: bytes, or None: unknown, and all jobs are taken.

    Raises:
      UserError: not even one job fits.
    """
    together = jax.default_backend() != "cpu"
    if budget is None:
        return jobs, jobs if together else 1
    if needs.total(1, 1) > budget:
        sizes = ", ".join(
            f"{name} {getattr(needs, name) / 2**30:.2f}" for name in Estimate._fields
        )
        what = f"one job needs about {needs.total(1, 1) / 2**30:.2f} GiB ({sizes}), "
        what += f"and {budget / 2**30:.2f} are there"
        mend = "lower train.batch_rows, set train.remat=True or dtype=bfloat16"
        raise UserError("memory", what, mend)
    left = budget - needs.base
    if together:
        slots = min(jobs, left // (needs.state + needs.activations))
        return slots, slots
    return min(jobs, (left - needs.activations) // max(needs.state, 1)), 1
