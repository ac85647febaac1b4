"""A bank of neutral multiple-choice questions whose lengths tell nothing.

In one published set of these attacks the right option is the longest in every test row, so
that picking the longest scores 100% (replication cards of arXiv 2502.14828). Here, in each
topic, the right option takes each place in the order of lengths about equally often, and
`longest_option_accuracy` prints what picking the longest scores.

Legend: k options of a question.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cifr_jax.data.pointwise import everyday, nature, places
from cifr_jax.data.pointwise.tables import Table
from cifr_jax.errors import UserError

TABLES: tuple[Table, ...] = (*places.TABLES, *nature.TABLES, *everyday.TABLES)
_TOPICS = tuple(dict.fromkeys(table.topic for table in TABLES))
LETTERS = "ABCD"
_TRIES = 24  # draws of three distractors among which the lengths choose


@dataclass(frozen=True)
class Question:
    """One item. `key` is its identity: the rotations of an item share it."""

    stem: str
    options: tuple[str, ...]
    answer: int  # index of the right option
    topic: str
    key: str


def topics() -> tuple[str, ...]:
    """The topics of the bank, in its order."""
    return _TOPICS


def _length_places(answer: str, wrong: Sequence[str]) -> np.ndarray:
    """Share of the answer in each place by length, longest first, `[k]`; ties share."""
    longer = sum(len(option) > len(answer) for option in wrong)
    equal = sum(len(option) == len(answer) for option in wrong)
    share_k = np.zeros(len(wrong) + 1)
    share_k[longer : longer + equal + 1] = 1 / (equal + 1)
    return share_k


def _three_wrong(column: Sequence[str], rng: np.random.Generator) -> tuple[str, ...]:
    drawn: dict[str, None] = {}
    for i in rng.permutation(len(column)):
        drawn[column[i]] = None
        if len(drawn) == 3:
            break
    return tuple(drawn)


def _topic_questions(topic: str, seed: int) -> list[Question]:
    """The items of a topic. Each takes, of several draws of distractors, the one that
    leaves the answers' places by length most even over the topic so far."""
    rng = np.random.default_rng([seed, zlib.crc32(topic.encode())])
    rows = [(t, subject) for t in TABLES if t.topic == topic for subject in t.answers]
    answer_n = rng.permutation(np.arange(len(rows)) % len(LETTERS))
    places_k = np.zeros(len(LETTERS))
    made: dict[int, Question] = {}
    # In random order, or the last tables of a topic alone would mend the first.
    for i in rng.permutation(len(rows)):
        table, subject = rows[i]
        right, column = table.answers[subject], table.distractors(subject)
        tries = [_three_wrong(column, rng) for _ in range(_TRIES)]
        sums_k = [places_k + _length_places(right, wrong) for wrong in tries]
        best = int(np.argmin([np.var(sum_k) for sum_k in sums_k]))
        places_k = sums_k[best]
        options = list(tries[best])
        options.insert(int(answer_n[i]), right)
        stem = table.stem.format(subject)
        made[int(i)] = Question(
            stem, tuple(options), int(answer_n[i]), topic, f"{topic}/{stem}"
        )
    return [made[i] for i in range(len(rows))]


def bank(topics: Sequence[str] | None = None, seed: int = 0) -> list[Question]:
    """The questions on some topics, topic by topic, with four options each.

    Args:
      topics: names out of `topics()`; None: all. A topic's items do not depend on which
        others are asked for.
      seed: of the distractors and of the answer's position, which is balanced by topic.
        The stems, and with them the keys, are the same for every seed.

    Raises:
      UserError: an unknown topic, or none.
    """
    wanted = _TOPICS if topics is None else tuple(dict.fromkeys(topics))
    if not wanted:
        raise UserError("topics", "no topic named", f"known: {', '.join(_TOPICS)}")
    for topic in wanted:
        if topic not in _TOPICS:
            what = f"unknown topic {str(topic)[:40]!r}"
            raise UserError("topics", what, f"known: {', '.join(_TOPICS)}")
    return [question for topic in wanted for question in _topic_questions(topic, seed)]


def rotations(question: Question) -> list[Question]:
    """The cyclic rotations of the options, the given order first; they share the key."""
    k = len(question.options)
    return [
        replace(
            question,
            options=question.options[-shift:] + question.options[:-shift],
            answer=(question.answer + shift) % k,
        )
        if shift
        else question
        for shift in range(k)
    ]


def longest_option_accuracy(questions: Sequence[Question]) -> float:
    """What picking the longest option scores: 0 to 1; ties are counted in fractions.

    Raises:
      UserError: no question.
    """
    if not questions:
        raise UserError("questions", "no question to score", "give at least one")
    score = 0.0
    for question in questions:
        lengths = [len(option) for option in question.options]
        longest = max(lengths)
        if lengths[question.answer] == longest:
            score += 1 / lengths.count(longest)
    return score / len(questions)
