"""The base model's own answers to items, asked once each, whoever's job they are in."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cifr_jax.monitors.dataset.embedded_questions import Embedded


class AnswerCache:
    """Remembers answers by an item's key, which its rotations share.

    What is kept is the digest of the item and the number of its option in canonical order:
    no customer's text.

    Args:
      ask: from items to the index of each one's best option, or -1.
      known: answers by key, from `answers` of an earlier cache.
    """

    def __init__(
        self,
        ask: Callable[[list[Embedded]], Any],
        known: Mapping[str, int] | None = None,
    ):
        self._ask, self.answers = ask, dict(known or {})

    def __call__(self, items: list[Embedded]) -> np.ndarray:
        """Answers `[m]` to m items whose options are in canonical order."""
        new: dict[str, Embedded] = {}
        for item in items:
            if item.key not in self.answers:
                new.setdefault(item.key, item)
        if new:
            found = np.asarray(self._ask(list(new.values()))).tolist()
            self.answers |= dict(zip(new, map(int, found), strict=True))
        return np.array([self.answers[item.key] for item in items], np.int64)
