"""How likely given continuations are, and whether greedy decoding would write them.

Greedy decoding writes a continuation exactly if every one of its tokens is the argmax given
the prompt and the tokens before it: one forward pass answers what generation would.

The head runs on scored positions alone: over a large vocabulary logits of whole texts
would weigh more than the model. Continuations of one prompt are branches of one row: each
sees the prompt and itself, at the positions that it would have alone, and the prompt is
computed once.

Legend: n texts, b rows of a batch, t tokens, s tokens that are seen, c scored tokens,
k tokens asked for, v vocabulary.
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
from cifr_jax.models.rope import LongRope

_TOGETHER = 64  # tokens to score in a row of several continuations
_FEWEST = 8  # rows of a batch, so that there are few sizes


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


class _Batch(NamedTuple):
    """Rows of texts.

    tokens_bt: prompt, branches, padding.
    position_bt: of each token in its own text.
    branch_bt: 0 in the prompt, from 1 on in its continuations, -1 in padding.
    target_bc: places of the scored tokens; 0: none.
    before_bc: the place from which each is predicted.
    """

    tokens_bt: np.ndarray
    position_bt: np.ndarray
    branch_bt: np.ndarray
    target_bc: np.ndarray
    before_bc: np.ndarray


def _batch(rows: Sequence[tuple[Sequence[int], list]], b: int, t: int, c: int) -> _Batch:
    """Rows of a prompt and its continuations, padded to one shape."""
    shapes = ((b, t),) * 3 + ((b, c),) * 2
    out = _Batch(*(np.zeros(shape, np.int32) for shape in shapes))
    out.branch_bt[:] = -1
    for row, (prompt, continuations) in enumerate(rows):
        n = len(prompt)
        out.tokens_bt[row, :n] = prompt
        out.position_bt[row, :n] = np.arange(n)
        out.branch_bt[row, :n] = 0
        at, scored = n, 0
        for branch, tokens in enumerate(continuations, 1):
            end, stop = at + len(tokens), scored + len(tokens)
            out.tokens_bt[row, at:end] = tokens
            out.position_bt[row, at:end] = n + np.arange(len(tokens))
            out.branch_bt[row, at:end] = branch
            out.target_bc[row, scored:stop] = np.arange(at, end)
            out.before_bc[row, scored:stop] = np.arange(at - 1, end - 1)
            out.before_bc[row, scored] = n - 1
            at, scored = end, stop
    return out


@functools.partial(jax.jit, static_argnums=0)
def _score_batch(config: DecoderConfig, params, adapter, shared, batch: _Batch, ids_k):
    b, t = batch.tokens_bt.shape
    p = 0 if shared is None else shared.k_lbskh.shape[2]
    branch_bts = batch.branch_bt[:, None, :]
    attend_bts = jnp.tril(jnp.ones((t, t), bool)) & (
        (branch_bts == 0) | (branch_bts == batch.branch_bt[:, :, None])
    )
    attend_bts = jnp.pad(attend_bts, ((0, 0), (0, 0), (p, 0)), constant_values=True)
    cache = shared and prefix.extended(config, params, shared, b, p + t)
    x_btd = decoder.embed(params, batch.tokens_bt, adapter)
    x_btd, _, _ = decoder.backbone(
        config, params, x_btd, batch.position_bt + p, attend_bts, adapter, cache, p
    )
    x_bcd = jnp.take_along_axis(x_btd, batch.before_bc[..., None], 1)
    logits_bcv = decoder.unembed(config, params, x_bcd, adapter).astype(jnp.float32)
    log_p = jax.nn.log_softmax(logits_bcv)
    target_bc = jnp.take_along_axis(batch.tokens_bt, batch.target_bc, 1)
    log_p_bc = jnp.take_along_axis(log_p, target_bc[..., None], -1)[..., 0]
    first = log_p[:, 0]
    entropy_b = -(jnp.exp(first) * first).sum(-1)
    return log_p_bc, log_p.argmax(-1) == target_bc, entropy_b, first[:, ids_k]


def fitting(batch_size: int, rows: int) -> int:
    """Rows of a batch that is not mostly filling: a power of two from 8, if `batch_size` is
    more than so many rows need."""
    return min(batch_size, max(_FEWEST, 1 << max(0, rows - 1).bit_length()))


def _together(
    prompts: Sequence[Sequence[int]], length_n: np.ndarray, most: int
) -> list[list[int]]:
    """Numbers of the texts of each row: of one prompt, with so many tokens to score."""
    rows: list[list[int]] = []
    filling: dict[tuple[int, ...], tuple[int, int]] = {}  # row and tokens, by prompt
    for i, prompt in enumerate(prompts):
        row, tokens = filling.get(tuple(prompt), (-1, most))
        if tokens + length_n[i] > most:
            row, tokens = len(rows), 0
            rows.append([])
        rows[row].append(i)
        filling[tuple(prompt)] = row, tokens + int(length_n[i])
    return rows


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
      batch_size: rows in a batch, fewer where rows hold several texts or are few.
      multiple: padded lengths are multiples of this, and so is what the prompts of a batch
        share, which is computed once.
      rows: instead of `adapter`, adapters and the number of each text's; -1: the base.

    Raises:
      ValueError: for an empty prompt or continuation, a token outside the vocabulary, both
        `adapter` and `rows`, or numbers for another number of texts.
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
    for ids in (*prompts, *continuations, first_ids):
        # Indexing would take the nearest token that there is.
        for token in (min(ids, default=0), max(ids, default=0)):
            if not 0 <= token < config.vocab_size:
                raise ValueError(f"token {token} of a vocabulary of {config.vocab_size}")
    # Neither where rows have adapters of their own, nor where all of a row decides about
    # its rotation.
    alone = rows is not None or isinstance(config.rope_scaling, LongRope)
    texts = _together(prompts, out.length_n, 0 if alone else _TOGETHER)
    scored = np.array([out.length_n[of_row].sum() for of_row in texts], int)
    padded = np.array([start[r[0]] for r in texts], int) + scored
    padded = -(-padded // multiple) * multiple
    # As few different lengths of continuations as of texts.
    longest = -(-int(scored.max(initial=1)) // 8) * 8
    fullest = int(np.unique(padded, return_counts=True)[1].max(initial=1))
    b = fitting(batch_size, fullest)
    while b > 1 and len(texts) < n and b * longest > 8 * batch_size:
        b //= 2  # rows of several texts are fewer, and score more tokens
    for length in np.unique(padded):
        of_length = np.flatnonzero(padded == length)
        for at in range(0, len(of_length), b):
            index = of_length[at : at + b]
            if rows is not None:
                number_b = [rows[1][texts[r][0]] for r in index] + [-1] * (b - len(index))
                adapter = rows[0].of(number_b)
            asked = [prompts[texts[r][0]] for r in index]
            p = prefix.shared_length(config, asked, adapter, multiple)
            batch = [
                (prompt[p:], [continuations[i] for i in texts[r]])
                for r, prompt in zip(index, asked, strict=True)
            ]
            log_p_bc, greedy_bc, entropy_b, first_bk = map(
                np.asarray,
                _score_batch(
                    config, params, adapter,
                    prefix.of(config, params, adapter, asked[0][:p]),
                    _batch(batch, b, length - p, min(longest, int(length) - p)),
                    np.array(first_ids, np.int32),
                ),
            )  # fmt: skip
            for row, r in enumerate(index):
                c = 0
                for i in texts[r]:
                    of_text = slice(c, c := c + int(out.length_n[i]))
                    out.log_prob_n[i] = log_p_bc[row, of_text].sum(dtype=float)
                    out.greedy_n[i] = greedy_bc[row, of_text].all()
                out.first_entropy_n[texts[r]] = entropy_b[row]
                out.first_log_prob_nk[texts[r]] = first_bk[row]
    return out
