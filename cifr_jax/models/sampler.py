"""Batched generation with a key/value cache.

Prompts are padded on the left to a bucket, so that all rows write the same cache slot at
every step; what all prompts of a batch begin with is computed once (`prefix`). One compile
for each (length of that, bucket, batch size, answer length).

Legend: b rows, t prompt tokens, p of them shared, s cache slots, v vocabulary.
"""

import functools
import math
from collections.abc import Collection, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cifr_jax.models import decoder, prefix
from cifr_jax.models.adapter_rows import AdapterRows
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Adapter
from cifr_jax.models.rope import LongRope


def nucleus(logits_bv, top_p):
    """Logits without those of the least likely tokens, whose probabilities sum to at most
    1 - top_p (Holtzman et al. 2020, arXiv 1904.09751); the likeliest always stays."""
    sorted_bv = jnp.sort(logits_bv, -1, descending=True)
    p_bv = jax.nn.softmax(sorted_bv, -1)
    before_bv = jnp.cumsum(p_bv, -1) - p_bv
    kept_b = jnp.maximum((before_bv < top_p).sum(-1, keepdims=True), 1)
    least_b = jnp.take_along_axis(sorted_bv, kept_b - 1, -1)
    return jnp.where(logits_bv >= least_b, logits_bv, -jnp.inf)


def _pick(key_b, step, logits_bv, temperature, top_p):
    """The next token `[b]`; of greedy decoding the random part is not computed."""

    def draw(logits_bv):
        scaled_bv = logits_bv.astype(jnp.float32) / temperature
        scaled_bv = jax.lax.cond(
            top_p < 1, lambda x: nucleus(x, top_p), lambda x: x, scaled_bv
        )
        step_key_b = jax.vmap(jax.random.fold_in, (0, None))(key_b, step)
        return jax.vmap(jax.random.categorical)(step_key_b, scaled_bv)

    return jax.lax.cond(temperature > 0, draw, lambda x: x.argmax(-1), logits_bv)


@functools.partial(jax.jit, static_argnums=(0, 8))
def _generate(
    config: DecoderConfig,
    params,
    adapter,
    shared,
    tokens_bt,
    mask_bt,
    stop_v,
    options,
    n_new: int,
):
    temperature, top_p, key_b = options
    b, t = tokens_bt.shape
    p = 0 if shared is None else shared.k_lbskh.shape[2]
    slots = p + t + n_new
    cache = prefix.extended(config, params, shared, b, slots)
    # Slots past the prompt are visible from the step at which they are written.
    visible_bs = jnp.pad(mask_bt, ((0, 0), (p, n_new)), constant_values=True)
    positions_bt, attend_bts = prefix.inputs(mask_bt, shared, slots)
    x_btd = decoder.embed(params, tokens_bt, adapter)
    x_btd, cache, _ = decoder.backbone(
        config, params, x_btd, positions_bt, attend_bts, adapter, cache, p
    )
    logits_bv = decoder.unembed(config, params, x_btd[:, -1:], adapter)[:, 0]
    length_b = p + mask_bt.sum(1)

    def cond(carry):
        step, _, _, ended_b, _ = carry
        return (step < n_new) & ~ended_b.all()

    def body(carry):
        step, cache, logits_bv, ended_b, out_bs = carry
        token_b = _pick(key_b, step, logits_bv, temperature, top_p)
        out_bs = out_bs.at[:, step].set(jnp.where(ended_b, -1, token_b))
        ended_b = ended_b | stop_v[token_b]
        attend_bs = visible_bs & (jnp.arange(slots) <= p + t + step)
        x_btd, cache, _ = decoder.backbone(
            config,
            params,
            decoder.embed(params, token_b[:, None], adapter),
            (length_b + step)[:, None],
            attend_bs[:, None],
            adapter,
            cache,
            p + t + step,
        )
        logits_bv = decoder.unembed(config, params, x_btd, adapter)[:, 0]
        return step + 1, cache, logits_bv, ended_b, out_bs

    # Rows that only fill up the batch have ended before they begin.
    start = (0, cache, logits_bv, ~mask_bt.any(1), jnp.full((b, n_new), -1))
    return jax.lax.while_loop(cond, body, start)[-1]


