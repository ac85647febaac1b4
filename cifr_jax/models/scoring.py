"""How likely given continuations are, and whether greedy decoding would write them.

Greedy decoding writes a continuation exactly if every one of its tokens is the argmax given
the prompt and the tokens before it: one forward pass answers what generation would.

The head runs on scored positions alone: over a large vocabulary logits of whole texts would
weigh more than the model.

Legend: n texts, b texts of a batch, t tokens, c scored tokens, v vocabulary.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cifr_jax.models import decoder, prefix
from cifr_jax.models.adapter_rows import AdapterRows
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Adapter


class Scores(NamedTuple):
    """Of n continuations.

    Attributes:
      log_prob_n: sum of log-probabilities, in nats.
      length_n: scored tokens.
      greedy_n: True where greedy decoding writes the continuation.
      first_entropy_n: entropy (nats) of the first continuation token's distribution.
      first_log_prob_nk: log-probabilities in it of the k tokens asked for.
    """

    log_prob_n: np.ndarray
    length_n: np.ndarray
    greedy_n: np.ndarray
    first_entropy_n: np.ndarray
    first_log_prob_nk: np.ndarray


@functools.partial(jax.jit, static_argnums=(0, 1))
def _score_batch(
    config: DecoderConfig,
    c: int,
    params,
    adapter,
    shared,
    tokens_bt,
    start_b,
    stop_b,
    ids_k,
):
    b, t = tokens_bt.shape
    mask_bt = jnp.arange(t) < stop_b[:, None]
    if shared is None:
        x_btd, _ = decoder.hidden(config, params, tokens_bt, mask_bt, adapter)
    else:
        p = shared.k_lbskh.shape[2]
        cache = prefix.extended(config, params, shared, b, p + t)
        positions_bt, attend_bts = prefix.inputs(mask_bt, shared, p + t)
        x_btd = decoder.embed(params, tokens_bt, adapter)
        x_btd, _, _ = decoder.backbone(
            config, params, x_btd, positions_bt, attend_bts, adapter, cache, p
        )
    # The token at `place` is predicted from the one before it.
    place_bc = start_b[:, None] + jnp.arange(c)
    scored_bc = place_bc < stop_b[:, None]
    place_bc = jnp.minimum(place_bc, tokens_bt.shape[1] - 1)
    x_bcd = jnp.take_along_axis(x_btd, place_bc[..., None] - 1, 1)
    logits_bcv = decoder.unembed(config, params, x_bcd, adapter).astype(jnp.float32)
    log_p = jax.nn.log_softmax(logits_bcv)
    target_bc = jnp.take_along_axis(tokens_bt, place_bc, 1)
    nll_bc = jnp.take_along_axis(log_p, target_bc[..., None], -1)[..., 0]
    agrees = (log_p.argmax(-1) == target_bc) | ~scored_bc
    first = log_p[:, 0]
    entropy = -(jnp.exp(first) * first).sum(-1)
    return (nll_bc * scored_bc).sum(1), agrees.all(1), entropy, first[:, ids_k]


def score(
    config: DecoderConfig,
    params,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    adapter: Adapter | None = None,
    first_ids: Sequence[int] = (),
    batch_size: int = 128,
    multiple: int = 16,
    *,
    rows: tuple[AdapterRows, Sequence[int]] | None = None,
) -> Scores:
    """Score continuations of prompts.

    Args:
      config: shape of the model.
      params: its parameters.
      prompts: token ids, none empty.
      continuations: token ids, none empty, as many as prompts.
      adapter: LoRA factors, or None for the base.
      first_ids: tokens whose log-probability right after the prompt is wanted.
      batch_size: texts in a batch.
      multiple: padded lengths are multiples of this, and so is what the prompts of a batch
        share, which is computed once.
      rows: instead of `adapter`, adapters and the number of each text's; -1: the base.

    Raises:
      ValueError: for an empty prompt or continuation, both `adapter` and `rows`, or numbers
        for another number of texts.
    """
    if rows is not None and (adapter is not None or len(rows[1]) != len(prompts)):
        raise ValueError("rows are no adapter of each text, or stand beside an adapter")
    n = len(prompts)
    out = Scores(
        np.zeros(n),
        np.zeros(n, int),
        np.zeros(n, bool),
        np.zeros(n),
        np.zeros((n, len(first_ids))),
    )
    start = np.array([len(p) for p in prompts], np.int32)
    out.length_n[:] = [len(c) for c in continuations]
    if n and min(start.min(), out.length_n.min()) == 0:
        raise ValueError("an empty prompt or continuation cannot be scored")
    stop = (start + out.length_n).astype(np.int32)
    padded = -(-stop // multiple) * multiple
    # As few different lengths of continuations as of texts.
    longest = -(-int(out.length_n.max(initial=1)) // 8) * 8
    for length in np.unique(padded):
        of_length = np.flatnonzero(padded == length)
        for at in range(0, len(of_length), batch_size):
            index = of_length[at : at + batch_size]
            fill = (0, batch_size - len(index))
            if rows is not None:
                number_b = [rows[1][i] for i in index] + [-1] * fill[1]
                adapter = rows[0].of(number_b)
            asked = [prompts[i] for i in index]
            p = prefix.shared_length(config, asked, adapter, multiple)
            tokens_bt = np.zeros((batch_size, length - p), np.int32)
            for row, i in enumerate(index):
                tokens_bt[row, : stop[i] - p] = [*prompts[i][p:], *continuations[i]]
            result = _score_batch(
                config,
                min(longest, int(length) - p),
                params,
                adapter,
                prefix.of(config, params, adapter, asked[0][:p]),
                tokens_bt,
                np.pad(start[index] - p, fill, constant_values=1),
                np.pad(stop[index] - p, fill, constant_values=2),
                np.array(first_ids, np.int32),
            )
            log_prob, greedy, entropy, first = (np.asarray(r)[: len(index)] for r in result)
            out.log_prob_n[index], out.greedy_n[index] = log_prob, greedy
            out.first_entropy_n[index], out.first_log_prob_nk[index] = entropy, first
    return out
