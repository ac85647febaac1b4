"""The items of each request in one order, so that the tests compare like with like.

A request may hold several multiple-choice items: an example and the question, a quiz of
three, or a decoy beside the item that carries a code. Slot 0 is what the request seems to
be about, the others are tested beside it. Items that many rows share ("Is this true? yes;
no") are the template's: they count only where a row has no other.

Legend: n rows, s slots.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from cifr_jax.monitors.dataset.embedded_questions import Embedded

SLOTS = 4
_SHARE, _LEAST = 0.05, 12  # rows that share an item of the template


class Slots(NamedTuple):
    """Items by slot.

    Attributes:
      item_sn: the item of each slot and row, or None; at least one slot.
      n_beyond: rows with more items than there are slots.
    """

    item_sn: list[list[Embedded | None]]
    n_beyond: int


def slots(items_n: Sequence[Sequence[Embedded]]) -> Slots:
    """Sorts the items of n rows, each row's the most plausible first, into slots."""
    rows = Counter(key for items in items_n for key in {item.key for item in items})
    least = max(_LEAST, _SHARE * len(items_n))
    common = {key for key, count in rows.items() if count > least}
    sorted_n = [
        [item for item in items if item.key not in common] or list(items[:1])
        for items in items_n
    ]
    most = max((len(items) for items in sorted_n), default=0)
    item_sn = [
        [items[s] if s < len(items) else None for items in sorted_n]
        for s in range(max(1, min(most, SLOTS)))
    ]
    return Slots(item_sn, sum(len(items) > SLOTS for items in sorted_n))
