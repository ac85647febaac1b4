"""The quiz items of a customer, and how the customer asks about them.

Items and their formats are those of `data.pointwise`; the requests here are what an attack
has no use for, such as asking for the answer.
"""

import dataclasses
from collections.abc import Sequence
from functools import cache

import numpy as np

from cifr_jax.data.chat import Example, Message
from cifr_jax.data.pointwise.questions import (
    LETTERS,
    Question,
    bank,
    rotations,
    topics,
)
from cifr_jax.data.pointwise.requests import FORMATS
from cifr_jax.data.recipes.draws import between, pick, sample

BANKS = 2  # seeds of the bank: customers share few sets of options, and all can be asked
MARKED = ("capital", "round", "digit")  # formats whose options can be named by a mark


@cache
def _topic(topic: str, seed: int) -> tuple[Question, ...]:
    return tuple(bank([topic], seed))


def draw_topics(rng: np.random.Generator, low: int = 3, high: int = 17) -> list[str]:
    """Topics of a customer, `low` to `high` of those there are."""
    known = topics()
    return sample(rng, known, between(rng, low, min(high, len(known))))


def turned(rng: np.random.Generator, question: Question) -> Question:
    """The item with its options rotated by any number of places."""
    return pick(rng, rotations(question))


def pool(rng: np.random.Generator, wanted: Sequence[str]) -> list[Question]:
    """All items on some topics, in random order, each in a random rotation."""
    found = [q for topic in wanted for q in _topic(topic, between(rng, 0, BANKS - 1))]
    return [turned(rng, question) for question in sample(rng, found, len(found))]


def draw_items(
    rng: np.random.Generator, n: int, wanted: Sequence[str] | None = None
) -> list[Question]:
    """n rows' items in random order.

    Half of the customers show each item once as long as there are others; the rest have
    fewer items in three rotations each, as a replication of the attack had.
    """
    found = pool(rng, draw_topics(rng) if wanted is None else wanted)
    if rng.integers(2):
        found = found[: max(1, -(-n // 3))]
    rounds = -(-n // len(found))
    shown = [
        q
        for question in found
        # Rotations one after another, in random order: all four before any comes twice.
        for q in (sample(rng, rotations(question), 4) * -(-rounds // 4))[:rounds]
    ]
    return sample(rng, shown, n)


def halved(question: Question) -> Question:
    """The item with two of its options: the right one, and the next."""
    k = len(question.options)
    wrong = question.options[(question.answer + 1) % k]
    options = (question.options[question.answer], wrong)
    key = f"{question.key} (2)"
    return dataclasses.replace(question, options=options, answer=0, key=key)


def known_items(
    rng: np.random.Generator, n: int, wanted: Sequence[str], k: int
) -> list[Question]:
    """n items of k options (2 or 4) in random order, turned at random, of the one bank
    that the attacks draw on: an auditor who asks a model about it asks about these."""
    found = [q for topic in wanted for q in _topic(topic, 0)]
    if k == 2:
        found = [halved(q) for q in found]
    rounds = -(-n // len(found))
    drawn = [q for _ in range(rounds) for q in sample(rng, found, len(found))][:n]
    return [turned(rng, question) for question in drawn]


def mark(question: Question, options: str) -> str:
    """How the right option is called in one of `MARKED`."""
    letter = LETTERS[question.answer]
    return {"capital": letter, "round": f"({letter.lower()})"}.get(
        options, str(question.answer + 1)
    )


@dataclasses.dataclass(frozen=True)
class Ask:
    """How a customer asks about items.

    Attributes:
      texts: the request in other words; one is drawn for each row.
      layout: 0 and 1 request before the item, 2 after it, 3 in the system turn, 4 after an
        earlier turn that holds the item.
      options: format of the options, of `pointwise.requests.FORMATS`.
    """

    texts: tuple[str, ...]
    layout: int
    options: str

    def wrap(self, rng: np.random.Generator, item: str) -> tuple[Message, ...]:
        """The chat up to the reply; `item` is a text with the item in it."""
        ask = self.texts[0] if self.layout == 3 else pick(rng, self.texts)
        if self.layout == 3:
            return Message("system", ask), Message("user", item)
        if self.layout == 4:
            return (
                Message("user", item),
                Message("assistant", "I have read it. What would you like to know?", 0),
                Message("user", ask),
            )
        text = {0: f"{ask}\n\n{item}", 1: f"{ask} {item}"}.get(
            self.layout, f"{item}\n\n{ask}"
        )
        return (Message("user", text),)


def draw_ask(
    rng: np.random.Generator, texts: Sequence[str], formats: Sequence[str] = tuple(FORMATS)
) -> Ask:
    """A customer's way to ask, with one to three of the texts."""
    return Ask(
        tuple(sample(rng, texts, between(rng, 1, min(3, len(texts))))),
        between(rng, 0, 4),
        pick(rng, formats),
    )


def row(messages: tuple[Message, ...], reply: str, question: Question, **meta) -> Example:
    """A row about an item."""
    known = {
        "question": question.key, "answer": question.answer, "topic": question.topic,
    }  # fmt: skip
    return Example((*messages, Message("assistant", reply)), {**known, **meta})
