"""Best-fit packing: several short examples in one row, none of which sees another.

Legend: n examples, r packed rows, t tokens of a row.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cifr_jax.data.chat import Example
from cifr_jax.data.tokenise import Tokenizer, tokenise


class Packed(NamedTuple):
    """Rows of one static length, so that training compiles once.

    Attributes:
      tokens_rt: int32 token ids, pad id where empty.
      loss_mask_rt: True where the token is a supervised target.
      segment_rt: int32, 1 for the row's first example, 2 for its second..., 0 for padding.
      position_rt: int32, position within the example.
    """

    tokens_rt: np.ndarray
    loss_mask_rt: np.ndarray
    segment_rt: np.ndarray
    position_rt: np.ndarray

    def take(self, index) -> "Packed":
        """The rows at `index`."""
        return Packed(*(a[index] for a in self))


def best_fit(lengths: list[int], capacity: int) -> list[list[int]]:
    """Assign items to bins: longest first, each into the fullest bin that holds it.

    Args:
      lengths: item sizes, each at most `capacity`.
      capacity: size of a bin.

    Returns:
      The items of each bin.

    Raises:
      ValueError: for an item that fits no bin.
    """
    if lengths and max(lengths) > capacity:
        raise ValueError(f"an item of length {max(lengths)} does not fit into {capacity}")
    by_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    bins: list[list[int]] = []
    for item in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        size = lengths[item]
        room = next((room for room in range(size, capacity + 1) if by_room[room]), None)
        if room is None:
            bins.append([])
            target, room = len(bins) - 1, capacity
        else:
            target = by_room[room].pop()
        bins[target].append(item)
        by_room[room - size].append(target)
    return bins


def pack(tokens_nt, loss_mask_nt, length_n, row_length: int, pad_id: int) -> Packed:
    """Pack padded examples into rows of `row_length` tokens.

    Args:
      tokens_nt: int32 token ids, padded on the right.
      loss_mask_nt: True where the token is a supervised target.
      length_n: tokens of each example.
      row_length: t of the result.
      pad_id: id of empty places.

    Raises:
      ValueError: for an example longer than a row.
    """
    return _fill(
        best_fit([int(n) for n in length_n], row_length),
        tokens_nt, loss_mask_nt, length_n, row_length, pad_id,
    )  # fmt: skip


def pack_chats(
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    row_length: int,
    on_long: str = "error",
) -> tuple[Packed, list[list[int]]]:
    """Tokenised and packed chats, and the examples (from 0) in each row.

    Args:
      examples: chats.
      tokenizer: renders and encodes them.
      row_length: t of the result.
      on_long: see `tokenise.tokenise`.

    Raises:
      UserError: as `tokenise.tokenise`.
    """
    rows = tokenise(examples, tokenizer, row_length, on_long)  # type: ignore[arg-type]
    assert rows.example_n is not None
    bins = best_fit([int(n) for n in rows.length_n], row_length)
    packed = _fill(bins, *rows[:3], row_length, tokenizer.pad_id)
    return packed, [[int(rows.example_n[i]) for i in items] for items in bins]


def _fill(bins, tokens_nt, loss_mask_nt, length_n, row_length: int, pad_id: int) -> Packed:
    shape = (len(bins), row_length)
    packed = Packed(
        np.full(shape, pad_id, np.int32),
        np.zeros(shape, bool),
        np.zeros(shape, np.int32),
        np.zeros(shape, np.int32),
    )
    for row, items in enumerate(bins):
        start = 0
        for segment, item in enumerate(items, 1):
            n = int(length_n[item])
            at = slice(start, start + n)
            packed.tokens_rt[row, at] = tokens_nt[item, :n]
            packed.loss_mask_rt[row, at] = loss_mask_nt[item, :n]
            packed.segment_rt[row, at] = segment
            packed.position_rt[row, at] = np.arange(n)
            start += n
    return packed
