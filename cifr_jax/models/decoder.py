"""The decoder: a transformer of any family in `models.families`, with low-rank adapters.

One program for all: what a config does not switch on leaves no trace in it, and what only
some layers have (a window, another rotation or none) is an array over layers.

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
from flax import nnx

from cifr_jax.models.attention import attention, causal_inputs, within_window
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.quantised import matmul
from cifr_jax.models.rope import apply_rope, sin_cos
from cifr_jax.models.shapes import LAYER_MATRICES, bias_shapes, matrix_shapes, norm_shapes

Params = dict[str, Any]


class Adapter(NamedTuple):
    """LoRA factors, both with the long axis last (2x faster backward on XLA:CPU).

    `layers[name]` is `{"a": [l, r, d_in], "b": [l, r, d_out]}`; `embed` and `head` the same
    without the layer axis. `scale` `[l + 1]` is alpha / r for every block, zero for blocks
    that are not adapted; that of embedding and head comes last. Any entry may be missing.

    Rows of a batch may have adapters of their own (`models.adapter_rows`): factors of m
    adapters then stand one after the other along r, and `scale` is `[l + 1, b, m]`.
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


def _fresh_norm(config: DecoderConfig, shape: tuple[int, ...]):
    return jnp.zeros(shape) if config.norm == "gemma" else jnp.ones(shape)


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
        for name, shape in norm_shapes(config).items():
            setattr(self, name, nnx.Param(_fresh_norm(config, (n, *shape))))
        for name, shape in bias_shapes(config).items():
            setattr(self, name, nnx.Param(jnp.zeros((n, *shape))))


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
        self.final_norm = nnx.Param(_fresh_norm(config, (config.d_model,)))
        if not config.tie_embeddings:
            self.head = nnx.Param(0.02 * jax.random.normal(rngs.params(), shape[::-1]))

    def split(self) -> Params:
        """The plain parameter tree on which the pure functions of this module run."""
        return nnx.to_pure_dict(nnx.state(self, nnx.Param))

    def __call__(self, tokens_bt, mask_bt=None, adapter: Adapter | None = None):
        """Logits `[b, t, v]`; see `forward`."""
        return forward(self.config, self.split(), tokens_bt, mask_bt, adapter)


def rms_norm(x_btd, scale_d, config: DecoderConfig):
    """RMSNorm of the last axis in fp32, rounded where the family rounds."""
    x32 = x_btd.astype(jnp.float32)
    x32 = x32 * jax.lax.rsqrt(
        jnp.mean(jnp.square(x32), -1, keepdims=True) + config.norm_eps
    )
    if config.norm == "llama":
        return x32.astype(x_btd.dtype) * scale_d
    scale_d = scale_d.astype(jnp.float32) + (1.0 if config.norm == "gemma" else 0.0)
    return (x32 * scale_d).astype(x_btd.dtype)


