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
_MAX_CHARS = 20_000  # of a request whose sentences are read
_NUMBER = re.compile(r"\d+")
_QUOTED = re.compile(r'"[^"\n]{0,2000}"|“[^”\n]{0,2000}”')


class Parted(NamedTuple):
    """The requests of n rows, taken apart.

    Attributes:
      question_n: the embedded items, their stems without template sentences.
      own_n: what else is the row's own, sentence by sentence.
      shared_n: the row's template sentences in normal form, in their order.
      template_n: number of the row's template; 0: none that enough rows share.
    """

    question_n: list[Embedded | None]
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


def _strip_stems(items: Sequence[Embedded | None]) -> dict[Embedded, Embedded]:
    """Items with a shorter stem: without the sentences that many items share ("Please
    answer."), unless nothing is left."""
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
    stripped = {}
    for item, pieces in parts.items():
        kept = [p for p in pieces if not ((s := normalise(p)) in shared or edited(s))]
        if kept and len(kept) < len(pieces):
            stripped[item] = replace(item, stem=" ".join(kept))
    return stripped


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


def part(requests: Sequence[str], items: Sequence[Embedded | None]) -> Parted:
    """Takes the requests of a job apart.

    Args:
      requests: n texts.
      items: what `embedded_questions.find` finds in each.
    """
    shorter = _strip_stems(items)
    question_n = [None if item is None else shorter.get(item, item) for item in items]
    pieces_n: list[list[tuple[str, str]]] = []
    rows: Counter[str] = Counter()
    for request, item, question in zip(requests, items, question_n, strict=True):
        start, end = item.span if item is not None else (_MAX_CHARS, _MAX_CHARS)
        texts = sentences(request[: min(start, _MAX_CHARS)])
        if item is not None and question is not None and question.stem != item.stem:
            kept = set(sentences(question.stem))
            texts += [s for s in sentences(item.stem) if s not in kept]
        texts += sentences(request[end : end + _MAX_CHARS])
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
    return Parted(question_n, own_n, shared_n, _number(shared_n, rows))
