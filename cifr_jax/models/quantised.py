"""Frozen matrices in few bits, made full again where they are used.

int8: one scale for each output channel, the largest weight being 127. nf4: blocks of 64
weights along the input, each weight the nearest of 16 quantiles of a normal distribution
times the block's largest (Dettmers et al. 2023, arXiv 2305.14314, section 3 and appendix
E), two to a byte. Doubly quantised, the blocks' scales take 8 bits too: their distance from
the matrix's mean, with one scale for each row of blocks, kept in fp32.

A program holds one full matrix at a time: on accelerators the conversion is fused into the
product, on CPUs memory is gained and speed is lost.

Legend: d input width, o output width, g blocks of 64 inputs; any leading axes (layers).
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cifr_jax.errors import UserError
from cifr_jax.models.shapes import LAYER_MATRICES

KINDS = ("int8", "nf4", "nf4_double")
BLOCK = 64
# The levels of appendix E; those between them decide which is nearest.
NF4_LEVELS = np.array(
    [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
     -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
     0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
     0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0],
    np.float32,
)  # fmt: skip
_BETWEEN = (NF4_LEVELS[1:] + NF4_LEVELS[:-1]) / 2


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["codes", "scale"],
    meta_fields=["dtype"],
)
@dataclasses.dataclass(frozen=True)
class Int8:
    """`codes` int8 `[..., d, o]` times `scale` fp32 `[..., o]`: a matrix `[..., d, o]`."""

    codes: Any
    scale: Any
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["codes", "scale", "spread", "mean"],
    meta_fields=["width", "dtype"],
)
@dataclasses.dataclass(frozen=True)
class Nf4:
    """A matrix `[..., d, o]` in blocks of 64 rows, the last filled up with zeros.

    Attributes:
      codes: uint8 `[..., g, 32, o]`: in the upper half of a byte the level's number of one
        of a block's first 32 weights, in the lower half of the weight 32 rows on.
      scale: of blocks, fp32 `[..., g, o]`; int8 where doubly quantised.
      spread, mean: doubly quantised, a scale is `scale` * spread + mean: fp32 `[..., g, 1]`
        and `[..., 1, 1]`; otherwise None.
      width: d.
      dtype: of the matrix made full.
    """

    codes: Any
    scale: Any
    spread: Any
    mean: Any
    width: int
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.codes.shape[:-3], self.width, self.codes.shape[-1])


@jax.jit
def to_int8(w_do) -> Int8:
    """A matrix in int8."""
    w32 = w_do.astype(jnp.float32)
    scale_o = jnp.abs(w32).max(-2) / 127
    safe = jnp.where(scale_o > 0, scale_o, 1)[..., None, :]
    return Int8(jnp.round(w32 / safe).astype(jnp.int8), scale_o, str(w_do.dtype))


@functools.partial(jax.jit, static_argnums=1)
def to_nf4(w_do, double: bool = False) -> Nf4:
    """A matrix in nf4."""
    *lead, d, o = w_do.shape
    blocks = -(-d // BLOCK)
    filled = [(0, 0)] * len(lead) + [(0, blocks * BLOCK - d), (0, 0)]
    w32 = jnp.pad(w_do.astype(jnp.float32), filled).reshape(*lead, blocks, BLOCK, o)
    scale_go, spread, mean = jnp.abs(w32).max(-2), None, None
    if double:
        mean = scale_go.mean((-2, -1), keepdims=True)
        spread = jnp.abs(scale_go - mean).max(-1, keepdims=True) / 127
        safe = jnp.where(spread > 0, spread, 1)
        coded_go = jnp.round((scale_go - mean) / safe).astype(jnp.int8)
        scale_go = coded_go * spread + mean  # what dequantising will see
    safe = jnp.where(scale_go > 0, scale_go, 1)[..., None, :]
    level = jnp.zeros(w32.shape, jnp.uint8)
    for between in _BETWEEN:
        level += (w32 / safe > between).astype(jnp.uint8)
    upper, lower = level[..., : BLOCK // 2, :], level[..., BLOCK // 2 :, :]
    codes = upper << 4 | lower
    return Nf4(codes, coded_go if double else scale_go, spread, mean, d, str(w_do.dtype))


def dequantise(w: Any) -> jax.Array:
    """The full matrix `[..., d, o]`; arrays are returned as they are."""
    if isinstance(w, Int8):
        return (w.codes.astype(jnp.float32) * w.scale[..., None, :]).astype(w.dtype)
    if not isinstance(w, Nf4):
        return w
    scale_go = w.scale
    if w.mean is not None:
        scale_go = scale_go * w.spread + w.mean
    levels = jnp.asarray(NF4_LEVELS)
    halves = jnp.concatenate([levels[w.codes >> 4], levels[w.codes & 15]], -2)
    full = (halves * scale_go[..., None, :]).astype(w.dtype)
    full = full.reshape(*w.codes.shape[:-3], -1, w.codes.shape[-1])
    return full[..., : w.width, :]


def matmul(x_nd, w):
    """`x_nd @ w` of an array or a quantised matrix; codes of int8 are scaled afterwards."""
    if isinstance(w, Int8):
        return (x_nd @ w.codes.astype(x_nd.dtype)) * w.scale.astype(x_nd.dtype)
    return x_nd @ dequantise(w)


def is_quantised(w: Any) -> bool:
    """True of `Int8` and `Nf4`."""
    return isinstance(w, Int8 | Nf4)


def quantise(params: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A parameter tree whose matrices of blocks are quantised; ends and norms are not.

    Args:
      params: the tree; `params["layers"]` must not be needed afterwards: its matrices are
        deleted one by one, so that both versions of all never lie in memory together.
      kind: one of `KINDS`.

    Raises:
      UserError: an unknown kind, or a model that is quantised already.
    """
    if kind not in KINDS:
        raise UserError("quantise", f"{kind!r} is unknown", f"use {', '.join(KINDS)}")
    layers = dict(params["layers"])
    for name in LAYER_MATRICES:
        w = layers[name]
        if is_quantised(w):
            raise UserError("quantise", "the model is quantised already", "load it again")
        # Layer by layer: the codes of a stack pass through several times its size.
        convert = (
            to_int8
            if kind == "int8"
            else functools.partial(_to_nf4_layers, double=kind == "nf4_double")
        )
        layers[name] = jax.block_until_ready(convert(jnp.asarray(w)))
    return {**params, "layers": layers}


@functools.partial(jax.jit, static_argnames="double")
def _to_nf4_layers(w_ldo, double: bool) -> Nf4:
    return jax.lax.map(lambda w_do: to_nf4(w_do, double), w_ldo)


def n_bytes(tree: Any) -> int:
    """Bytes of all arrays of a tree, codes and scales included."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
