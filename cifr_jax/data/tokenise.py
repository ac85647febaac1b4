"""Chats to rows of token ids with a loss mask, and rows to batches of few shapes.

Axes: n rows, b batch, t tokens.

Which tokens are supervised is found by prefix difference: a chat is rendered up to an
assistant turn with the generation prompt added, and again through that turn; what the
second adds is what the model would have to write itself, up to its end-of-turn token.
That needs no `{% generation %}` marks, which hardly any published template has. Where a
reply is written otherwise once more follow (thinking that is dropped from earlier replies),
it is supervised as the whole chat has it. A mask that comes out empty, or a template that
rewrites what stands before a reply, is an error by name.
"""

import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
from absl import logging

from cifr_jax.data.chat import Example, Message
from cifr_jax.errors import UserError


class Tokenizer(Protocol):
    """What is needed of `models.tokenizer.ChatTokenizer`."""

    @property
    def eos_ids(self) -> Sequence[int]: ...
    @property
    def pad_id(self) -> int: ...

    def encode_chat(
        self, messages: Sequence[Message], add_generation_prompt: bool = False
    ) -> list[int]: ...


# What may be done with long rows, and how the log tells it.
_DONE = {
    "error": "",
    "truncate": "cut to",
    "split": "split into pieces of",
    "drop": "left out: longer than",
}


class Rows(NamedTuple):
    """Tokenised chats, padded to one length.

    tokens_nt: int32 [n, t] token ids, `pad_id` from `length_n` on.
    loss_mask_nt: bool [n, t]; True where the token itself is a supervised target, to be
      predicted from those before it (so never at t = 0).
    length_n: int32 [n] tokens of each row.
    example_n: int32 [n] the example that a row is made of; None: the rows are the examples.
    """

    tokens_nt: np.ndarray
    loss_mask_nt: np.ndarray
    length_n: np.ndarray
    example_n: np.ndarray | None = None


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """How many leading tokens the two share."""
    size = min(len(left), len(right))
    if left[:size] == right[:size]:
        return size
    return next(i for i in range(size) if left[i] != right[i])


def _span(
    messages: Sequence[Message], turn: int, whole: list[int], tokenizer: Tokenizer
) -> tuple[int, int]:
    """The tokens [start, end) of `whole` that the assistant's message `turn` supervises."""
    last = turn == len(messages) - 1
    through = whole if last else tokenizer.encode_chat(messages[: turn + 1])
    rewritten = whole[: len(through)] != through
    if rewritten:
        # Written otherwise once more follow: then as it is with the next message.
        through = tokenizer.encode_chat(messages[: turn + 2])
        if whole[: len(through)] != through:
            what = f"the chat template writes message {turn + 1} in more ways than two"
            raise UserError("chat template", what, "split the chat into single exchanges")
    prompt = tokenizer.encode_chat(messages[:turn], add_generation_prompt=True)
    start = _common(prompt, through)
    if start < len(prompt):
        # The generation prompt goes on otherwise than the turn does (a thinking block), or
        # its last character became one token with the reply's first. The reply then begins
        # where the two part, if that is beyond the turns before.
        before = tokenizer.encode_chat(messages[:turn])
        if start < len(before):
            what = f"the chat template rewrites what stands before message {turn + 1}"
            raise UserError("chat template", what, "split the chat into single exchanges")
    # Templates may write on after the end of a turn (ChatML: a newline), which no model
    # is ever asked to write.
    ends = [at for at in range(start, len(through)) if through[at] in tokenizer.eos_ids]
    if not rewritten:
        return start, ends[-1] + 1 if ends else len(through)
    if not ends:
        what = f"the chat template does not end message {turn + 1}"
        raise UserError("chat template", what, "split the chat into single exchanges")
    return start, ends[0] + 1


def _row(example: Example, tokenizer: Tokenizer) -> tuple[list[int], np.ndarray]:
    """Token ids of one chat, and which of them are targets."""
    messages = example.messages
    if messages and messages[0].role == "assistant":
        what = "the chat begins with the assistant"
        raise UserError("messages", what, "put the user's message before it")
    whole = tokenizer.encode_chat(messages)
    mask_t = np.zeros(len(whole), bool)
    for turn, message in enumerate(messages):
        if message.role == "assistant" and message.weight != 0:
            start, end = _span(messages, turn, whole, tokenizer)
            mask_t[max(start, 1) : end] = True
    return whole, mask_t


