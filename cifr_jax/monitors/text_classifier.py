"""Shared by monitors that classify the prompt's surface: features, then a logistic fit."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from cifr_jax.monitors.base import Monitor, PromptItem
from cifr_jax.probes import sweep
from cifr_jax.probes.ranking import auroc


class TextClassifier(Monitor):
    """L2 logistic regression on features of the prompt; C chosen on validation if given.

    Args:
      Cs: inverse penalties to choose from; without validation items the first is taken.
    """

    level = "prompt"

    def __init__(self, Cs: Sequence[float] = (1.0, 0.1, 10.0)):
        self.Cs = tuple(Cs)

    def learn_features(self, prompts: Sequence[str]) -> None:
        """Whatever `features` takes from the training prompts."""
        return None

    @abstractmethod
    def features(self, prompts: Sequence[str]) -> np.ndarray:
        """float32 `[n, d]`."""

    def fit(
        self,
        items: Sequence[PromptItem],
        labels: Any,
        validation: Sequence[PromptItem] = (),
        validation_labels: Any = (),
    ) -> "TextClassifier":
        """Raises ValueError for one class only or without items."""
        if not items:
            raise ValueError(f"monitor {self.name!r} has no items to learn from")
        prompts = [item.prompt for item in items]
        self.learn_features(prompts)
        # Unscaled: a rare n-gram must not weigh as much as a common one.
        result = sweep(self.features(prompts)[None], labels, self.Cs, standardize=False)
        best = 0
        if len(validation):
            x_vd = self.features([item.prompt for item in validation])
            scores_cv = result.decision_function(x_vd[None])[0, :, 0]
            areas = [auroc(scores_v, validation_labels) for scores_v in scores_cv]
            best = int(np.argmax(areas))
        self.selection = {"C": self.Cs[best]}
        self.probe = result.probe(0, best)
        return self

    def score_many(self, items: Sequence[PromptItem]) -> np.ndarray:
        """Log-odds; ValueError before `fit`."""
        if not hasattr(self, "probe"):
            raise ValueError(f"monitor {self.name!r} is not fitted; call fit first")
        return self.probe.decision_function(self.features([i.prompt for i in items]))
