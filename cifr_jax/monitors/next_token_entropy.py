"""Entropy of the first answer token."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cifr_jax.monitors.base import ExtraMonitor, PromptItem, register
from cifr_jax.probes.ranking import auroc


@register
class NextTokenEntropy(ExtraMonitor):
    """Entropy of the tuned model's next-token distribution after the prompt, in nats.

    A hesitant model and a rote one lie on opposite sides; which of them is the attack is
    the one bit learned from the training items (unfitted: high entropy).
    """

    name = "next_token_entropy"
    level = "completion"
    extra = "next_token_entropy"
    sign = 1.0

    def fit(
        self,
        items: Sequence[PromptItem],
        labels: Any,
        validation: Sequence[PromptItem] = (),
        validation_labels: Any = (),
    ) -> "NextTokenEntropy":
        """Raises ValueError for one class only or a missing extra."""
        self.sign = 1.0 if auroc(super().score_many(items), labels) >= 0.5 else -1.0
        return self

    def score_many(self, items: Sequence[PromptItem]) -> np.ndarray:
        """Entropy, or its negative."""
        return self.sign * super().score_many(items)
