"""The beginning that all prompts of a batch share, computed once for all of them.

Legend: l layers, b rows, p tokens of the beginning, t further tokens, s cache slots,
k key/value heads, h head width.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cifr_jax.models import decoder
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Adapter, Cache
from cifr_jax.models.rope import LongRope

_LEAST_SHARE = 3  # of the longest prompt, as a divisor


def shared_length(
    config: DecoderConfig,
    prompts: Sequence[Sequence[int]],
    adapter: Adapter | None,
    multiple: int,
) -> int:
    """How many first tokens of the prompts are computed once.

    A multiple, as each length is a program of its own, and therefore none where it would
    save less than a third; never a whole prompt, whose last token says what comes next.
    None where rows have adapters of their own, and of LongRoPE models, in which the length
    of the whole text decides about its first tokens.
    """
    if len(prompts) < 2 or isinstance(config.rope_scaling, LongRope):
        return 0
    if adapter is not None and adapter.scale.ndim > 1:
        return 0
    most = min(map(len, prompts)) - 1
    texts = [list(prompt) for prompt in prompts]
    first, last = min(texts), max(texts)  # what these share, all between them share
    same = next((i for i in range(most) if first[i] != last[i]), most)
    found = same // multiple * multiple
    return found if found * _LEAST_SHARE >= max(map(len, texts)) else 0


@functools.partial(jax.jit, static_argnums=0)
def fill(config: DecoderConfig, params, adapter: Adapter | None, tokens_p) -> Cache:
    """Keys and values of a beginning, `[l, 1, p, k, h]`."""
    mask_bt = jnp.ones((1, len(tokens_p)), bool)
    positions_bt, attend_bts = decoder.causal_inputs(mask_bt)
    x_btd = decoder.embed(params, tokens_p[None], adapter)
    cache = empty_cache(config, params, 1, len(tokens_p))
    _, cache, _ = decoder.backbone(
        config, params, x_btd, positions_bt, attend_bts, adapter, cache, 0
    )
    assert cache is not None
    return cache


def empty_cache(config: DecoderConfig, params, rows: int, slots: int) -> Cache:
    """Room for keys and values of so many tokens of every row."""
    shape = (config.n_layers, rows, slots, config.n_kv_heads, config.d_head)
    dtype = params["embed"].dtype
    return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def of(config: DecoderConfig, params, adapter, tokens: Sequence[int]) -> Cache | None:
    """`fill`, or None of no tokens."""
    if not tokens:
        return None
    return fill(config, params, adapter, np.array(tokens, np.int32))


def extended(config: DecoderConfig, params, cache: Cache | None, rows: int, slots: int):
    """A cache of so many rows and slots that begins with a shared one; None: is empty."""
    if cache is None:
        return empty_cache(config, params, rows, slots)

    def grow(x_lbskh):
        x_lbskh = jnp.repeat(x_lbskh, rows, 1)
        return jnp.pad(
            x_lbskh, ((0, 0), (0, 0), (0, slots - x_lbskh.shape[2]), (0, 0), (0, 0))
        )

    return Cache(*map(grow, cache))


def inputs(mask_bt, cache: Cache | None, slots: int):
    """Positions `[b, t]` and visible slots `[b, t, slots]` of padded texts that go on from
    a shared beginning; slots past them are seen by nobody."""
    positions_bt, attend_bts = decoder.causal_inputs(mask_bt)
    p = 0 if cache is None else cache.k_lbskh.shape[2]
    b, t = mask_bt.shape
    before = jnp.ones((b, t, p), bool)
    after = jnp.zeros((b, t, slots - p - t), bool)
    return positions_bt + p, jnp.concatenate([before, attend_bts, after], -1)
