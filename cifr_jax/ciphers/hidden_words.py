"""Words hidden in lines of cover text: acrostic with StartSpeak, and EndSpeak.

As in CIFR (arXiv 2508.17158), which takes EndSpeak from covert malicious fine-tuning
(arXiv 2406.20053); the cover sentences are ours (cover.py).
"""

import dataclasses
import functools
import random
import re
import string
from collections.abc import Iterator

from cifr_jax.ciphers import cover
from cifr_jax.ciphers.base import Cipher
from cifr_jax.ciphers.registry import register
from cifr_jax.errors import UserError

_MAX_PERIOD = 10_000
_MAX_OFFSET = 100

_WORD = re.compile(r"[\w']+")
# One newline joins lines and two join sections, so a run of three is one too many.
_UNEVEN_NEWLINES = re.compile(r"(?<!\n)(?:\n\n)+\n(?!\n)|\A\n(?!\n)|(?<!\n)\n\Z")


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a text and where each starts; no text has no lines."""
    start = 0
    for line in text.split("\n") if text else []:
        yield start, line
        start += len(line) + 1


@register("acrostic")
@dataclasses.dataclass(frozen=True)
class Acrostic(Cipher):
    """Word n is at place offsets[n mod period] of line n, counted from 0.

    The offsets are drawn from 0..max_offset by Python's random.Random(seed). Loses case,
    punctuation and the kind of white space: words are case-folded runs of letters, digits,
    underscores and apostrophes. With max_offset=0 it is StartSpeak, whatever the rest.
    """

    seed: int = 42
    period: int = 10
    max_offset: int = 10

    alphabet = string.ascii_lowercase + " \n"
    lossless = False

    def __post_init__(self) -> None:
        if not 1 <= self.period <= _MAX_PERIOD:
            what = f"period={self.period} is not from 1 to {_MAX_PERIOD}"
            raise UserError("cipher acrostic", what, "write e.g. period=10")
        if not 0 <= self.max_offset <= _MAX_OFFSET:
            what = f"max_offset={self.max_offset} is not from 0 to {_MAX_OFFSET}"
            raise UserError("cipher acrostic", what, "write e.g. max_offset=10")
        if self.max_offset == 0:  # one cipher, one object
            object.__setattr__(self, "seed", Acrostic.seed)
            object.__setattr__(self, "period", 1)

    @property
    def variant(self) -> str:
        return "startspeak" if self.max_offset == 0 else super().variant

    @functools.cached_property
    def offsets(self) -> tuple[int, ...]:
        """Places of the words, of length `period`."""
        rng = random.Random(self.seed)
        return tuple(rng.randint(0, self.max_offset) for _ in range(self.period))

    def canonical(self, text: str) -> str:
        return " ".join(_words(text))

    def encode(self, text: str) -> str:
        offsets, period = self.offsets, self.period
        words = enumerate(_words(text))
        return "\n".join([cover.around(word, offsets[n % period]) for n, word in words])

    def _read(self, text: str) -> str:
        lines = [words for line in text.split("\n") if (words := _words(line))]
        places = [self.offsets[n % self.period] for n in range(len(lines))]
        found = [w[i] for w, i in zip(lines, places, strict=True) if i < len(w)]
        return " ".join(found)

    def _malformed_at(self, text: str, plain: str) -> int | None:
        # Any cover will do that has a word at the place.
        for n, (start, line) in enumerate(_lines(text)):
            if len(_words(line)) <= self.offsets[n % self.period]:
                return start
        return None


@register("startspeak")
def startspeak() -> Acrostic:
    """The variant of the benchmark: always the first word of the line."""
    return Acrostic(period=1, max_offset=0)


@register("endspeak")
@dataclasses.dataclass(frozen=True)
class EndSpeak(Cipher):
    """Each word is the last of a line; a blank line stands for a newline.

    Loses the amount and the kind of white space inside a line. Case and punctuation stay
    on the word. With `max_words`, only that many final words of the line are kept.
    """

    max_words: int | None = None

    alphabet = string.ascii_lowercase + " \n"
    lossless = False

    def __post_init__(self) -> None:
        if self.max_words is not None and self.max_words < 1:
            what = f"max_words={self.max_words} leaves no word"
            raise UserError("cipher endspeak", what, "write e.g. max_words=6")

    def canonical(self, text: str) -> str:
        return "\n".join([" ".join(section.split()) for section in text.split("\n")])

    def encode(self, text: str) -> str:
        ending = cover.ending_in
        sections = [
            "\n".join([ending(word, self.max_words) for word in section.split()])
            for section in text.split("\n")
        ]
        return "\n\n".join(sections)

    def _read(self, text: str) -> str:
        sections = [
            [words[-1] for line in section.split("\n") if (words := line.split())]
            for section in text.split("\n\n")
        ]
        return "\n".join([" ".join(words) for words in sections])

    def _malformed_at(self, text: str, plain: str) -> int | None:
        # Any cover will do; a line may be empty only where a section ends.
        for start, line in _lines(text):
            if line != line.rstrip():
                return start + len(line.rstrip())
        uneven = _UNEVEN_NEWLINES.search(text)
        return uneven.end() - 1 if uneven else None
