"""Where parameters and batches lie on a mesh of devices.

Three axes: `data` repeats the model, `fsdp` splits every matrix over its width and gathers
it where it is used, `tensor` splits heads and feed-forward widths. Batches are split over
`data` and `fsdp`. One device is a mesh of one.

Legend: v vocabulary, d width, o heads times head width, f feed-forward width, l layers.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cifr_jax.errors import UserError
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.shapes import parameter_shapes

AXES = ("data", "fsdp", "tensor")
BATCH = PartitionSpec(("data", "fsdp"))  # of the leading axis of a batch

# Axes of each parameter; matrices inside blocks have a leading axis over layers.
_IN = (None, "fsdp", "tensor")  # [l, d, o] or [l, d, f]
_OUT = (None, "tensor", "fsdp")  # [l, o, d] or [l, f, d]
_SPECS: dict[str, tuple[str | None, ...]] = {
    "embed": ("tensor", "fsdp"),  # [v, d]
    "head": ("fsdp", "tensor"),  # [d, v]
    **dict.fromkeys(("q", "k", "v", "gate", "up"), _IN),
    **dict.fromkeys(("o", "down"), _OUT),
    # [l, d] and [d]: small, but on each device all of them would outweigh a matrix's part.
    **dict.fromkeys(
        ("attn_norm", "mlp_norm", "attn_post_norm", "mlp_post_norm"), (None, "fsdp")
    ),
    "final_norm": ("fsdp",),
    # Beside the columns that they are added to: [l, o] or [l, f].
    **dict.fromkeys(
        ("q_bias", "k_bias", "v_bias", "gate_bias", "up_bias"), (None, "tensor")
    ),
}


def join_processes(settings: Any) -> None:
    """Make this process one of many, before anything asks for a device.

    Args:
      settings: config group `distributed`: `enabled`; `coordinator` (host:port),
        `processes` and `process` (this one's number), or "" and 0 where a TPU pod or SLURM
        tells them.

    Raises:
      UserError: the others were not found.
    """
    if not settings.enabled:
        return
    given = (
        (settings.coordinator, settings.processes, settings.process)
        if settings.coordinator
        else ()
    )
    try:
        jax.distributed.initialize(*given)
    except (RuntimeError, ValueError) as error:
        what = f"the processes did not find each other ({str(error).splitlines()[0]})"
        mend = "give distributed.coordinator, .processes and .process"
        raise UserError("config.distributed", what, mend) from error


def make_mesh(sizes: Mapping[str, int] | None = None) -> Mesh:
    """A mesh over all devices of all processes.

    Args:
      sizes: devices along each of `AXES`; missing: 1; -1 (once): whatever is left.

    Raises:
      UserError: an unknown axis, or sizes that do not use all devices.
    """
    wanted = dict.fromkeys(AXES, 1) | dict(sizes or {"data": -1})
    unknown = sorted(set(wanted) - set(AXES))
    if unknown:
        what = f"unknown axis {', '.join(unknown)}"
        raise UserError("config.mesh", what, f"known: {', '.join(AXES)}")
    n = jax.device_count()
    given = math.prod(size for size in wanted.values() if size != -1)
    free = [axis for axis, size in wanted.items() if size == -1]
    if len(free) == 1 and given > 0 and n % given == 0:
        wanted[free[0]] = n // given
    shape = tuple(wanted[axis] for axis in AXES)
    if min(shape) < 1 or math.prod(shape) != n:
        axes = ", ".join(f"{axis} {wanted[axis]}" for axis in AXES)
        what = f"{axes}: a mesh that does not use the {n} devices"
        raise UserError("config.mesh", what, "give sizes whose product is that, or one -1")
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 3)


def _spec(mesh: Mesh, name: str, shape: tuple[int, ...]) -> PartitionSpec:
    axes = _SPECS.get(name, ())
    # What does not divide stays whole: odd vocabularies and few key/value heads.
    return PartitionSpec(
        *(
            axis if axis and size % mesh.shape[axis] == 0 else None
            for axis, size in zip(axes, shape, strict=False)
        )
    )


def parameter_shardings(config: DecoderConfig, mesh: Mesh) -> dict[str, Any]:
    """A sharding for every parameter, in the tree of `decoder.Decoder.split`."""

    def walk(tree: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: walk(value)
            if isinstance(value, Mapping)
            else NamedSharding(mesh, _spec(mesh, name, tuple(value)))
            for name, value in tree.items()
        }

    return walk(parameter_shapes(config))


def place(x: Any, sharding: NamedSharding) -> jax.Array:
    """A host array on the mesh; every process copies the slices of its own devices only."""
    x = np.asarray(x)
    cut: Callable[[Any], np.ndarray] = lambda index: x[index]  # noqa: E731
    return jax.make_array_from_callback(x.shape, sharding, cut)


def place_parameters(config: DecoderConfig, params: Any, mesh: Mesh) -> Any:
    """Parameters on the mesh, as `parameter_shardings` says."""
    return jax.tree.map(place, params, parameter_shardings(config, mesh))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Arrays of the same value on every device."""
    return jax.tree.map(lambda x: place(x, NamedSharding(mesh, PartitionSpec())), tree)
