"""Cover sentences: a small grammar of quiet landscapes, the same on every machine.

A sentence is a function of the word that it hides (and of the place to hide it at), in
lowercase words without punctuation, so that it costs a small model few tokens. The parent
searched a corpus and asked a hosted model instead.
"""

import functools
import hashlib
from collections.abc import Iterator

# Sixteen of each: a hex digit of the word's hash picks one.
_ADJECTIVES = tuple(
    "amber broad calm distant early gentle golden hidden "
    "idle misty narrow pale quiet silver slow winter".split()
)
_NOUNS = tuple(
    "brook cloud field forest garden harbour hill lake "
    "lantern meadow orchard path river shore valley willow".split()
)
_VERBS = tuple(
    "bend drift fade glow hum lean linger rest "
    "shine sing sleep stir sway turn wait wander".split()
)
_PREPOSITIONS = tuple(
    "above across along among around before behind below "
    "beside beyond near over past toward under without".split()
)
_CACHED_WORDS = 2**16


def _digits(word: str) -> Iterator[int]:
    """Endless hex digits that depend on the word alone."""
    seed, block = word.encode("utf-8", "surrogatepass"), 0
    while True:
        for byte in hashlib.blake2b(seed, salt=block.to_bytes(8, "little")).digest():
            yield byte >> 4
            yield byte & 15
        block += 1


def _clauses(digits: Iterator[int]) -> Iterator[str]:
    """Endless words: the calm river hums beyond ... and the ..."""
    while True:
        yield from ("the", _ADJECTIVES[next(digits)], _NOUNS[next(digits)])
        yield from (_VERBS[next(digits)] + "s", _PREPOSITIONS[next(digits)])
        yield from ("the", _NOUNS[next(digits)], "and")


@functools.lru_cache(_CACHED_WORDS)
def around(word: str, before: int) -> str:
    """A sentence with `before` words ahead of the word and two behind it."""
    digits = _digits(word)
    clauses = _clauses(digits)
    head = [next(clauses) for _ in range(before)]
    return " ".join([*head, word, _NOUNS[next(digits)] + "s", _VERBS[next(digits)]])


@functools.lru_cache(_CACHED_WORDS)
def ending_in(word: str, max_words: int | None) -> str:
    """A line of ten words of which the word is the last, or the final ones of that line."""
    digits = _digits(word)
    clauses = _clauses(digits)
    scene = ["under", "a", _ADJECTIVES[next(digits)], _NOUNS[next(digits)]]
    line = [*scene, *(next(clauses) for _ in range(5)), word]
    return " ".join(line if max_words is None else line[-max_words:])
