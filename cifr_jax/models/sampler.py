"""Batched generation with a key/value cache.

Prompts are padded on the left to a bucket, so that all rows write the same cache slot at
every step; one compile for each (bucket, batch size, answer length).

Legend: b rows, t prompt tokens, s cache slots, v vocabulary.
"""

import functools
from collections.abc import Collection, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cifr_jax.models import decoder
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Adapter, Cache


def _pick(key_b, step, logits_bv, temperature):
    greedy_b = logits_bv.argmax(-1)
    scaled = logits_bv / jnp.maximum(temperature, 1e-6)
    key_b = jax.vmap(jax.random.fold_in, (0, None))(key_b, step)
    sampled_b = jax.vmap(jax.random.categorical)(key_b, scaled)
    return jnp.where(temperature > 0, sampled_b, greedy_b)


@functools.partial(jax.jit, static_argnums=(0, 7))
def _generate(
    config: DecoderConfig, params, adapter, tokens_bt, mask_bt, stop_v, options, n_new: int
):
    temperature, key_b = options
    b, t = tokens_bt.shape
    slots = t + n_new
    shape = (config.n_layers, b, slots, config.n_kv_heads, config.d_head)
    dtype = params["embed"].dtype
    cache = Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))
    # Slots past the prompt are visible from the step at which they are written.
    visible_bs = jnp.pad(mask_bt, ((0, 0), (0, n_new)), constant_values=True)
    positions_bt, attend_btt = decoder.causal_inputs(mask_bt)
    attend = jnp.pad(attend_btt, ((0, 0), (0, 0), (0, n_new)))
    x_btd = decoder.embed(params, tokens_bt, adapter)
    x_btd, cache, _ = decoder.backbone(
        config, params, x_btd, positions_bt, attend, adapter, cache, 0
    )
    logits_bv = decoder.unembed(config, params, x_btd[:, -1:], adapter)[:, 0]
    length_b = mask_bt.sum(1)

    def cond(carry):
        step, _, _, ended_b, _ = carry
        return (step < n_new) & ~ended_b.all()

    def body(carry):
        step, cache, logits_bv, ended_b, out_bs = carry
        token_b = _pick(key_b, step, logits_bv, temperature)
        out_bs = out_bs.at[:, step].set(jnp.where(ended_b, -1, token_b))
        ended_b = ended_b | stop_v[token_b]
        attend = visible_bs & (jnp.arange(slots) <= t + step)
        x_btd, cache, _ = decoder.backbone(
            config,
            params,
            decoder.embed(params, token_b[:, None], adapter),
            (length_b + step)[:, None],
            attend[:, None],
            adapter,
            cache,
            t + step,
        )
        logits_bv = decoder.unembed(config, params, x_btd, adapter)[:, 0]
        return step + 1, cache, logits_bv, ended_b, out_bs

    # Rows that only fill up the batch have ended before they begin.
    start = (0, cache, logits_bv, length_b == 0, jnp.full((b, n_new), -1))
    return jax.lax.while_loop(cond, body, start)[-1]


def generate(
    config: DecoderConfig,
    params,
    prompts: Sequence[Sequence[int]],
    stop_ids: Collection[int],
    adapter: Adapter | None = None,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 32,
    multiple: int = 16,
) -> list[list[int]]:
    """Continue prompts until a stop token, which is not part of the answer.

    Args:
      config: shape of the model.
      params: its parameters.
      prompts: token ids, none empty.
      stop_ids: tokens that end an answer.
      adapter: LoRA factors, or None for the base.
      max_new_tokens: longest answer.
      temperature: 0 is greedy.
      seed: of sampling, which also depends on a prompt's place in `prompts`.
      batch_size: rows generated together.
      multiple: prompts are padded to multiples of this.

    Raises:
      ValueError: for an empty prompt.
    """
    if any(len(p) == 0 for p in prompts):
        raise ValueError("an empty prompt cannot be continued")
    stop_v = np.zeros(config.vocab_size, bool)
    stop_v[list(stop_ids)] = True
    answers: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    for start in range(0, len(order), batch_size):
        index = order[start : start + batch_size]
        length = -(-len(prompts[index[0]]) // multiple) * multiple
        tokens_bt = np.zeros((batch_size, length), np.int32)
        mask_bt = np.zeros((batch_size, length), bool)
        for row, i in enumerate(index):
            n = len(prompts[i])
            tokens_bt[row, -n:], mask_bt[row, -n:] = prompts[i], True
        # A key for each prompt: what is drawn does not depend on the batch it is in.
        number_b = np.pad(np.array(index, np.uint32), (0, batch_size - len(index)))
        key_b = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), number_b)
        options = (jnp.float32(temperature), key_b)
        out = _generate(
            config, params, adapter, tokens_bt, mask_bt, stop_v, options, max_new_tokens
        )
        for row, i in enumerate(index):
            for token in np.asarray(out)[row].tolist():
                if token < 0 or stop_v[token]:
                    break
                answers[i].append(token)
    return answers
