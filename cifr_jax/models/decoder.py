"""The decoder: a Llama-architecture transformer with optional low-rank adapters.

`Decoder` is the Flax NNX module that defines the parameters; `split` it once and the pure
functions below run on the plain tree, so that one frozen base serves many adapters (with
`jax.vmap` over a leading adapter axis) and checkpoints stay nested dicts.

Legend: b batch, t time (queries), s time (keys, cache slots), d model width, n heads,
k key/value heads, h head width, f feed-forward width, r LoRA rank, l layers, v vocabulary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cifr_jax.models.config import DecoderConfig

Params = dict[str, Any]

LAYER_MATRICES = ("q", "k", "v", "o", "gate", "up", "down")


class Adapter(NamedTuple):
    """LoRA factors, both with the long axis last (2x faster backward on XLA:CPU).

    `layers[name]` is `{"a": [l, r, d_in], "b": [l, r, d_out]}`; `embed` and `head` the same
    without the layer axis. `scale` `[l + 1]` is alpha / r for every block, zero for blocks
    that are not adapted; that of embedding and head comes last. Any entry may be missing.
    """

    layers: dict[str, dict[str, jax.Array]]
    embed: dict[str, jax.Array] | None
    head: dict[str, jax.Array] | None
    scale: Any  # an array; None while an optimiser holds the factors alone


class Dropout(NamedTuple):
    """Dropout of the adapters' inputs, while training: a share, and a JAX random key."""

    rate: Any
    key: jax.Array


class Cache(NamedTuple):
    """Keys and values of every layer, `[l, b, s, k, h]`."""

    k_lbskh: jax.Array
    v_lbskh: jax.Array


def matrix_shapes(config: DecoderConfig) -> dict[str, tuple[int, int]]:
    """`(d_in, d_out)` of every matrix of a block."""
    d, f, h = config.d_model, config.d_ff, config.d_head
    q, kv = config.n_heads * h, config.n_kv_heads * h
    return {"q": (d, q), "k": (d, kv), "v": (d, kv), "o": (q, d),
            "gate": (d, f), "up": (d, f), "down": (f, d)}  # fmt: skip


