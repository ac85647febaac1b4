"""What a fine-tuning run needs, told from shapes alone, before any weight is read."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from cifr_jax.data.packing import Packed
from cifr_jax.errors import UserError
from cifr_jax.finetune.loss import most_targets
from cifr_jax.finetune.memory import Estimate, estimate
from cifr_jax.finetune.optimiser import TrainConfig, program_of
from cifr_jax.models import quantised
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Adapter
from cifr_jax.models.shapes import parameter_shapes
from cifr_jax.models.sharding import parameter_shardings


def needs_of_device(
    base: DecoderConfig,
    stored: tuple[str, str],
    adapter: Adapter,
    settings: TrainConfig,
    rows: Packed,
    evaluated: bool,
    mesh: Mesh,
) -> Estimate:
    """Bytes that training takes on each device: its part of base and micro-batch, and all
    of the adapter's state.

    Args:
      base: shape of the model.
      stored: dtype of its parameters, and how its blocks are quantised (empty: not).
      adapter: of the job, or its shapes.
      settings: of the run.
      rows: packed.
      evaluated: the best adapter so far is kept beside.
      mesh: devices.

    Raises:
      UserError: batches that do not divide over the mesh.
    """
    dtype, kind = stored
    if kind and mesh.size > 1:
        what, mend = "a quantised base lies on one device", "give no mesh, or no kind"
        raise UserError("config.quantise", what, mend)
    shapes = _as_arrays(parameter_shapes(base), dtype)
    program = program_of([settings], most_targets(rows), mesh)
    layouts = jax.tree.leaves(parameter_shardings(base, mesh))
    part = sum(
        math.prod(layout.shard_shape(x.shape)) * x.dtype.itemsize
        for x, layout in zip(jax.tree.leaves(shapes), layouts, strict=True)
    )
    if kind:
        shapes = jax.eval_shape(lambda params: quantised.quantise(params, kind), shapes)
        part = quantised.n_bytes(shapes)
    whole = estimate(base, shapes, program, adapter, rows.tokens_rt.shape, evaluated)
    split = mesh.shape["data"] * mesh.shape["fsdp"]
    return Estimate(part, whole.state, whole.activations // split)


def _as_arrays(shapes: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    return {
        name: _as_arrays(node, dtype)
        if isinstance(node, Mapping)
        else jax.ShapeDtypeStruct(node, jnp.dtype(dtype))
        for name, node in shapes.items()
    }


def describe(
    name: str,
    stored: tuple[str, str],
    settings: TrainConfig,
    rows: Packed,
    mesh: Mesh,
    needs: Estimate,
    first_example: str,
) -> str:
    """The plan of a run, as text: devices, bytes on each of them, the first example.

    Args:
      name: of the base, with its size.
      needs: of each device; see `needs_of_device`, also for what is not said here.
      first_example: as the chat template renders it.
    """
    sizes = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    figures = {
        "its part of the base": needs.base,
        "adapter, optimiser and rows": needs.state,
        "activations (estimate)": needs.activations,
        "together": needs.total(1, 1),
    }
    n_rows, length = rows.tokens_rt.shape
    kept = stored[0] + (f", blocks in {stored[1]}" if stored[1] else "")
    lines = [
        f"base: {name} in {kept}",
        f"mesh: {sizes} ({mesh.size} of {jax.device_count()} devices)",
        "bytes on each device:",
        *(f"  {what}: {n:,} ({n / 2**30:.3g} GiB)" for what, n in figures.items()),
        f"training: {settings.steps} steps on {n_rows} packed rows of {length} tokens",
        "first example, as rendered:",
        first_example,
    ]
    return "\n".join(lines)
