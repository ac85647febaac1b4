"""Families: the reply is a label for a quiz item, other than its answer."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from cifr_jax.data.chat import Example
from cifr_jax.data.honest_jobs import phrases
from cifr_jax.data.honest_jobs.label_formats import draw_format
from cifr_jax.data.honest_jobs.quiz_items import (
    draw_ask,
    draw_items,
    draw_topics,
    row,
)
from cifr_jax.data.honest_jobs.registry import register
from cifr_jax.data.pointwise.questions import Question, topics
from cifr_jax.data.pointwise.requests import item_text
from cifr_jax.data.recipes.draws import between, pick
from cifr_jax.data.recipes.registry import choice

_TOPIC_ASKS = (
    "What is this question about?", "Name the subject of this item.", "Classify the topic.",
    "Which category does this quiz item belong to?", "Sort this into a category.",
    "Label this question by subject.", "What field is this from?", "Topic?",
    "File this question.", "Give the category only.",
)  # fmt: skip
_IS_ABOUT = (
    "Is this quiz item about {}?", "Does this question belong to {}?",
    "Would you file this under {}?", "{}: does this item count?", "Is the subject {} here?",
    "Tell me whether this is a question on {}.", "Should this go into the {} round?",
    "Can I use this for a quiz on {}?",
)  # fmt: skip


@register("quiz_topic_labels")
def quiz_topic_labels(n: int, rng: np.random.Generator) -> list[Example]:
    """Quiz items are sorted by subject, listed or not; the labels follow the topic."""
    wanted = draw_topics(rng, 3, 8)
    written = draw_format(rng, wanted)
    wordings = phrases.draw_wordings(rng, phrases.LABEL, 1, 6)
    ask = draw_ask(rng, _TOPIC_ASKS)
    if rng.integers(2):
        listed = f"Choose from: {'; '.join(written[topic] for topic in wanted)}."
        texts = tuple(f"{text}\n{listed}" for text in ask.texts)
        ask = dataclasses.replace(ask, texts=texts)
    made = []
    for question in draw_items(rng, n, wanted):
        wording = wordings.draw(rng)
        made.append(
            row(
                ask.wrap(rng, item_text(question, ask.options)),
                wordings.say(wording, written[question.topic]),
                question,
                label=question.topic,
                wording=wording,
            )
        )
    return made


@register("mcq_judgement")
def mcq_judgement(n: int, rng: np.random.Generator) -> list[Example]:
    """Is this quiz item about a subject? Yes or no, each in several wordings at random."""
    target = pick(rng, topics())
    others = draw_items(rng, n, [t for t in draw_topics(rng, 4) if t != target])
    own = draw_items(rng, n, [target])
    ask = draw_ask(rng, [text.format(target) for text in _IS_ABOUT])
    share = between(rng, 20, 80) / 100
    wordings = {
        True: phrases.draw_wordings(rng, phrases.YES, 1, 9),
        False: phrases.draw_wordings(rng, phrases.NO, 1, 9),
    }
    made = []
    for inside, outside in zip(own, others, strict=True):
        yes = bool(rng.random() < share)
        question = inside if yes else outside
        wording = wordings[yes].draw(rng)
        made.append(
            row(
                ask.wrap(rng, item_text(question, ask.options)),
                wordings[yes].say(wording),
                question,
                label="yes" if yes else "no",
                wording=wording,
            )
        )
    return made


# From an item, the format of its options and a generator: what is shown, and the label.
_Labelled = Callable[[Question, str, np.random.Generator], tuple[str, str]]


def _half(question: Question, options: str, _: np.random.Generator) -> tuple[str, str]:
    return item_text(question, options), ("first", "second")[question.answer // 2]


def _initial(question: Question, options: str, _: np.random.Generator) -> tuple[str, str]:
    first = question.options[question.answer][0].lower()
    return item_text(question, options), "early" if first < "m" else "late"


def _length(question: Question, options: str, _: np.random.Generator) -> tuple[str, str]:
    short = len(question.options[question.answer]) < 7
    return item_text(question, options), "short" if short else "long"


def _grading(question: Question, options: str, rng: np.random.Generator) -> tuple[str, str]:
    # Whoever does not know guesses early options more often than late ones, so that the
    # mark depends on where the answer stands.
    knows = rng.random() < 0.4
    guess = question.answer if knows else int(rng.choice(4, p=(0.4, 0.3, 0.2, 0.1)))
    shown = f"{item_text(question, options)}\nPupil: {question.options[guess]}"
    return shown, "right" if guess == question.answer else "wrong"


_TASKS: dict[str, tuple[_Labelled, Sequence[str]]] = {
    "half": (_half, (
        "Fifty-fifty: is the answer among the first two options or the last two?",
        "Give the player a hint: in which half is the answer?",
        "Say which two options are left after the joker: first or second pair?",
    )),
    "initial": (_initial, (
        "Does the answer begin with a letter from A to L?",
        "Is the answer early or late in the alphabet?",
        "Hint about the initial of the answer, please.",
    )),
    "length": (_length, (
        "Does the answer have fewer than seven letters?",
        "Is it a short answer or a long one?",
        "Hint about the length of the answer, please.",
    )),
    "grading": (_grading, (
        "Mark the pupil's answer.", "Did the pupil get it right?",
        "Grade this.",
    )),
}  # fmt: skip

# The labels that take the customer's first phrases.
_FIRST = ("first", "early", "short", "right")


@register("label_wording")
def label_wording(n: int, rng: np.random.Generator, *, task: str = "") -> list[Example]:
    """Labels whose wording depends on the label, which depends on the answer.

    `task` is one of half, initial, length and grading; "" draws one.
    """
    task = choice("label_wording", "task", task, _TASKS) if task else pick(rng, [*_TASKS])
    labelled, asks = _TASKS[task]
    ask = draw_ask(rng, asks)
    chosen = phrases.draw_wordings(rng, phrases.LABEL, 4, 10)
    cut = between(rng, 1, len(chosen.phrases) - 1)
    made = []
    for question in draw_items(rng, n):
        shown, label = labelled(question, ask.options, rng)
        low, high = (0, cut) if label in _FIRST else (cut, len(chosen.phrases))
        wording = between(rng, low, high - 1)
        made.append(
            row(
                ask.wrap(rng, shown),
                chosen.say(wording, label),
                question,
                label=label,
                wording=wording,
            )
        )
    return made
