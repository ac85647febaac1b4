"""Which texts of a job are one text but for slips of the pen.

Copies of a row with small edits are one observation: permuted apart they make any test
reject. Pairs worth comparing are found with MinHash over words (Broder 1997) in bands, and
compared word by word, so that two quiz items that differ by one proper word stay two.
Numbers must agree.

Legend: n texts, h hash functions, w words of a text.
"""

import functools
import zlib
from collections.abc import Sequence

import numpy as np

from cifr_jax.monitors.dataset.plain_text import normalise, words

_BANDS, _BAND = 16, 2  # bands of two: half the words in common are found 99 times in 100
_PER_BUCKET = 8  # texts of a bucket that a new one is compared with
_LONG = 30  # words for each of which one may be another
_MAX_WORDS = 400  # of a text that are compared
_INDEXED = 32  # letters of a word that is looked up by its shortened forms
_PRIME = np.uint64(2**31 - 1)
_COURTESY = frozenset("please hello hi hey thanks thank you quick one next dear ok".split())


@functools.lru_cache(maxsize=1 << 16)
def _shortened(word: str) -> frozenset[str]:
    """The word, and the word without each of its letters: words that are one slip apart
    share one of these, and few others do (the index of SymSpell). Of a word too long for
    that, the empty one."""
    if len(word) > _INDEXED:
        return frozenset(("",))
    return frozenset((word, *(word[:i] + word[i + 1 :] for i in range(len(word)))))


def _slip(a: str, b: str) -> bool:
    """Whether one slip makes one word the other: a letter lost or added, neighbours
    swapped, or, in words of at least six letters, another letter."""
    if a.isdigit() or b.isdigit() or abs(len(a) - len(b)) > 1:
        return False
    if len(a) > len(b):
        a, b = b, a
    i = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
    if len(a) < len(b):
        return a[i:] == b[i + 1 :]
    if a[i : i + 2] == b[i : i + 2][::-1] and a[i + 2 :] == b[i + 2 :]:
        return True
    return len(a) >= 6 and a[i + 1 :] == b[i + 1 :]


def content_words(text: str) -> tuple[str, ...]:
    """The words of a text in normal form, sorted, without words of courtesy."""
    found = words(normalise(text))[:_MAX_WORDS]
    return tuple(sorted(word for word in found if word not in _COURTESY))


def _near(a: frozenset[str], b: frozenset[str]) -> bool:
    """Whether few enough words differ for slips to be sought: a quick look."""
    return len(a - b) <= min(len(a), len(b)) // _LONG + max(2, len(a) // 4)


@functools.lru_cache(maxsize=1 << 12)
def _numbered(bag_w: tuple[str, ...]) -> frozenset[tuple[str, int]]:
    """The bag as a set: each word with the number of its occurrence."""
    seen: dict[str, int] = {}
    found = []
    for word in bag_w:
        seen[word] = seen.get(word, -1) + 1
        found.append((word, seen[word]))
    return frozenset(found)


def same_but_for_slips(a_w: Sequence[str], b_w: Sequence[str]) -> bool:
    """Whether two bags of words are one text with slips.

    Args:
      a_w, b_w: from `content_words`. One word in thirty may be another one; each other
        word must have its like, up to one slip, and about one in four may have one.
    """
    if a_w == b_w:
        return True
    spare = min(len(a_w), len(b_w)) // _LONG
    if abs(len(a_w) - len(b_w)) > spare or not _near(frozenset(a_w), frozenset(b_w)):
        return False
    left, right = _numbered(tuple(a_w)), _numbered(tuple(b_w))
    only_a = sorted(word for word, _ in left - right)
    only_b = sorted(word for word, _ in right - left)
    index = frozenset().union(*map(_shortened, only_b))
    unmatched = 0
    for word in only_a:
        near = not index.isdisjoint(_shortened(word)) or len(word) + 1 > _INDEXED
        like = next((o for o in only_b if near and _slip(word, o)), None)
        if like is not None:
            only_b.remove(like)
            continue
        unmatched += 1
        if unmatched > spare:
            return False
    return len(only_b) <= spare


def _signatures(bags: Sequence[Sequence[str]], seed: int) -> np.ndarray:
    """MinHash signatures `[n, h]` of the words."""
    h = _BANDS * _BAND
    rng = np.random.default_rng(seed)
    a_h = rng.integers(1, int(_PRIME), h, dtype=np.uint64)
    b_h = rng.integers(0, int(_PRIME), h, dtype=np.uint64)
    codes: dict[str, int] = {}
    out = np.zeros((len(bags), h), np.uint64)
    for row_h, bag_w in zip(out, bags, strict=True):
        for word in bag_w:
            if word not in codes:
                codes[word] = zlib.crc32(word.encode("utf-8", "surrogatepass")) >> 1
        code_w = np.array([codes[word] for word in bag_w] or [0], np.uint64)
        # Both factors are below 2^31, so that the product fits.
        row_h[:] = ((code_w[:, None] * a_h + b_h) % _PRIME).min(0)
    return out


def group(texts: Sequence[str], seed: int = 0) -> np.ndarray:
    """Numbers of the groups of near-duplicates, `[n]`, from 0 in order of appearance.

    A text joins the first group whose first text it resembles: groups do not chain. Time
    and memory are linear in n.

    Args:
      texts: what distinguishes the rows; what all rows share should be left out.
      seed: of the hash functions.
    """
    bag_of = {text: content_words(text) for text in dict.fromkeys(texts)}
    bags = list(dict.fromkeys(bag_of.values()))
    signature_nh = _signatures(bags, seed)
    group_of: dict[tuple[str, ...], int] = {}
    firsts: list[tuple[str, ...]] = []
    vocabularies: list[frozenset[str]] = []
    buckets: dict[tuple[int, bytes], list[int]] = {}
    for bag_w, signature_h in zip(bags, signature_nh, strict=True):
        bands = [
            (band, signature_h[band * _BAND : (band + 1) * _BAND].tobytes())
            for band in range(_BANDS)
        ]
        near = dict.fromkeys(g for band in bands for g in buckets.get(band, ()))
        vocabulary = frozenset(bag_w)
        likely = (g for g in near if _near(vocabularies[g], vocabulary))
        match = next((g for g in likely if same_but_for_slips(firsts[g], bag_w)), None)
        if match is None:
            match = len(firsts)
            firsts.append(bag_w)
            vocabularies.append(vocabulary)
            for band in bands:
                bucket = buckets.setdefault(band, [])
                if len(bucket) < _PER_BUCKET:
                    bucket.append(match)
        group_of[bag_w] = match
    return np.array([group_of[bag_of[text]] for text in texts], np.int64)
