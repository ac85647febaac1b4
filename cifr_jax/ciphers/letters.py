"""Letters in the place of letters: identity, ROT13, Walnut.

Walnut is the substitution of CIFR (arXiv 2508.17158) after Walnut53 of covert malicious
fine-tuning (arXiv 2406.20053).
"""

import dataclasses
import functools
import re
import string

import numpy as np

from cifr_jax.ciphers.base import Cipher
from cifr_jax.ciphers.registry import register

LOWER = string.ascii_lowercase
UPPER = string.ascii_uppercase


@register("identity")
@dataclasses.dataclass(frozen=True)
class Identity(Cipher):
    """Plain text: the control."""

    bijective = True

    def encode(self, text: str) -> str:
        return text

    def _read(self, text: str) -> str:
        return text


@register("rot13")
@dataclasses.dataclass(frozen=True)
class Rot13(Cipher):
    """Each letter moved thirteen places; its own inverse."""

    alphabet = LOWER + UPPER
    bijective = True

    _TABLE = str.maketrans(LOWER + UPPER, LOWER[13:] + LOWER[:13] + UPPER[13:] + UPPER[:13])

    def encode(self, text: str) -> str:
        return text.translate(self._TABLE)

    _read = encode


@register("walnut")
@dataclasses.dataclass(frozen=True)
class Walnut(Cipher):
    """Permuted lowercase letters, every character an item, items joined with bars.

    The permutation is NumPy's default_rng(seed).permutation(26). The parent drops literal
    bars when it decodes; here they survive, since items are one character each.
    """

    seed: int = 53

    alphabet = LOWER + "|"

    _ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}

    @functools.cached_property
    def images(self) -> str:
        """The images of a..z, in order."""
        return "".join(LOWER[i] for i in np.random.default_rng(self.seed).permutation(26))

    @functools.cached_property
    def _to(self) -> dict[int, int]:
        return str.maketrans(LOWER, self.images)

    @functools.cached_property
    def _back(self) -> dict[int, int]:
        return str.maketrans(self.images, LOWER)

    def encode(self, text: str) -> str:
        return "|".join(text.translate(self._to))

    def _read(self, text: str) -> str:
        if len(text) % 2 and not text[1::2].strip("|"):
            return text[::2].translate(self._back)
        return "".join(self._item(item) for item in text.split("|"))

    def _item(self, item: str) -> str:
        """One item of malformed text; models write newlines as backslash and n."""
        if len(item) == 1 or (item.isascii() and item.isalpha() and item.islower()):
            return item.translate(self._back)
        return re.sub(r"\\([ntr])", lambda m: self._ESCAPES[m[1]], item)