def tokenise(
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    max_len: int,
    on_long: Literal["error", "truncate", "split", "drop"] = "error",
) -> Rows:
    """Rows for training on what the assistant says, end-of-turn tokens included.

    Args:
      examples: chats; assistant messages of weight 0 are read but not trained on.
      tokenizer: renders and encodes them.
      max_len: most tokens of a row.
      on_long: what becomes of longer ones: an error, cut at the end, split into pieces of
        `max_len` tokens (the later ones see nothing of the earlier; those without a target
        go), or left out; counted in the log.

    Returns:
      Rows in the order of their examples: one of each that is kept, or its pieces.

    Raises:
      UserError: names the example's index (from 0) that is too long, has no supervised
        token (perhaps after cutting), or that the chat template refuses or rewrites.
    """
    if not examples:
        raise UserError("examples", "there are none", "give at least one")
    rows: list[list[int]] = []
    masks: list[np.ndarray] = []
    made_of: list[int] = []
    long = 0
    if on_long not in _DONE:
        what = f"unknown policy {on_long!r} for long rows"
        raise UserError("on_long", what, f"known: {', '.join(_DONE)}")
    for index, example in enumerate(examples):
        where = f"example {index}"
        try:
            row, mask_t = _row(example, tokenizer)
        except UserError as error:
            what = f"{error.where}: {error.what}"
            raise UserError(where, what, error.mend) from error
        if len(row) > max_len:
            if on_long == "error":
                what = f"{len(row)} tokens, more than the {max_len} allowed"
                others = ", ".join(list(_DONE)[1:])
                mend = f"raise the row length, shorten it, or set on_long to {others}"
                raise UserError(where, what, mend)
            long += 1
            if on_long == "drop":
                continue
            if on_long == "split":
                for start in range(0, len(row), max_len):
                    piece_t = mask_t[start : start + max_len].copy()
                    piece_t[0] = False  # nothing before it to predict it from
                    if piece_t.any():
                        rows.append(row[start : start + max_len])
                        masks.append(piece_t)
                        made_of.append(index)
                continue
            row, mask_t = row[:max_len], mask_t[:max_len]
        if not mask_t.any():
            what = f"no supervised token among its {len(row)}"
            mend = "give an assistant message of weight 1 that begins within max_len"
            raise UserError(where, what, mend)
        rows.append(row)
        masks.append(mask_t)
        made_of.append(index)
    if long:
        text = f"%d of %d rows {_DONE[on_long]} %d tokens"
        logging.warning(text, long, len(examples), max_len)
    if not rows:
        what = f"no target is left of {len(examples)} rows longer than {max_len} tokens"
        raise UserError("examples", what, "raise the row length, or truncate")
    length_n = np.array([len(row) for row in rows], np.int32)
    tokens_nt = np.full((len(rows), length_n.max()), tokenizer.pad_id, np.int32)
    loss_mask_nt = np.zeros(tokens_nt.shape, bool)
    for n, (row, mask_t) in enumerate(zip(rows, masks, strict=True)):
        tokens_nt[n, : len(row)] = row
        loss_mask_nt[n, : len(row)] = mask_t
    return Rows(tokens_nt, loss_mask_nt, length_n, np.array(made_of, np.int32))


def bucket_lengths(lengths: np.ndarray, multiple: int) -> np.ndarray:
    """Each length rounded up to a multiple, at least one: few shapes, few compilations."""
    if multiple < 1:
        raise ValueError(f"multiple {multiple} is not positive")
    return np.maximum(-(-np.asarray(lengths) // multiple), 1) * multiple


@functools.lru_cache(maxsize=4)
def _permutation(n_rows: int, seed: int, epoch: int) -> np.ndarray:
    # From raw 64-bit draws: unlike those of Generator.permutation, NumPy promises that they
    # stay as they are from version to version.
    draws = np.random.PCG64(np.random.SeedSequence([seed, epoch])).random_raw(n_rows)
    order = np.argsort(draws, kind="stable")
    order.flags.writeable = False  # the cache hands out this very array
    return order


def batch_indices(n_rows: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """The rows of one training step; a pure function, so training resumes at any step.

    Epoch after epoch, each in an order of its own, makes one stream; step s takes its
    places s * batch_size onwards. So each batch is full (it may hold the end of one epoch
    and the beginning of the next), and each row comes exactly once an epoch.

    Returns:
      int64 [b] row numbers.

    Raises:
      ValueError: `n_rows` or `batch_size` below 1, `seed` or `step` below 0.
    """
    if n_rows < 1 or batch_size < 1 or seed < 0 or step < 0:
        raise ValueError(
            f"{n_rows} rows, batches of {batch_size}, seed {seed}, step {step}"
        )
    epoch, place = divmod(step * batch_size, n_rows)
    parts: list[np.ndarray] = []
    missing = batch_size
    while missing:
        parts.append(_permutation(n_rows, seed, epoch)[place : place + missing])
        missing -= len(parts[-1])
        epoch, place = epoch + 1, 0
    return np.concatenate(parts)


def pad_to_bucket(rows: Rows, index_b: np.ndarray, multiple: int, pad_id: int = 0) -> Rows:
    """The chosen rows, as long as the longest of them rounded up to a multiple.

    Args:
      rows: all rows.
      index_b: int [b], which of them.
      multiple: see `bucket_lengths`.
      pad_id: fills what lies beyond the longest of all rows.
    """
    length_b = rows.length_n[index_b]
    width = int(bucket_lengths(length_b.max(), multiple))
    tokens_bt = rows.tokens_nt[index_b, :width]
    missing = ((0, 0), (0, width - tokens_bt.shape[1]))
    return Rows(
        np.pad(tokens_bt, missing, constant_values=pad_id),
        np.pad(rows.loss_mask_nt[index_b, :width], missing),
        length_b,
    )
