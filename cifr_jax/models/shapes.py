"""Shapes of a decoder's parameters, which its config decides.

The tree: `embed` [v, d], `layers` (every entry with a leading axis over layers),
`final_norm` [d] and, where the ends are not tied, `head` [d, v].

Legend: l layers, d model width, n heads, k key/value heads, h head width, f feed-forward
width, v vocabulary.
"""

from typing import Any

from cifr_jax.models.config import DecoderConfig

LAYER_MATRICES = ("q", "k", "v", "o", "gate", "up", "down")


def matrix_shapes(config: DecoderConfig) -> dict[str, tuple[int, int]]:
    """`(d_in, d_out)` of every matrix of a block."""
    d, f, h = config.d_model, config.d_ff, config.d_head
    q, kv = config.n_heads * h, config.n_kv_heads * h
    return {"q": (d, q), "k": (d, kv), "v": (d, kv), "o": (q, d),
            "gate": (d, f), "up": (d, f), "down": (f, d)}  # fmt: skip


def norm_shapes(config: DecoderConfig) -> dict[str, tuple[int]]:
    """Width of every norm of a block."""
    d, h = config.d_model, config.d_head
    names: tuple[str, ...] = ("attn_norm", "mlp_norm") if config.pre_norm else ()
    names += ("attn_post_norm", "mlp_post_norm") if config.post_norm else ()
    widths = dict.fromkeys(names, (d,))
    if config.qk_norm == "head":
        widths |= {"q_norm": (h,), "k_norm": (h,)}
    if config.qk_norm == "width":
        widths |= {"q_norm": (config.n_heads * h,), "k_norm": (config.n_kv_heads * h,)}
    return widths


def bias_shapes(config: DecoderConfig) -> dict[str, tuple[int]]:
    """Width of every bias of a block, named after its matrix."""
    matrices = matrix_shapes(config)
    return {f"{name}_bias": matrices[name][1:] for name in config.biases}


def parameter_shapes(config: DecoderConfig) -> dict[str, Any]:
    """The parameter tree with a shape in place of each array."""
    n, d, v = config.n_layers, config.d_model, config.vocab_size
    block = matrix_shapes(config) | norm_shapes(config) | bias_shapes(config)
    layers = {name: (n, *shape) for name, shape in block.items()}
    tree = {"embed": (v, d), "layers": layers, "final_norm": (d,)}
    return tree if config.tie_embeddings else tree | {"head": (d, v)}