class Blocks(nnx.Module):
    """All blocks, each parameter stacked over layers: one scan body, one compile."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        n = config.n_layers
        for name, (d_in, d_out) in matrix_shapes(config).items():
            # Residual writers are scaled down with depth, as GPT-2 does, to keep the
            # residual stream's variance bounded at initialisation.
            std = d_in**-0.5 * ((2 * n) ** -0.5 if name in ("o", "down") else 1.0)
            value = std * jax.random.normal(rngs.params(), (n, d_in, d_out))
            setattr(self, name, nnx.Param(value))
        self.attn_norm = nnx.Param(jnp.ones((n, config.d_model)))
        self.mlp_norm = nnx.Param(jnp.ones((n, config.d_model)))


class Decoder(nnx.Module):
    """Parameters of a decoder, freshly initialised.

    Args:
      config: the shape.
      rngs: NNX random streams; `params` is used.
    """

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        shape = (config.vocab_size, config.d_model)
        self.embed = nnx.Param(0.02 * jax.random.normal(rngs.params(), shape))
        self.layers = Blocks(config, rngs=rngs)
        self.final_norm = nnx.Param(jnp.ones(config.d_model))
        if not config.tie_embeddings:
            self.head = nnx.Param(0.02 * jax.random.normal(rngs.params(), shape[::-1]))

    def split(self) -> Params:
        """The plain parameter tree on which the pure functions of this module run."""
        return nnx.to_pure_dict(nnx.state(self, nnx.Param))

    def __call__(self, tokens_bt, mask_bt=None, adapter: Adapter | None = None):
        """Logits `[b, t, v]`; see `forward`."""
        return forward(self.config, self.split(), tokens_bt, mask_bt, adapter)


def rms_norm(x_btd, scale_d, eps: float):
    """RMSNorm in fp32, the way Llama checkpoints were trained."""
    x32 = x_btd.astype(jnp.float32)
    x32 = x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), -1, keepdims=True) + eps)
    return x32.astype(x_btd.dtype) * scale_d


def rope_frequencies(config: DecoderConfig) -> np.ndarray:
    """Inverse frequencies `[h / 2]` in fp32, rescaled the llama3 way where configured."""
    h = config.d_head
    # fp32 throughout, as the checkpoints' authors computed them: fp64 differs at 8k.
    freq = 1.0 / (
        np.float32(config.rope_theta) ** (np.arange(0, h, 2, dtype=np.float32) / h)
    )
    scaling = config.rope_scaling
    if scaling is None:
        return freq.astype(np.float32)
    wavelength = 2 * np.pi / freq
    turns = scaling.original_max_positions / wavelength
    smooth = (turns - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    smooth = np.clip(smooth, 0.0, 1.0)
    return (freq * (smooth + (1 - smooth) / scaling.factor)).astype(np.float32)


def apply_rope(x_btnh, sin_bth, cos_bth):
    """Rotate the two halves of each head (the Hugging Face layout)."""
    x1, x2 = jnp.split(x_btnh, 2, axis=-1)
    sin, cos = sin_bth[:, :, None], cos_bth[:, :, None]
    return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], -1)


def linear(x_btd, w, lora: dict | None, scale, dropout: Dropout | None = None):
    """`x @ w`, plus the low-rank update. Inputs are flattened to two dimensions first:
    XLA:CPU runs thin three-dimensional products twice as slowly."""
    x_nd = x_btd.reshape(-1, x_btd.shape[-1])
    y = x_nd @ w
    if lora is not None:
        if dropout is not None:
            keep = 1 - dropout.rate
            kept = jax.random.bernoulli(dropout.key, keep, x_nd.shape)
            x_nd = jnp.where(kept, x_nd / keep, 0).astype(x_nd.dtype)
        thin = x_nd @ lora["a"].T.astype(x_nd.dtype)
        y = y + scale.astype(y.dtype) * (thin @ lora["b"].astype(y.dtype))
    return y.reshape(*x_btd.shape[:-1], w.shape[-1])


def embed(params: Params, tokens_bt, adapter: Adapter | None = None):
    """Token embeddings `[b, t, d]`, with the adapter's update of the looked-up rows."""
    x_btd = params["embed"][tokens_bt]
    if adapter is not None and adapter.embed is not None:
        a_btr = adapter.embed["a"].T[tokens_bt]
        x_btd = x_btd + (adapter.scale[-1] * (a_btr @ adapter.embed["b"])).astype(
            x_btd.dtype
        )
    return x_btd


def unembed(config: DecoderConfig, params: Params, x_btd, adapter: Adapter | None = None):
    """Final norm and head: logits `[b, t, v]`."""
    x_btd = rms_norm(x_btd, params["final_norm"], config.norm_eps)
    head = params["embed"].T if config.tie_embeddings else params["head"]
    lora = adapter.head if adapter is not None else None
    return linear(x_btd, head, lora, adapter.scale[-1] if adapter is not None else None)


