"""The base model's own answers to items, asked once each, whoever's job they are in."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cifr_jax.monitors.dataset.embedded_questions import Embedded, OwnAnswers


class AnswerCache:
    """Remembers answers by an item's key, which its rotations share.

    What is kept is the digest of the item, the number of its option in canonical order and
    the margin: no customer's text.

    Args:
      ask: from items to the model's own answers.
      known: answers by key, from `answers` of an earlier cache.
    """

    def __init__(
        self,
        ask: Callable[[list[Embedded]], OwnAnswers],
        known: Mapping[str, Sequence[float]] | None = None,
    ):
        self._ask = ask
        self.answers: dict[str, Sequence[float]] = dict(known or {})

    def __call__(self, items: list[Embedded]) -> OwnAnswers:
        """Answers to m items whose options are in canonical order."""
        new: dict[str, Embedded] = {}
        for item in items:
            if item.key not in self.answers:
                new.setdefault(item.key, item)
        if new:
            found = self._ask(list(new.values()))
            pairs = zip(found.option_m.tolist(), found.margin_m.tolist(), strict=True)
            self.answers |= dict(zip(new, map(list, pairs), strict=True))
        kept = [self.answers[item.key] for item in items]
        return OwnAnswers(
            np.array([int(option) for option, _ in kept], np.int64),
            np.array([float(margin) for _, margin in kept]),
        )
