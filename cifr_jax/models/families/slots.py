"""Where each tensor of a checkpoint goes in the parameter tree.

A family's table names the tensors; the config decides which of them there are. Hugging
Face stores matrices as [out, in], we as [in, out], layers stacked. A tensor that holds
several of our arrays (Phi-3's queries, keys and values) has them one after the other along
its rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.families.registry import family_of
from cifr_jax.models.shapes import LAYER_MATRICES, parameter_shapes

LAYER = "model.layers.{l}."
_TRANSPOSED = frozenset((*LAYER_MATRICES, "head"))


class Piece(NamedTuple):
    """An array of the tree, or one layer of it, as some rows of a tensor.

    Attributes:
      path: in the parameter tree.
      layer: index into the leading axis; None: the array has no axis over layers.
      transposed: the tensor's rows are the array's columns.
      rows: of the tensor, as a slice.
    """

    path: tuple[str, ...]
    layer: int | None
    transposed: bool
    rows: slice

    def array(self, tree: Mapping[str, Any]) -> Any:
        """The array in a tree, with its axis over layers."""
        node: Any = tree
        for name in self.path:
            node = node[name]
        return node

    def of(self, tree: Mapping[str, Any]) -> np.ndarray:
        """What the piece is of that array, as NumPy sees it."""
        whole = self.array(tree)
        # The layer first: the others may lie on devices.
        return np.asarray(whole if self.layer is None else whole[self.layer])


class Slot(NamedTuple):
    """Where one tensor goes.

    Attributes:
      pieces: that its rows are made of, in order.
      shape: of the tensor in the file.
    """

    pieces: tuple[Piece, ...]
    shape: tuple[int, ...]

    def read(self, tree: Mapping[str, Any]) -> np.ndarray:
        """The tensor as the file holds it, out of a parameter tree."""
        return self.join([piece.of(tree) for piece in self.pieces])

    def join(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The tensor as the file holds it, out of what its pieces are."""
        parts = [
            part.T if piece.transposed else part
            for piece, part in zip(self.pieces, parts, strict=True)
        ]
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return np.ascontiguousarray(whole)


def tensor_slots(config: DecoderConfig) -> dict[str, Slot]:
    """Every tensor that a folder of this config must hold, with its place."""
    shapes = parameter_shapes(config)
    slots: dict[str, Slot] = {}
    for name, arrays in family_of(config).tensors.items():
        inside = name.startswith(LAYER)
        home = shapes["layers"] if inside else shapes
        if not all(array in home for array in arrays):
            continue
        for layer in range(config.n_layers) if inside else (None,):
            pieces, start = [], 0
            for array in arrays:
                path = ("layers", array) if inside else (array,)
                shape = home[array][1:] if inside else home[array]
                stored = shape[::-1] if array in _TRANSPOSED else shape
                rows = slice(start, start + stored[0])
                pieces.append(Piece(path, layer, array in _TRANSPOSED, rows))
                start = rows.stop
            slots[name.format(l=layer)] = Slot(tuple(pieces), (start, *stored[1:]))
    return slots