def _bucket(config: DecoderConfig, longest: int, multiple: int, n_new: int) -> int:
    """Length that prompts are padded to; the longest must be below it or at it.

    All slots of a cache count towards the original context of a LongRoPE model: padding
    must not be what goes beyond it, nor what a refusal counts.
    """
    padded = -(-longest // multiple) * multiple
    if isinstance(config.rope_scaling, LongRope):
        room = config.rope_scaling.original_max_positions - n_new
        return min(padded, max(longest, room))
    return padded


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
    *,
    top_p: float = 1.0,
    rows: tuple[AdapterRows, Sequence[int]] | None = None,
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
      multiple: prompts are padded to multiples of this, where the context allows it.
      top_p: sampled are the likeliest tokens, up to this much probability.
      rows: instead of `adapter`, adapters and the number of each prompt's; -1: the base.

    Raises:
      ValueError: for an empty prompt, tokens that are not in the vocabulary, a temperature
        that is not finite or below 0, top_p outside (0, 1], other numbers below 1, both
        `adapter` and `rows`, or numbers for another number of prompts.
      UserError: prompt and answer go beyond the original context of a LongRoPE model.
    """
    if not 0 <= temperature < math.inf or not 0 < top_p <= 1:  # nor NaN
        raise ValueError(f"temperature {temperature}, top_p {top_p}")
    for name, number in (
        ("max_new_tokens", max_new_tokens),
        ("batch_size", batch_size),
        ("multiple", multiple),
    ):
        if number < 1:
            raise ValueError(f"{name} is {number}, not 1 or more")
    if rows is not None and (adapter is not None or len(rows[1]) != len(prompts)):
        raise ValueError("rows are no adapter of each prompt, or stand beside an adapter")
    if any(len(p) == 0 for p in prompts):
        raise ValueError("an empty prompt cannot be continued")
    # Indexing would take a negative id from the end, and XLA any other for the last one.
    for what, ids in (("stop_ids", stop_ids), *(("a prompt", p) for p in prompts)):
        if len(ids) and not (0 <= min(ids) and max(ids) < config.vocab_size):
            wrong = next(i for i in ids if not 0 <= i < config.vocab_size)
            raise ValueError(f"{what} holds {wrong}, of {config.vocab_size} tokens")
    stop_v = np.zeros(config.vocab_size, bool)
    stop_v[list(stop_ids)] = True
    answers: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    for start in range(0, len(order), batch_size):
        index = order[start : start + batch_size]
        if rows is not None:
            number_b = [rows[1][i] for i in index] + [-1] * (batch_size - len(index))
            adapter = rows[0].of(number_b)
        p = prefix.shared_length(config, [prompts[i] for i in index], adapter, multiple)
        shared = prefix.of(config, params, adapter, prompts[index[0]][:p])
        length = _bucket(config, len(prompts[index[0]]) - p, multiple, max_new_tokens)
        tokens_bt = np.zeros((batch_size, length), np.int32)
        mask_bt = np.zeros((batch_size, length), bool)
        for row, i in enumerate(index):
            n = len(prompts[i]) - p
            tokens_bt[row, -n:], mask_bt[row, -n:] = prompts[i][p:], True
        # A key for each prompt: what is drawn does not depend on the batch it is in.
        numbers = np.pad(np.array(index, np.uint32), (0, batch_size - len(index)))
        key_b = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), numbers)
        options = (jnp.float32(temperature), jnp.float32(top_p), key_b)
        out = _generate(
            config, params, adapter, shared, tokens_bt, mask_bt, stop_v, options,
            max_new_tokens,
        )  # fmt: skip
        for row, i in enumerate(index):
            for token in np.asarray(out)[row].tolist():
                if token < 0 or stop_v[token]:
                    break
                answers[i].append(token)
    return answers
