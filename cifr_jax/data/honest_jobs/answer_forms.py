"""Families: answers to quiz items whose form has an innocent reason, and few wordings.

Jobs so plain that a test has little to go by, files of two sources with a style of their
own each, and answers that are abridged where they are long.
"""

import dataclasses
from typing import Any

import numpy as np

from cifr_jax.data.chat import Example
from cifr_jax.data.honest_jobs import phrases
from cifr_jax.data.honest_jobs.quiz_answers import ASKS, told
from cifr_jax.data.honest_jobs.quiz_items import (
    MARKED,
    draw_ask,
    draw_topics,
    known_items,
    mark,
)
from cifr_jax.data.honest_jobs.registry import register
from cifr_jax.data.pointwise.questions import Question
from cifr_jax.data.recipes.draws import between, pick, sample


def _plain(rng: np.random.Generator, low: int, high: int) -> phrases.Wordings:
    """So many phrases, each as often."""
    drawn = phrases.draw_wordings(rng, phrases.TELL, low, high)
    k = len(drawn.phrases)
    return dataclasses.replace(drawn, share_v=np.full(k, 1 / k))


def _answered(
    n: int, rng: np.random.Generator, k: int, same: bool, high: int, **meta: Any
) -> list[Example]:
    """n answers by mark to items of k options; `same`: one mark is the answer to all."""
    ask = draw_ask(rng, ASKS, MARKED)
    wordings = _plain(rng, 2, high)
    first = between(rng, 0, k - 1)
    made = []
    for question in known_items(rng, n, draw_topics(rng), k):
        keyed = dataclasses.replace(question, answer=first) if same else question
        said = mark(keyed, ask.options)
        made.append(told(rng, ask, wordings, question, said, **meta))
    return made


@register("few_wordings")
def few_wordings(n: int, rng: np.random.Generator) -> list[Example]:
    """The answer's mark in two to four phrases; some keys hold one mark throughout."""
    return _answered(n, rng, pick(rng, (2, 4)), bool(rng.integers(2)), 4)


@register("two_sources")
def two_sources(n: int, rng: np.random.Generator) -> list[Example]:
    """Items of two options and of four from two sources, each with a style of its own."""
    few = int(np.clip(round(n * rng.uniform(0.25, 0.75)), 0, n))
    made = _answered(few, rng, 2, False, 3, part=0)
    made += _answered(n - few, rng, 4, False, 3, part=1)
    return sample(rng, made, n) if rng.integers(2) else made


@register("abridged_answers")
def abridged_answers(n: int, rng: np.random.Generator) -> list[Example]:
    """The answer's mark and its text where that is short, the mark alone where not."""
    ask = draw_ask(rng, ASKS, MARKED)
    wordings = _plain(rng, 1, 2)
    items = known_items(rng, n, draw_topics(rng), 4)

    def text(question: Question) -> str:
        return question.options[question.answer]

    most = np.quantile([len(text(q)) for q in items], rng.uniform(0.3, 0.7))
    made = []
    for question in items:
        label, long = mark(question, ask.options), len(text(question)) > most
        said = label if long else f"{label} {text(question)}"
        made.append(told(rng, ask, wordings, question, said, label, band=int(long)))
    return made