def backbone(
    config: DecoderConfig,
    params: Params,
    x_btd,
    positions_bt,
    attend_bts,
    adapter: Adapter | None = None,
    cache: Cache | None = None,
    cache_start=0,
    reduce: Callable[[jax.Array], Any] | None = None,
    dropout: Dropout | None = None,
    remat: bool = False,
):
    """Run all blocks.

    Args:
      x_btd: embedded tokens.
      positions_bt: position of every token in its own text.
      attend_bts: True where query t may see key s.
      adapter: LoRA factors, or None for the base.
      cache: keys and values to extend; the t new ones go to slots `cache_start...`.
      reduce: pools the residual stream after each block, inside the scan, so that
        `[l, b, t, d]` never exists.
      dropout: of the inputs of the low-rank updates inside blocks.
      remat: keep only the inputs of blocks for the backward pass.

    Returns:
      `(x_btd, new cache or None, reduced)`; `reduced` has a leading layer axis.
    """
    n, k, h = config.n_heads, config.n_kv_heads, config.d_head
    angle_bth = positions_bt[..., None].astype(jnp.float32) * rope_frequencies(config)
    sin, cos = (
        jnp.sin(angle_bth).astype(x_btd.dtype),
        jnp.cos(angle_bth).astype(x_btd.dtype),
    )
    scale_l = adapter.scale[:-1] if adapter is not None else None
    factors = adapter.layers if adapter is not None else {}

    def block(x, per_layer):
        w, lora, scale, cache_l, key = per_layer
        b, t, _ = x.shape

        def adapted(y, name):
            number = LAYER_MATRICES.index(name)
            own = dropout and Dropout(dropout.rate, jax.random.fold_in(key, number))
            return linear(y, w[name], lora.get(name), scale, own)

        y = rms_norm(x, w["attn_norm"], config.norm_eps)
        q = adapted(y, "q").reshape(b, t, n, h)
        keys = adapted(y, "k").reshape(b, t, k, h)
        values = adapted(y, "v").reshape(b, t, k, h)
        q, keys = apply_rope(q, sin, cos), apply_rope(keys, sin, cos)
        if cache_l is not None:
            at = (0, cache_start, 0, 0)
            keys = jax.lax.dynamic_update_slice(cache_l.k_lbskh, keys, at)
            values = jax.lax.dynamic_update_slice(cache_l.v_lbskh, values, at)
            cache_l = Cache(keys, values)
        y = jax.nn.dot_product_attention(q, keys, values, mask=attend_bts[:, None])
        x = x + adapted(y.reshape(b, t, n * h), "o")
        y = rms_norm(x, w["mlp_norm"], config.norm_eps)
        x = x + adapted(jax.nn.silu(adapted(y, "gate")) * adapted(y, "up"), "down")
        return x, (cache_l, reduce(x) if reduce is not None else None)

    # Small models run 25% faster unrolled on a CPU; large ones would compile for minutes.
    # Unrolled, XLA:CPU merges a block computed again with the first time: nothing is saved.
    unroll = config.n_layers if config.n_layers <= 8 and not remat else 1
    key_l = jax.random.split(dropout.key, config.n_layers) if dropout else None
    x_btd, (cache, reduced) = jax.lax.scan(
        jax.checkpoint(block) if remat else block,
        x_btd,
        (params["layers"], factors, scale_l, cache, key_l),
        unroll=unroll,
    )
    return x_btd, cache, reduced


def causal_inputs(mask_bt):
    """Positions `[b, t]` and causal attention mask `[b, t, s]` of padded texts."""
    t = mask_bt.shape[1]
    positions_bt = jnp.maximum(jnp.cumsum(mask_bt, -1) - 1, 0)
    causal_ts = jnp.tril(jnp.ones((t, t), bool))
    # A pad position sees itself, so that no softmax is empty.
    attend = causal_ts & (mask_bt[:, None, :].astype(bool) | jnp.eye(t, dtype=bool))
    return positions_bt, attend


def hidden(config, params, tokens_bt, mask_bt=None, adapter=None, reduce=None):
    """Residual stream after the last block `[b, t, d]`, and the reduced streams."""
    if mask_bt is None:
        mask_bt = jnp.ones(tokens_bt.shape, bool)
    positions_bt, attend_bts = causal_inputs(mask_bt)
    x_btd = embed(params, tokens_bt, adapter)
    x_btd, _, reduced = backbone(
        config, params, x_btd, positions_bt, attend_bts, adapter, reduce=reduce
    )
    return x_btd, reduced


def forward(config, params, tokens_bt, mask_bt=None, adapter: Adapter | None = None):
    """Logits `[b, t, v]` of padded token rows (left or right padding; mask True = text)."""
    x_btd, _ = hidden(config, params, tokens_bt, mask_bt, adapter)
    return unembed(config, params, x_btd, adapter)
