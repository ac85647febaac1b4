"""Control: byte frequencies and length. It must fall to chance within the encoded cell."""

from collections.abc import Sequence

import numpy as np

from cifr_jax.monitors.base import register
from cifr_jax.monitors.text_classifier import TextClassifier


@register
class BagOfBytes(TextClassifier):
    """Logistic regression on square roots of byte shares, and the logarithm of length."""

    name = "bag_of_bytes"
    control = True

    def features(self, prompts: Sequence[str]) -> np.ndarray:
        """`[n, 257]`; the square root gives rows unit length and rare bytes a voice."""
        x_nd = np.zeros((len(prompts), 257), np.float32)
        for row_d, prompt in zip(x_nd, prompts, strict=True):
            # A lone surrogate is valid in JSON and in str, but not in UTF-8.
            data = prompt.encode("utf-8", "surrogatepass")
            counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
            row_d[:256] = np.sqrt(counts / max(len(data), 1))
            row_d[256] = np.log1p(len(data)) / 10
        return x_nd
