"""Letters to a second alphabet of 52 symbols: one symbol a letter, or one of two.

The encodings on which a small model shows the effect at all: their units are tokens of
their own. Everything that is no letter a-z, spaces and capitals included, stays. The
symbols are runes: caseless letters with one code point each, which plain text does not
use; should one occur all the same, an escape before it keeps the cipher lossless.
"""

import dataclasses
import functools
import hashlib
import re
import string

import numpy as np

from cifr_jax.ciphers.base import Cipher, first_difference
from cifr_jax.ciphers.registry import register

SYMBOLS = "".join(chr(0x16A0 + i) for i in range(52))
ESCAPE = "\u16eb"

_PRIVATE = re.compile(f"[{SYMBOLS}{ESCAPE}]")
_ESCAPED_OR_SYMBOL = re.compile(f"{ESCAPE}([{SYMBOLS}{ESCAPE}])|([{SYMBOLS}])")
_ESCAPING = {ord(c): ESCAPE + c for c in SYMBOLS + ESCAPE}


def _shuffled(key: int) -> str:
    return "".join(SYMBOLS[i] for i in np.random.default_rng(key).permutation(52))


class _SecondAlphabet(Cipher):
    """Reads symbols back; which letter a symbol stands for is up to the family."""

    key: int

    @functools.cached_property
    def _letters(self) -> dict[str, str]:
        raise NotImplementedError

    @functools.cached_property
    def _back(self) -> dict[int, str]:
        return str.maketrans(self._letters)

    def _read(self, text: str) -> str:
        if ESCAPE not in text:
            return text.translate(self._back)

        def replacement(match: re.Match[str]) -> str:
            return match[1] or self._letters.get(match[2], match[2])

        return _ESCAPED_OR_SYMBOL.sub(replacement, text)


@register("alphabet")
@dataclasses.dataclass(frozen=True)
class Alphabet(_SecondAlphabet):
    """Letter i becomes symbol perm[i], perm = NumPy's default_rng(key).permutation(52)."""

    key: int = 1

    @functools.cached_property
    def images(self) -> str:
        """The symbols of a..z, in order."""
        return _shuffled(self.key)[:26]

    @property
    def alphabet(self) -> str:  # type: ignore[override]
        return self.images + ESCAPE

    @functools.cached_property
    def _letters(self) -> dict[str, str]:
        return dict(zip(self.images, string.ascii_lowercase, strict=True))

    @functools.cached_property
    def _to(self) -> dict[int, str]:
        return {ord(letter): s for s, letter in self._letters.items()} | _ESCAPING

    def encode(self, text: str) -> str:
        return text.translate(self._to)


@register("homophonic")
@dataclasses.dataclass(frozen=True)
class Homophonic(_SecondAlphabet):
    """Letter i becomes symbol perm[i] or perm[26 + i], perm as for `alphabet`.

    The choices are coin flips from a hash of key and text: the same for the same text.
    A strict decoder takes either symbol.
    """

    key: int = 1

    alphabet = SYMBOLS + ESCAPE

    @functools.cached_property
    def images(self) -> tuple[str, str]:
        """The first and the second symbol of each of a..z, in order."""
        symbols = _shuffled(self.key)
        return symbols[:26], symbols[26:]

    @functools.cached_property
    def _letters(self) -> dict[str, str]:
        return dict(zip("".join(self.images), string.ascii_lowercase * 2, strict=True))

    @functools.cached_property
    def _codes(self) -> np.ndarray:
        """[2, 26] code points of the images."""
        return np.array([[ord(c) for c in row] for row in self.images], np.uint32)

    def encode(self, text: str) -> str:
        seed = f"{self.key}:{text}".encode("utf-8", "surrogatepass")
        if _PRIVATE.search(text):
            text = text.translate(_ESCAPING)
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").copy()
        is_letter = (codes >= ord("a")) & (codes <= ord("z"))
        letters = codes[is_letter] - ord("a")
        coins = hashlib.shake_128(seed).digest(-(-len(letters) // 8))
        flips = np.unpackbits(np.frombuffer(coins, np.uint8), count=len(letters))
        codes[is_letter] = self._codes[flips, letters]
        return codes.tobytes().decode("utf-32-le", "surrogatepass")

    def _malformed_at(self, text: str, plain: str) -> int | None:
        # Both with the first symbol of each letter, so that either homophone will do.
        first, second = self.images
        firsts = str.maketrans(second, first)
        encoded, given = self.encode(plain).translate(firsts), text.translate(firsts)
        return None if encoded == given else first_difference(encoded, given)
