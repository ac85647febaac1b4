"""Keyword ciphers of CIFR (arXiv 2508.17158): the Polybius square and the autokey."""

import dataclasses
import functools
import re
import string

import numpy as np

from cifr_jax.ciphers.base import Cipher
from cifr_jax.ciphers.registry import register
from cifr_jax.errors import UserError

UPPER = string.ascii_uppercase


def _upper_keyword(family: str, keyword: str) -> str:
    if not (keyword.isascii() and keyword.isalpha()):
        raise UserError(
            f"cipher {family}",
            f'keyword must be one or more letters A-Z, not "{keyword:.40}"',
            f"write e.g. {family}:keyword=TRAINING",
        )
    return keyword.upper()


@register("polybius")
@dataclasses.dataclass(frozen=True)
class Polybius(Cipher):
    """Letters as row and column of a keyed 5x5 square; every item joined by one space.

    Loses case, and J, which shares the cell of I (in the keyword as well). Any other
    character is an item of its own, so that a space shows as three. The parent mangles
    digits and spaces beside punctuation when it decodes; here they survive, since an item
    is either a pair of digits or a single character.
    """

    keyword: str = "TRAINING"

    alphabet = "12345 "
    lossless = False

    _ITEM = re.compile(r"([1-5]{2}|.)(?: (?=.)|\Z)", re.DOTALL)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keyword", _upper_keyword("polybius", self.keyword))

    @functools.cached_property
    def grid(self) -> str:
        """The 25 letters of the square, row by row."""
        return "".join(dict.fromkeys((self.keyword + UPPER).replace("J", "I")))

    @functools.cached_property
    def _pairs(self) -> dict[str, str]:
        pairs = {c: f"{i // 5 + 1}{i % 5 + 1}" for i, c in enumerate(self.grid)}
        pairs["J"] = pairs["I"]
        return pairs

    @functools.cached_property
    def _letters(self) -> dict[str, str]:
        return {pair: c for c, pair in self._pairs.items() if c != "J"}

    def canonical(self, text: str) -> str:
        return text.upper().replace("J", "I")

    def encode(self, text: str) -> str:
        pairs = self._pairs
        return " ".join([pairs.get(c, c) for c in text.upper()])

    def _read(self, text: str) -> str:
        letters = self._letters
        items = self._ITEM.findall(text)
        if " ".join(items) == text:
            return "".join([letters.get(item, item) for item in items])
        # Malformed: a lone space separates items, unless it stands between plain words.
        tokens = re.split("( +)", text)
        plain = [letters.get(token, token) for token in tokens]
        for i in range(1, len(tokens) - 1, 2):
            words = len(plain[i - 1]) > 1 and len(plain[i + 1]) > 1
            plain[i] = " " if words or len(tokens[i]) > 1 else ""
        return "".join(plain)


@register("autokey")
@dataclasses.dataclass(frozen=True)
class Autokey(Cipher):
    """Vigenere whose key is the keyword followed by the plain letters themselves.

    Loses case. Characters that are no letters A-Z pass through and leave the key alone.
    """

    keyword: str = "TRAININGWORD"

    alphabet = UPPER
    lossless = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "keyword", _upper_keyword("autokey", self.keyword))

    @functools.cached_property
    def _key(self) -> np.ndarray:
        return np.frombuffer(self.keyword.encode(), np.uint8).astype(np.int64) - ord("A")

    def canonical(self, text: str) -> str:
        return text.upper()

    def encode(self, text: str) -> str:
        codes, is_letter = _letters_of(text.upper())
        plain = codes[is_letter].astype(np.int64) - ord("A")
        key = np.concatenate([self._key, plain])[: len(plain)]
        return _with_letters(codes, is_letter, plain + key)

    def _read(self, text: str) -> str:
        codes, is_letter = _letters_of(text.upper())
        shifted = codes[is_letter].astype(np.int64) - ord("A")
        # plain[i] = shifted[i] - plain[i - period]: an alternating sum down each column.
        period = len(self._key)
        rows = -(-len(shifted) // period)
        table = np.zeros(rows * period, np.int64)
        table[: len(shifted)] = shifted
        sign = np.where(np.arange(rows) % 2, -1, 1)[:, None]
        sums = np.cumsum(sign * table.reshape(rows, period), axis=0) - self._key
        return _with_letters(codes, is_letter, (sign * sums).ravel()[: len(shifted)])


def _letters_of(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Code points of the text, and which of them are letters A-Z."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    return codes, (codes >= ord("A")) & (codes <= ord("Z"))


def _with_letters(codes: np.ndarray, is_letter: np.ndarray, indices: np.ndarray) -> str:
    out = codes.copy()
    out[is_letter] = indices % 26 + ord("A")
    return out.tobytes().decode("utf-32-le", "surrogatepass")
