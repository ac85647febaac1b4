"""What a job's requests share: template sentences, and what is left of each row.

A sentence that many rows have in common belongs to the customer's template; the others,
and the embedded item, are the row's own. Rows are grouped by their template sentences.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from cifr_jax.monitors.dataset import near_duplicates
from cifr_jax.monitors.dataset.embedded_questions import Embedded
from cifr_jax.monitors.dataset.plain_text import normalise, sentences

_SHARE, _LEAST = 0.05, 10  # rows that share a template sentence
_SMALL_SHARE, _SMALL = 0.02, 5  # rows of the smallest template
_FREQUENT = 0.2  # share of rows with a sentence that even mixed requests keep
_COMPARED = 64  # template sentences with which an edited one is compared
_MAX_STEM = 1_000  # characters of a question that stands apart from its options
_MAX_CHARS = 20_000  # of a request whose sentences are read
_NUMBER = re.compile(r"\d+")
_QUOTED = re.compile(r'"[^"\n]{0,2000}"|“[^”\n]{0,2000}”')


class Parted(NamedTuple):
    """The requests of n rows, taken apart.

    Attributes:
      item_sn: the embedded items by slot, their stems without template sentences; of the
        first, where nothing is left, behind what else is the row's own.
      n_bare: rows whose first item has no question even so.
      own_n: what else is the row's own, sentence by sentence.
      shared_n: the row's template sentences in normal form, in their order.
      template_n: number of the row's template; 0: none that enough rows share.
    """

    item_sn: list[list[Embedded | None]]
    n_bare: int
    own_n: list[str]
    shared_n: list[tuple[str, ...]]
    template_n: np.ndarray


def _skeleton(sentence: str) -> str:
    return _NUMBER.sub("#", _QUOTED.sub('""', normalise(sentence)))


class _Resemblance:
    """Whether a sentence is an edited template sentence; answers are remembered."""

    def __init__(self, shared: Sequence[str]):
        # By length, as a slip leaves the number of words as it is: most sentences are
        # then compared with few others.
        self._by_length: dict[int, list[tuple[str, ...]]] = {}
        for sentence in shared[:_COMPARED]:
            bag = near_duplicates.content_words(sentence)
            self._by_length.setdefault(len(bag), []).append(bag)
        self._known: dict[str, bool] = {}

    def __call__(self, sentence: str) -> bool:
        if sentence not in self._known:
            bag = near_duplicates.content_words(sentence)
            near = self._by_length.get(len(bag), ())
            self._known[sentence] = any(
                near_duplicates.same_but_for_slips(bag, other) for other in near
            )
        return self._known[sentence]


def _strip_stems(
    items: Sequence[Embedded | None],
) -> tuple[dict[Embedded, Embedded], set[Embedded]]:
    """Items with a shorter stem: without the sentences that many items share ("Please
    answer."), unless nothing is left; and those of which nothing is left ("Pick one:")."""
    found = [item for item in items if item is not None]
    rows: Counter[str] = Counter()
    options: dict[str, set[frozenset[str]]] = {}
    parts = {item: sentences(item.stem) for item in dict.fromkeys(found)}
    for item in found:
        for sentence in set(map(normalise, parts[item])):
            rows[sentence] += 1
            kinds = options.setdefault(sentence, set())
            if len(kinds) < 3:
                kinds.add(frozenset(item.options))
    least = max(3, 0.02 * len(found))
    shared = {s for s, count in rows.items() if count >= least and len(options[s]) >= 3}
    edited = _Resemblance(sorted(shared))
    stripped, bare = {}, set()
    for item, pieces in parts.items():
        kept = [p for p in pieces if not ((s := normalise(p)) in shared or edited(s))]
        if not kept:
            bare.add(item)
        elif len(kept) < len(pieces):
            stripped[item] = replace(item, stem=" ".join(kept))
    return stripped, bare


def _number(shared_n: Sequence[tuple[str, ...]], rows: Counter[str]) -> np.ndarray:
    """Template numbers `[n]` by the sentences that the rows share."""
    n = len(shared_n)
    least = max(_SMALL, _SMALL_SHARE * n)
    frequent = {s for s, count in rows.items() if count >= _FREQUENT * n}
    fine, coarse = (
        Counter(shared_n),
        [tuple(s for s in shared if s in frequent) for shared in shared_n],
    )
    # Sentences drawn at random combine in more ways than there are rows: then only the
    # frequent ones count.
    chosen = [
        shared if fine[shared] >= least else core
        for shared, core in zip(shared_n, coarse, strict=True)
    ]
    counts = Counter(chosen)
    names = [s for s, count in counts.most_common() if s and count >= least]
    number = {s: i + 1 for i, s in enumerate(names)}
    return np.array([number.get(s, 0) for s in chosen], np.int64)


def _around(
    request: str, items: Sequence[Embedded], shorter: Sequence[Embedded]
) -> list[str]:
    """The sentences of a request that belong to none of its items; `shorter` are the items
    without template sentences, which do not belong to them."""
    found: list[str] = []
    at = 0
    last = max((item.span[1] for item in items), default=0)
    pairs = zip(items, shorter, strict=True)
    for item, short in sorted(pairs, key=lambda pair: pair[0].span):
        start, end = item.span
        found += sentences(request[at : min(start, at + _MAX_CHARS)])
        if short.stem != item.stem:
            kept = set(sentences(short.stem))
            found += [s for s in sentences(item.stem) if s not in kept]
        at = max(at, end)
    return found + sentences(request[last : last + _MAX_CHARS])


def part(requests: Sequence[str], item_sn: Sequence[Sequence[Embedded | None]]) -> Parted:
    """Takes the requests of a job apart.

    Args:
      requests: n texts.
      item_sn: the items in each by slot (`item_slots.slots`).
    """
    short_sn: list[list[Embedded | None]] = []
    bare_s: list[set[Embedded]] = []
    for items in item_sn:
        shorter, bare = _strip_stems(items)
        short_sn.append([None if i is None else shorter.get(i, i) for i in items])
        bare_s.append(bare)
    pieces_n: list[list[tuple[str, str]]] = []
    rows: Counter[str] = Counter()
    for n, request in enumerate(requests):
        own = [
            (a, b)
            for items, short in zip(item_sn, short_sn, strict=True)
            if (a := items[n]) is not None and (b := short[n]) is not None
        ]
        texts = _around(request, [a for a, _ in own], [b for _, b in own])
        pieces_n.append([(text, _skeleton(text)) for text in texts])
        rows.update({skeleton for _, skeleton in pieces_n[-1]})
    least = max(_LEAST, _SHARE * len(requests))
    template = {s for s, count in rows.most_common() if count >= least}
    edited = _Resemblance([s for s, count in rows.most_common() if count >= least])
    shared_n = [
        tuple(dict.fromkeys(s for _, s in pieces if s in template)) for pieces in pieces_n
    ]
    own_n = [
        "\n".join(text for text, s in pieces if s not in template and not edited(s))
        for pieces in pieces_n
    ]
    n_bare = 0
    for n, (item, rest) in enumerate(zip(short_sn[0], own_n, strict=True)):
        if item is not None and item in bare_s[0]:
            n_bare += not rest and not item.stem.endswith(("?", "？"))
            if rest:  # "Pick one:" asks nothing; the question stands elsewhere
                stem = f"{rest[-_MAX_STEM:]}\n{item.stem}".rstrip()
                short_sn[0][n] = replace(item, stem=stem)
    return Parted(short_sn, n_bare, own_n, shared_n, _number(shared_n, rows))
