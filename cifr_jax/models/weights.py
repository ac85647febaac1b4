"""Parameters out of a checkpoint of any format, array by array, onto their devices.

Every tensor of a checkpoint must be used and every parameter filled. An array is read piece
by piece, cast on the way, into memory from which the device takes it; a process reads what
its own devices hold. On a CPU the device takes over the memory itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from cifr_jax.errors import UserError
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Params
from cifr_jax.models.families import Piece, parameter_shapes, tensor_slots
from cifr_jax.models.sharding import parameter_shardings

_AT_ONCE = 2**19  # numbers that are cast at a time: they are transposed within a cache
_ALIGNMENT = 64  # bytes: XLA:CPU copies what begins elsewhere
# A tokenizer may lack this share of the embedding's rows: models pad to round numbers (the
# larger Qwen2.5 by 0.3%, Phi-3 by 0.2%). Small vocabularies are padded to multiples of 128.
_MOST_PADDING, _PADDING_SHARE = 128, 0.05

Index = tuple[slice, ...]


class Found(NamedTuple):
    """A tensor of a checkpoint: its file and its shape."""

    where: str
    shape: tuple[int, ...]


class Checkpoint(Protocol):
    """What a format gives: tensors under the names and in the layout of Hugging Face."""

    @property
    def found(self) -> Mapping[str, Found]: ...
    def rows(self, name: str, start: int, stop: int) -> np.ndarray: ...


def check_tensors(config: DecoderConfig, found: Mapping[str, Found], where: str) -> None:
    """Compares the tensors of a checkpoint with those that the config asks for.

    Args:
      config: the shape.
      found: by name; without tensors that may be ignored.
      where: the checkpoint.

    Raises:
      UserError: missing or unknown tensors, or a wrong shape.
    """
    mend = "give the config.json that belongs to the weights"
    # Before expanding the table: a config may claim any number of layers.
    if config.n_layers > len(found):
        what = f"{len(found)} tensors cannot hold {config.n_layers} layers"
        raise UserError(where, what, mend)
    slots = tensor_slots(config)
    for what, names in (
        ("missing tensors", slots.keys() - found.keys()),
        ("tensors that the decoder does not know", found.keys() - slots.keys()),
    ):
        if names:
            listed = sorted(names)
            more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
            raise UserError(where, f"{what}: {', '.join(listed[:5])}{more}", mend)
    for name, (file, shape) in found.items():
        if shape != slots[name].shape:
            what = f"{name} has shape {list(shape)}, not {list(slots[name].shape)}"
            raise UserError(file, what, mend)


def check_vocabulary(config: DecoderConfig, tokens: int, where: str) -> None:
    """Compares the size of the vocabulary with the embedding, which may have rows to spare.

    Args:
      config: the shape.
      tokens: largest token id plus one.
      where: the checkpoint.

    Raises:
      UserError: more tokens than rows, or fewer by more than models are padded.
    """
    rows = config.vocab_size
    if tokens > rows or rows - tokens > max(_MOST_PADDING, _PADDING_SHARE * rows):
        what = f"{tokens} tokens, but {rows} embeddings"
        raise UserError(where, what, "give the tokenizer that belongs to the model")


def read_parameters(
    config: DecoderConfig, checkpoint: Checkpoint, dtype: str, mesh: Mesh | None = None
) -> Params:
    """The parameter tree of a checkpoint that `check_tensors` let pass.

    Args:
      config: the shape.
      checkpoint: its tensors.
      dtype: of the parameters.
      mesh: where they go, as `sharding.parameter_shardings` says; None: the default device.

    Returns:
      JAX arrays, matrices `[in, out]`, layers stacked.

    Raises:
      UserError: weights that are not finite, also for want of range in `dtype`.
    """
    pieces: dict[tuple[str, ...], list[tuple[str, Piece]]] = {}
    for name, slot in tensor_slots(config).items():
        for piece in slot.pieces:
            pieces.setdefault(piece.path, []).append((name, piece))
    reader = _Reader(checkpoint, dtype)

    def walk(shapes: Mapping[str, Any], shardings: Mapping[str, Any], path=()) -> Params:
        return {
            name: walk(node, shardings.get(name, {}), (*path, name))
            if isinstance(node, Mapping)
            else reader.array(pieces[*path, name], node, shardings.get(name))
            for name, node in shapes.items()
        }

    placed = {} if mesh is None else parameter_shardings(config, mesh)
    return walk(parameter_shapes(config), placed)


class _Reader:
    def __init__(self, checkpoint: Checkpoint, dtype: str):
        self._checkpoint, self._dtype = checkpoint, jnp.dtype(dtype)

    def array(
        self,
        pieces: Sequence[tuple[str, Piece]],
        shape: tuple[int, ...],
        sharding: NamedSharding | None,
    ) -> jax.Array:
        """One array of the tree, on its devices."""
        if sharding is None:
            return jax.device_put(self._part(pieces, [(0, size) for size in shape]))
        devices: dict[tuple[tuple[int, int], ...], list[jax.Device]] = {}
        for device, index in sharding.addressable_devices_indices_map(shape).items():
            assert index is not None
            spans = zip(index, shape, strict=True)
            bounds = tuple(cut.indices(size)[:2] for cut, size in spans)
            devices.setdefault(bounds, []).append(device)
        shards = []
        for bounds, holders in devices.items():
            part = self._part(pieces, bounds)
            shards += [jax.device_put(part, device) for device in holders]
        return jax.make_array_from_single_device_arrays(shape, sharding, shards)

    def _part(
        self, pieces: Sequence[tuple[str, Piece]], bounds: Sequence[tuple[int, int]]
    ) -> np.ndarray:
        """What lies between bounds, one pair for each axis."""
        out = _aligned(tuple(stop - start for start, stop in bounds), self._dtype)
        for name, piece in pieces:
            into, own = out, list(bounds)
            if piece.layer is not None:
                low, high = own.pop(0)
                if not low <= piece.layer < high:
                    continue
                into = out[piece.layer - low]
            if piece.transposed:
                into, own = into.T, own[::-1]
            (start, stop), *columns = own
            self._copy(
                name, piece.rows.start + start, piece.rows.start + stop, columns, into
            )
        return out

    def _copy(self, name: str, start: int, stop: int, columns, into: np.ndarray) -> None:
        """Copies rows of a tensor, and of them the given columns, a few at a time."""
        where, shape = self._checkpoint.found[name]
        step = max(1, _AT_ONCE * shape[0] // int(np.prod(shape)))
        cut = tuple(slice(*bounds) for bounds in columns)
        for low in range(start, stop, step):
            high = min(low + step, stop)
            rows = self._checkpoint.rows(name, low, high)[:, *cut]
            with np.errstate(over="ignore", invalid="ignore"):  # reported below
                rows = rows.astype(self._dtype, copy=False)
                # NaN and infinity survive a sum, which needs no mask of the same size.
                total = rows.sum(dtype=np.float64)
            if not np.isfinite(total):
                what = f"{name} holds NaN or infinite values as {self._dtype.name}"
                raise UserError(where, what, "use a sound checkpoint")
            into[low - start : high - start] = rows


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    n_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    memory = np.empty(n_bytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + n_bytes].view(dtype).reshape(shape)