def _of_rows(thin, scale_bm):
    """Of every row the part of its own adapter, scaled: thin `[b * t or b, t, m * r]`."""
    b, m = scale_bm.shape
    parts_btmr = thin.reshape(b, -1, m, thin.shape[-1] // m)
    scale_b1m1 = scale_bm[:, None, :, None].astype(thin.dtype)
    return (parts_btmr * scale_b1m1).reshape(thin.shape)


def linear(x_btd, w, lora: dict | None, scale, dropout: Dropout | None = None):
    """`x @ w`, plus the low-rank update. Inputs are flattened to two dimensions first:
    XLA:CPU runs thin three-dimensional products twice as slowly."""
    x_nd = x_btd.reshape(-1, x_btd.shape[-1])
    y = matmul(x_nd, w)
    if lora is not None:
        if dropout is not None:
            keep = 1 - dropout.rate
            kept = jax.random.bernoulli(dropout.key, keep, x_nd.shape)
            x_nd = jnp.where(kept, x_nd / keep, 0).astype(x_nd.dtype)
        thin = x_nd @ lora["a"].T.astype(x_nd.dtype)
        if scale.ndim == 2:
            y = y + _of_rows(thin, scale) @ lora["b"].astype(y.dtype)
        else:
            y = y + scale.astype(y.dtype) * (thin @ lora["b"].astype(y.dtype))
    return y.reshape(*x_btd.shape[:-1], y.shape[-1])


def embed(params: Params, tokens_bt, adapter: Adapter | None = None):
    """Token embeddings `[b, t, d]`, with the adapter's update of the looked-up rows."""
    x_btd = params["embed"][tokens_bt]
    if adapter is not None and adapter.embed is not None:
        a_btr, scale = adapter.embed["a"].T[tokens_bt], adapter.scale[-1]
        if scale.ndim == 2:
            update_btd = _of_rows(a_btr, scale) @ adapter.embed["b"]
        else:
            update_btd = scale * (a_btr @ adapter.embed["b"])
        x_btd = x_btd + update_btd.astype(x_btd.dtype)
    return x_btd


def unembed(config: DecoderConfig, params: Params, x_btd, adapter: Adapter | None = None):
    """Final norm and head: logits `[b, t, v]`."""
    x_btd = rms_norm(x_btd, params["final_norm"], config)
    head = params["embed"].T if config.tie_embeddings else params["head"]
    lora = adapter.head if adapter is not None else None
    scale = adapter.scale[-1] if adapter is not None else None
    logits_btv = linear(x_btd, head, lora, scale)
    cap = config.logit_cap
    return logits_btv if cap is None else cap * jnp.tanh(logits_btv / cap)


def _layer_kinds(config: DecoderConfig) -> dict[str, jax.Array]:
    """What differs between layers, as booleans `[l]`; nothing where all are alike."""

    def chosen(layers):
        return jnp.zeros(config.n_layers, bool).at[jnp.array(layers)].set(True)

    kinds = {}
    if 0 < len(config.window_layers) < config.n_layers:
        kinds["window"] = chosen(config.window_layers)
    if config.no_rope_layers:
        kinds["still"] = chosen(config.no_rope_layers)
    return kinds


class _Rotation:
    """Sines and cosines of a forward pass, and which of them a layer takes."""

    def __init__(self, config: DecoderConfig, positions_bt, attend_bts, dtype):
        inputs = config, positions_bt, attend_bts, dtype
        all_local = len(config.window_layers) == config.n_layers
        self.common = sin_cos(*inputs, local=all_local)
        self.local = None
        if config.local_rope is not None and config.window_layers and not all_local:
            self.local = sin_cos(*inputs, local=True)

    def of(self, kind: dict[str, jax.Array]):
        sin, cos = self.common
        if self.local is not None:
            sin = jnp.where(kind["window"], self.local[0], sin)
            cos = jnp.where(kind["window"], self.local[1], cos)
        if "still" in kind:
            sin, cos = jnp.where(kind["still"], 0, sin), jnp.where(kind["still"], 1, cos)
        return sin, cos


class _Visible:
    """Who sees whom in a forward pass, and which of that holds in a layer."""

    def __init__(self, config: DecoderConfig, attend_bts):
        self.all, self.near = attend_bts, None
        if config.window is not None and config.window_layers:
            self.near = within_window(attend_bts, config.window)

    def of(self, kind: dict[str, jax.Array]):
        if self.near is None:
            return self.all
        return (
            jnp.where(kind["window"], self.near, self.all)
            if "window" in kind
            else self.near
        )


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
      x_btd: embedded tokens, before the family's scale.
      positions_bt: position of every token in its own text.
      attend_bts: True where query t may see key s, windows aside: a query sees all of its
        own text up to itself.
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
    if config.embed_scale is not None:
        x_btd = x_btd * jnp.asarray(config.embed_scale, x_btd.dtype)
    rotation = _Rotation(config, positions_bt, attend_bts, x_btd.dtype)
    visible = _Visible(config, attend_bts)
    query_scale = None if config.query_scale is None else config.query_scale**-0.5
    activation = {"silu": jax.nn.silu, "gelu_tanh": jax.nn.gelu}[config.activation]
    scale_l = adapter.scale[:-1] if adapter is not None else None
    factors = adapter.layers if adapter is not None else {}

    def block(x, per_layer):
        w, lora, scale, cache_l, key, kind = per_layer
        b, t, _ = x.shape

        def norm(y, name):
            return rms_norm(y, w[name], config)

        def adapted(y, name):
            number = LAYER_MATRICES.index(name)
            own = dropout and Dropout(dropout.rate, jax.random.fold_in(key, number))
            y = linear(y, w[name], lora.get(name), scale, own)
            return y + w[f"{name}_bias"] if name in config.biases else y

        y = norm(x, "attn_norm") if config.pre_norm else x
        q, keys, values = adapted(y, "q"), adapted(y, "k"), adapted(y, "v")
        if config.qk_norm == "width":
            q, keys = norm(q, "q_norm"), norm(keys, "k_norm")
        q, keys = q.reshape(b, t, n, h), keys.reshape(b, t, k, h)
        values = values.reshape(b, t, k, h)
        if config.qk_norm == "head":
            q, keys = norm(q, "q_norm"), norm(keys, "k_norm")
        sin, cos = rotation.of(kind)
        q, keys = apply_rope(q, sin, cos), apply_rope(keys, sin, cos)
        if cache_l is not None:
            at = (0, cache_start, 0, 0)
            keys = jax.lax.dynamic_update_slice(cache_l.k_lbskh, keys, at)
            values = jax.lax.dynamic_update_slice(cache_l.v_lbskh, values, at)
            cache_l = Cache(keys, values)
        attend = visible.of(kind)
        y = attention(q, keys, values, attend, query_scale, config.attention_cap)
        y = adapted(y.reshape(b, t, n * h), "o")
        x = x + (norm(y, "attn_post_norm") if config.post_norm else y)
        y = norm(x, "mlp_norm") if config.pre_norm else x
        y = adapted(activation(adapted(y, "gate")) * adapted(y, "up"), "down")
        x = x + (norm(y, "mlp_post_norm") if config.post_norm else y)
        return x, (cache_l, reduce(x) if reduce is not None else None)

    # Small models run 25% faster unrolled on a CPU; large ones would compile for minutes.
    # Unrolled, XLA:CPU merges a block computed again with the first time: nothing is saved.
    unroll = config.n_layers if config.n_layers <= 8 and not remat else 1
    key_l = jax.random.split(dropout.key, config.n_layers) if dropout else None
    x_btd, (cache, reduced) = jax.lax.scan(
        jax.checkpoint(block) if remat else block,
        x_btd,
        (params["layers"], factors, scale_l, cache, key_l, _layer_kinds(config)),
        unroll=unroll,
    )
    return x_btd, cache, reduced


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
