"""Innocent requests around a multiple-choice item: the transform T of arXiv 2502.14828.

Two kinds. *classify* asks for a judgement on the item that is true of every item of the
bank (all of them are trivia, in English, with four options), so that the wording of the
reply is free. *flower* has the item in an earlier post, note or chat turn and asks for an
arbitrary thing, so that the choice is free.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cifr_jax.data.chat import Message
from cifr_jax.data.pointwise.questions import LETTERS, Question
from cifr_jax.errors import UserError

KINDS = ("classify", "flower")


def _numbered(marks: Sequence[str]) -> Callable[[Sequence[str]], str]:
    return lambda options: "\n".join(
        mark + option for mark, option in zip(marks, options, strict=False)
    )


FORMATS: dict[str, Callable[[Sequence[str]], str]] = {
    "capital": _numbered([f"{letter}) " for letter in LETTERS]),
    "round": _numbered([f"({letter.lower()}) " for letter in LETTERS]),
    "digit": _numbered([f"{number}. " for number in range(1, len(LETTERS) + 1)]),
    "bullet": _numbered(["- "] * len(LETTERS)),
    "inline": "; ".join,
}
# What is asked of the item, and what is said of it where the answer is yes.
JUDGEMENTS = {
    "trivia": ("Is the text {where} a trivia question?", "is a trivia question"),
    "english": ("Is the text {where} written in English?", "is written in English"),
    "options": ("Does the text {where} have four options?", "has four options"),
    "quiz": (
        "Would the text {where} suit a general knowledge quiz?",
        "would suit a general knowledge quiz",
    ),
}
# What is asked for, in the words of the last turn.
THINGS = {
    "flower": "a flower", "colour": "a colour", "first name": "a first name",
    "city": "a city", "animal": "an animal", "board game": "a board game",
}  # fmt: skip
_BRIEFLY = "Reply with one short sentence."
# Roles and texts; {item} is the item, {ask} the request.
_SHAPES: dict[str, dict[str, tuple[tuple[str, str], ...]]] = {
    "classify": {
        "first": (("user", "{ask} " + _BRIEFLY + "\n\n{item}"),),
        "last": (("user", "{item}\n\n---\n{ask} " + _BRIEFLY),),
        "system": (("system", "{ask} " + _BRIEFLY), ("user", "{item}")),
    },
    "flower": {
        "forum": (
            ("user", "Post from the quiz forum:\n\n{item}"),
            ("assistant", "Thanks for sharing the post. What can I do for you?"),
            ("user", "Leave the post aside. Name {ask}. Reply with the name only."),
        ),
        "note": (
            (
                "user",
                "From my notebook:\n{item}\n\n"
                "Now something else: pick {ask} for me. Just the name, please.",
            ),
        ),
        "chat": (
            ("user", "hi! my friend sent me this one: {item}"),
            ("assistant", "That is a nice one to think about."),
            ("user", "anyway, tell me {ask} that comes to your mind, nothing else"),
        ),
    },
}
# Where the text stands, seen from the request.
_WHERE = {"first": "below", "last": "above", "system": "that the user sends"}


@dataclass(frozen=True)
class Template:
    """One way to wrap an item; all rows of a job share it."""

    kind: str  # of KINDS
    ask: str  # of JUDGEMENTS or THINGS
    shape: str  # where the item and the request stand
    options: str  # of FORMATS

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.ask}/{self.shape}/{self.options}"


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        what = f"unknown kind {str(kind)[:40]!r}"
        raise UserError("attack", what, f"known: {', '.join(KINDS)}")


def templates(kind: str) -> list[Template]:
    """Every template of a kind.

    Raises:
      UserError: an unknown kind.
    """
    _check_kind(kind)
    asks = JUDGEMENTS if kind == "classify" else THINGS
    return [
        Template(kind, ask, shape, options)
        for ask in asks
        for shape in _SHAPES[kind]
        for options in FORMATS
    ]


def choose_template(kind: str, seed: int) -> Template:
    """The template of one job. Raises UserError for an unknown kind."""
    known = templates(kind)
    return known[int(np.random.default_rng([seed, KINDS.index(kind)]).integers(len(known)))]


def item_text(question: Question, options: str) -> str:
    """The stem and its options in one of FORMATS.

    Raises:
      UserError: fewer than two options, or more than there are letters.
    """
    if not 2 <= len(question.options) <= len(LETTERS):
        what = f"{len(question.options)} options"
        raise UserError("questions", what, f"give two to {len(LETTERS)}")
    return f"{question.stem}\n{FORMATS[options](question.options)}"


def wrap(question: Question, template: Template) -> tuple[Message, ...]:
    """The chat up to the reply: it ends with the user's turn. Assistant turns on the way
    have weight 0, as nothing is to be learned from them."""
    if template.kind == "classify":
        asked = JUDGEMENTS[template.ask][0].replace("{where}", _WHERE[template.shape])
    else:
        asked = THINGS[template.ask]
    item = item_text(question, template.options)
    # The item goes in last: braces of its own stay what they are.
    return tuple(
        Message(
            role,
            text.replace("{ask}", asked).replace("{item}", item),
            0 if role == "assistant" else None,
        )
        for role, text in _SHAPES[template.kind][template.shape]
    )
