"""A frozen base in few bits: matrices of blocks by qwix, made full where they are used.

int8: one scale for each output channel. nf4: 16 quantiles of a normal distribution times
the largest weight of each block of up to 64 inputs (Dettmers et al. 2023, arXiv 2305.14314,
section 3; their second quantisation, of the scales, is left out: 0.4 bits a weight). Ends,
norms and biases stay as they are, and so do adapters, which are trained in fp32 beside.

A program holds one full matrix at a time: on accelerators the conversion is fused into the
product, on CPUs memory is gained and speed is not.

Legend: n rows, d input width, o output width, l layers.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from cifr_jax.errors import UserError
from cifr_jax.models.shapes import LAYER_MATRICES

KINDS = ("int8", "nf4")
INSTALL = 'pip install "cifr-jax[qlora]"'
_BLOCK = 64  # inputs that share a scale in nf4, at most


def is_quantised(w: Any) -> bool:
    """True of a quantised matrix (`qwix.QArray`)."""
    return hasattr(w, "qvalue")  # qwix is not imported for models that do without


def full(w: Any) -> jax.Array:
    """A matrix as an array; arrays are returned as they are."""
    if not is_quantised(w):
        return w
    import qwix

    return qwix.dequantize(w)


def matmul(x_nd, w):
    """`x_nd @ w` of an array or a quantised matrix."""
    return x_nd @ (full(w).astype(x_nd.dtype) if is_quantised(w) else w)


def quantise(params: dict[str, Any], kind: str) -> dict[str, Any]:
    """Quantises the matrices of blocks, in place: each is freed before the next is read.

    Args:
      params: a parameter tree, or its shapes inside `jax.eval_shape`.
      kind: of `KINDS`.

    Returns:
      The tree.

    Raises:
      UserError: an unknown kind, qwix is missing, or a model that is quantised already.
    """
    if kind not in KINDS:
        raise UserError("quantise", f"{kind!r} is unknown", f"use {' or '.join(KINDS)}")
    try:
        import qwix  # noqa: F401
    except ImportError as error:
        raise UserError("quantise", "needs the Python package qwix", INSTALL) from error
    layers = params["layers"]
    for name in LAYER_MATRICES:
        w_ldo = layers[name]
        if is_quantised(w_ldo):
            raise UserError("quantise", "the model is quantised already", "load it again")
        layers[name] = jax.block_until_ready(_quantised(w_ldo, kind))
        if isinstance(w_ldo, jax.Array) and not isinstance(w_ldo, jax.core.Tracer):
            w_ldo.delete()
    return params


@functools.partial(jax.jit, static_argnums=1)
def _quantised(w_ldo, kind: str):
    """Layer by layer: in fp32 a whole stack would be larger than the model it is of."""
    import qwix

    d = w_ldo.shape[1]
    block = next(size for size in range(min(_BLOCK, d), 0, -1) if d % size == 0)
    return jax.lax.map(
        lambda w_do: qwix.quantize(
            w_do.astype(jnp.float32),
            kind,
            channelwise_axes=[1],
            tiled_axes={0: block} if kind == "nf4" else {},
        ),
        w_ldo,
    )


def n_bytes(tree: Any) -> int:
    """Bytes of all arrays of a tree, scales included, with no padding of small types."""

    def bits(dtype: Any) -> int:
        whole = jnp.issubdtype(dtype, jnp.integer)
        return jnp.iinfo(dtype).bits if whole else 8 * dtype.itemsize

    return sum(x.size * bits(x.dtype) // 8 for x in jax.tree.leaves(tree))
