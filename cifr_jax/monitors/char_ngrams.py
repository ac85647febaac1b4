"""Character n-grams and logistic regression: what a text filter sees of a prompt."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cifr_jax.monitors.base import register
from cifr_jax.monitors.text_classifier import TextClassifier

_LONGEST = 3


def _ngrams(text: str) -> Counter[str]:
    return Counter(
        text[i : i + n] for n in range(1, _LONGEST + 1) for i in range(len(text) - n + 1)
    )


@register
class CharNgrams(TextClassifier):
    """TF-IDF of character 1- to 3-grams, L2-normalised rows, L2 logistic regression.

    Where this scores high the data are confounded: the class shows on the surface.

    Args:
      Cs: as for `TextClassifier`.
      max_features: n-grams kept, by the number of training prompts that hold them.
    """

    name = "char_ngrams"

    def __init__(self, Cs: Sequence[float] = (1.0, 0.1, 10.0), max_features: int = 4096):
        super().__init__(Cs)
        self.max_features = max_features

    def learn_features(self, prompts: Sequence[str]) -> None:
        """The vocabulary and its inverse document frequencies."""
        held_by: Counter[str] = Counter()
        for prompt in prompts:
            held_by.update(_ngrams(prompt).keys())
        kept = sorted(held_by, key=lambda gram: (-held_by[gram], gram))
        kept = kept[: self.max_features]
        self.vocabulary = {gram: i for i, gram in enumerate(kept)}
        counts = np.array([held_by[gram] for gram in kept], np.float64)
        self.idf_d = np.log((1 + len(prompts)) / (1 + counts)) + 1

    def features(self, prompts: Sequence[str]) -> np.ndarray:
        """Sublinear term frequency times inverse document frequency."""
        x_nd = np.zeros((len(prompts), len(self.vocabulary)), np.float32)
        for row_d, prompt in zip(x_nd, prompts, strict=True):
            for gram, count in _ngrams(prompt).items():
                if gram in self.vocabulary:
                    row_d[self.vocabulary[gram]] = 1 + np.log(count)
        x_nd *= self.idf_d.astype(np.float32)
        norm_n1 = np.linalg.norm(x_nd, axis=1, keepdims=True)
        return x_nd / np.maximum(norm_n1, 1e-12)
