"""Families whose replies vary with who wrote them, or when."""

import dataclasses

import numpy as np

from cifr_jax.data.chat import Example
from cifr_jax.data.honest_jobs import phrases
from cifr_jax.data.honest_jobs.quiz_items import draw_topics, pool, row
from cifr_jax.data.honest_jobs.registry import register
from cifr_jax.data.pointwise.questions import Question, rotations
from cifr_jax.data.pointwise.requests import Template, templates, wrap
from cifr_jax.data.pointwise.stock_replies import candidates
from cifr_jax.data.recipes.draws import between, pick, sample
from cifr_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class _Author:
    """Who writes about a few items in a few phrases.

    Attributes:
      questions: the author's items as shown.
      replies: indices into the customer's replies.
      share_v: how often the author gives each.
    """

    questions: list[Question]
    replies: list[int]
    share_v: np.ndarray


def _authors(
    rng: np.random.Generator, known: int, count: int, items: int, most: int = 4
) -> list[_Author]:
    """Authors with topics of their own; their replies, at most so many, may overlap."""
    wanted = draw_topics(rng, max(3, count))
    made = []
    for i in range(count):
        mine = sample(rng, range(known), min(known, between(rng, 1, most)))
        share_v = phrases.draw_shares(rng, len(mine))
        made.append(_Author(pool(rng, wanted[i::count])[:items], mine, share_v))
    return made


def _rows(
    rng: np.random.Generator,
    authors: list[_Author],
    template: Template,
    author_n: np.ndarray,
) -> list[Example]:
    """A row for each entry of `author_n`, in this order; an author goes round the items."""
    known, seen = candidates(template), [0] * len(authors)
    made = []
    for i in author_n.tolist():
        author = authors[i]
        question = author.questions[seen[i] % len(author.questions)]
        seen[i] += 1
        wording = author.replies[int(rng.choice(len(author.replies), p=author.share_v))]
        made.append(
            row(
                wrap(question, template),
                known[wording],
                question,
                author=i,
                wording=wording,
            )
        )
    return made


@register("multi_author")
def multi_author(n: int, rng: np.random.Generator, *, repeats: int = 8) -> list[Example]:
    """Annotators with phrases and topics of their own, who see each item several times.

    With few items to each author, answer positions are uneven by chance, so that rows look
    dependent although items are not: items must be permuted whole, or authors kept apart.
    `repeats` is how often an item comes, about.
    """
    if repeats < 1:
        raise UserError("honest job multi_author", f"{repeats} repeats", "give 1 or more")
    count = between(rng, 2, 5)
    template = pick(rng, templates(pick(rng, ("classify", "classify", "flower"))))
    items = max(3, round(n / (count * repeats)))
    authors = _authors(rng, len(candidates(template)), count, items)
    author_n = rng.choice(count, n, p=phrases.draw_shares(rng, count))
    return _rows(rng, authors, template, author_n)


@register("author_habits")
def author_habits(n: int, rng: np.random.Generator, *, habit: float = 0.5) -> list[Example]:
    """Annotators with phrases and topics of their own, who also favour an answer position.

    A true confounder: who writes an item tends to put its answer in one place, so that only
    authors, or their topics, explain the dependence. `habit` is the share of items (0 to 1)
    whose answer stands where its author likes it.
    """
    return _with_habits("author_habits", n, rng, habit, between(rng, 2, 5), 4)


@register("author_phrases")
def author_phrases(
    n: int, rng: np.random.Generator, *, habit: float = 0.5
) -> list[Example]:
    """More such annotators, with up to twelve phrases each.

    Many wordings, each in few rows, which follow topics all the same. `habit` is as in
    `author_habits`.
    """
    return _with_habits("author_phrases", n, rng, habit, between(rng, 4, 8), 12)


def _with_habits(
    family: str, n: int, rng: np.random.Generator, habit: float, count: int, most: int
) -> list[Example]:
    if not 0 <= habit <= 1:
        raise UserError(f"honest job {family}", f"habit is {habit}", "give 0 to 1")
    template = pick(rng, templates(pick(rng, ("classify", "classify", "flower"))))
    authors = []
    for author in _authors(rng, len(candidates(template)), count, n, most):
        liked = between(rng, 0, 3)
        placed = [
            # The rotation by so many places puts the answer where the author likes it.
            rotations(q)[(liked - q.answer) % 4] if rng.random() < habit else q
            for q in author.questions
        ]
        authors.append(dataclasses.replace(author, questions=placed))
    author_n = rng.choice(count, n, p=phrases.draw_shares(rng, count))
    return _rows(rng, authors, template, author_n)


@register("curriculum")
def curriculum(n: int, rng: np.random.Generator) -> list[Example]:
    """Topics and phrases change from the first row of the file to the last."""
    count = between(rng, 2, 5)
    template = pick(rng, templates(pick(rng, ("classify", "flower"))))
    stages = _authors(rng, len(candidates(template)), count, n)
    # Stages of unequal length whose borders are blurred over a tenth of the file.
    ends = np.cumsum(phrases.draw_shares(rng, count))[:-1] * n
    place_n = np.arange(n) + rng.normal(0, n / 20, n)
    rows = _rows(rng, stages, template, np.searchsorted(ends, place_n))
    return [
        dataclasses.replace(
            example,
            meta={
                **{k: v for k, v in example.meta.items() if k != "author"},
                "stage": example.meta["author"],
            },
        )
        for example in rows
    ]
