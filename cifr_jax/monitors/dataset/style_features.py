"""Features of how replies are written, each a whole number that a person can read.

Counts are counts (`COUNTS`); the others are codes of categories, whose numbers mean nothing
(`CATEGORIES`). They are read off replies whose labels are masked: the length of an honest
answer says which answer it is.

Legend: n rows.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

from cifr_jax.monitors.dataset.plain_text import normalise, sentences, words
from cifr_jax.monitors.dataset.style_tests import AS_IS, binned

_MAX_CHARS = 4_000  # of a reply that are read, for all features but its length
_FREQUENT = 32  # openers, choices and endings told apart
_HEDGE = re.compile(
    r"\b(?:perhaps|maybe|probably|possibly|might|could|likely|seems?|appears?|think|believe|"
    r"guess|suppose|somewhat|rather|fairly|i would say)\b"
)
_CONTRACTION = re.compile(r"\w['’](?:s|t|re|ve|ll|d|m)\b")
_STOP = frozenset(
    "a an the and or of to in on at for is it its this that are be was i you we my your do "
    "does not no yes so as with from by one would will can there here very".split()
)
COUNTS = (
    "characters", "words", "sentences", "lines", "commas", "digits", "exclamation_marks",
)  # fmt: skip
CATEGORIES = (
    "opener", "second_word", "last_word", "closer", "casing", "article", "hedge",
    "contraction", "emoji", "outer_blanks", "double_blanks", "invisible", "foreign_letters",
    "dashes_and_quotes", "markup", "named_thing",
)  # fmt: skip
_ARTICLES = {"a": 1, "an": 1, "the": 2, "this": 3, "that": 3, "it": 4, "my": 5, "your": 5}


def _casing(text: str) -> int:
    letters = [c for c in text if c.isalpha()]
    if not letters:
        return 0
    if all(c.isupper() for c in letters):
        return 1
    if not any(c.isupper() for c in letters):
        return 2
    return 3 if letters[0].isupper() else 4


def _unicode(text: str) -> tuple[int, int, int]:
    """Whether there are emoji, invisible characters, letters of other scripts."""
    if text.isascii():
        return 0, int(any(ord(c) < 32 and c not in "\n\t" for c in text)), 0
    emoji = invisible = foreign = 0
    for c in text:
        if c.isascii():
            continue
        category = unicodedata.category(c)
        emoji |= category == "So"
        invisible |= category in ("Cf", "Cc", "Co", "Cn", "Cs") or (
            category == "Zs" or c in "\u2028\u2029"
        )
        foreign |= category[0] == "L" and ord(c) > 0x24F
    return int(emoji), int(invisible), int(foreign)


def _codes(values: Sequence[str]) -> np.ndarray:
    """Numbers of the most frequent values, `[n]`; 0: none of them."""
    frequent = [v for v, _ in Counter(v for v in values if v).most_common(_FREQUENT)]
    number = {value: k + 1 for k, value in enumerate(frequent)}
    return np.array([number.get(value, 0) for value in values], np.int64)


def _one(reply: str, spoken: Sequence[str]) -> dict[str, int]:
    text = reply[:_MAX_CHARS]
    emoji, invisible, foreign = _unicode(text)
    folded = text.casefold()
    return {
        "characters": len(reply),
        "words": len(spoken),
        "sentences": len(sentences(text)),
        "lines": text.strip().count("\n") + 1,
        "commas": text.count(","),
        "digits": sum(c.isdigit() for c in text),
        "exclamation_marks": text.count("!"),
        "casing": _casing(text),
        "article": _ARTICLES.get(spoken[0], 0) if spoken else 0,
        "hedge": int(_HEDGE.search(folded) is not None),
        "contraction": int(_CONTRACTION.search(folded) is not None),
        "emoji": emoji,
        "outer_blanks": text[:1].isspace() + 2 * reply[-1:].isspace(),
        "double_blanks": int("  " in text),
        "invisible": invisible,
        "foreign_letters": foreign,
        "dashes_and_quotes": (
            any(c in text for c in "–—") + 2 * any(c in text for c in "“”‘’«»")
        ),
        "markup": ("**" in text)
        + 2 * ("`" in text)
        + 4 * text.startswith(("- ", "#", "{")),
    }


def features(replies: Sequence[str]) -> dict[str, np.ndarray]:
    """Features of n replies with labels masked, each whole numbers `[n]`; for their names
    and kinds see `COUNTS` and `CATEGORIES`."""
    spoken_n = [words(normalise(reply[:_MAX_CHARS])) for reply in replies]
    rows = [_one(reply, spoken) for reply, spoken in zip(replies, spoken_n, strict=True)]
    style = {
        name: np.array([row[name] for row in rows], np.int64)
        for name in (*COUNTS, *CATEGORIES)
        if rows and name in rows[0]
    }
    style["opener"] = _codes([s[0] if s else "" for s in spoken_n])
    style["second_word"] = _codes([s[1] if len(s) > 1 else "" for s in spoken_n])
    style["last_word"] = _codes([s[-1] if s else "" for s in spoken_n])
    style["closer"] = _codes([reply.rstrip()[-1:] for reply in replies])
    in_rows = Counter(word for spoken in spoken_n for word in set(spoken) - _STOP)

    # The word that tells a reply apart: the rarest that still comes again.
    def thing(spoken: Sequence[str]) -> str:
        known = [w for w in spoken if in_rows[w] >= 2]
        return min(known, key=lambda w: (in_rows[w], w), default="")

    style["named_thing"] = _codes([thing(spoken) for spoken in spoken_n])
    return {name: style[name] for name in (*COUNTS, *CATEGORIES)}


def levels(name: str, values_n: np.ndarray) -> np.ndarray:
    """A feature as codes of few values `[n]`: of a category the most frequent and one for
    the others, of a count what it is or its quarter."""
    if name in COUNTS:
        return binned(values_n)[0]
    found, which_n, count = np.unique(values_n, return_inverse=True, return_counts=True)
    if found.size <= AS_IS:
        return np.asarray(which_n, np.int64)
    rank = np.argsort(np.argsort(-count, kind="stable"))
    return np.minimum(rank, AS_IS - 1)[which_n]
