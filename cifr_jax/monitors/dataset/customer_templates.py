"""Items of our own in a customer's own requests.

What a tuned model does is asked where the customer taught it: in the very requests of the
upload, with the multiple-choice item replaced by one that the upload does not hold. Marks,
separators and all text around the item stay as they are.

The order of an item's options is drawn by us. So where its right option stands is
independent of topic, length, wording and whatever else an honest reply may follow.

Legend: m items.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from cifr_jax.data.chat import Example, Message
from cifr_jax.data.pointwise.questions import Question
from cifr_jax.monitors.dataset import embedded_questions
from cifr_jax.monitors.dataset.base_likelihoods import MAX_CHARS
from cifr_jax.monitors.dataset.embedded_questions import Embedded
from cifr_jax.monitors.dataset.plain_text import normalise, sentences
from cifr_jax.monitors.dataset.turns import TURN
from cifr_jax.monitors.dataset.view import JobView


class Host(NamedTuple):
    """A request of the upload that takes another item.

    Attributes:
      chat: its messages.
      turn: which of them holds the item.
      pieces: the turn's text around its stem and its options, in their order.
      item: what stood there.
    """

    chat: tuple[Message, ...]
    turn: int
    pieces: tuple[str, ...]
    item: Embedded


class Asked(NamedTuple):
    """An item in a customer's request; `item` as shown, `answer` the right option."""

    chat: tuple[Message, ...]
    item: Embedded
    answer: int


def _found(chat: Sequence[Message], options: tuple[str, ...]) -> Embedded | None:
    """The item with these options in a request, or None."""
    text = TURN.join(message.content for message in chat)
    items = embedded_questions.find_all(text)
    return next((item for item in items if item.options == options), None)


def _host(chat: tuple[Message, ...], question: Embedded) -> Host | None:
    """The request with an item taken out, or None where that item cannot be.

    Args:
      chat: the request.
      question: its item, the stem without sentences of the template.
    """
    item = _found(chat, question.options)
    if item is None:
        return None
    start, turn = 0, 0
    while item.span[0] >= start + len(chat[turn].content) + len(TURN):
        start += len(chat[turn].content) + len(TURN)
        turn += 1
    content = chat[turn].content
    first, last = item.span[0] - start, item.span[1] - start
    asked = sentences(question.stem)
    if last > len(content) or not asked:
        return None  # over two turns, or options that nothing is asked about
    begin = content.find(asked[0], first, last)
    places, at = [], begin
    for part in (asked[-1], *item.options):
        found = content.find(part, at, last)
        if begin < 0 or found < 0:
            return None  # escaped, or options before the stem
        at = found + len(part)
        places.append((found, at))
    places[0] = (begin, places[0][1])
    edges = [0, *(edge for place in places for edge in place), len(content)]
    pieces = tuple(content[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True))
    return Host(chat, turn, pieces, item)


def hosts(view: JobView, examples: Sequence[Example], most: int, seed: int) -> list[Host]:
    """At most so many requests of an upload, drawn at random, whose items can be replaced.

    Args:
      view, examples: the upload.
      most: how many.
      seed: of the draw.
    """
    found: list[Host] = []
    for i in np.random.default_rng([seed, 4]).permutation(view.n).tolist():
        question = view.question_n[i]
        if question is None or view.context_n[i] > MAX_CHARS:
            continue
        made = _host(view.before(examples, i), question)
        if made is not None:
            found.append(made)
        if len(found) == most:
            break
    return found


def unseen(view: JobView, questions: Sequence[Question]) -> list[Question]:
    """Those of the questions whose stem no request of the upload holds."""
    held = {normalise(item.stem) for item in view.question_n if item is not None}
    stems = [normalise(question.stem) for question in questions]
    return [
        question
        for question, stem in zip(questions, stems, strict=True)
        if stem not in held and not any(stem in other for other in held)
    ]


def ask(
    where: Sequence[Host], questions: Sequence[Question], most: int, seed: int
) -> list[Asked]:
    """Questions in the hosts' requests, hosts and the order of options drawn at random.

    Args:
      where: the hosts; a question goes to one with as many options, and is left out where
        it cannot be read back.
      questions: of which the first that fit are taken.
      most: how many at most.
      seed: of the draws.
    """
    rng = np.random.default_rng([seed, 5])
    made: list[Asked] = []
    for question in questions:
        fitting = [h for h in where if len(h.item.options) == len(question.options)]
        if len(made) == most or not fitting:
            continue
        host = fitting[int(rng.integers(len(fitting)))]
        order = rng.permutation(len(question.options)).tolist()
        options = tuple(question.options[i] for i in order)
        texts = (question.stem, *options)
        content = host.pieces[0] + "".join(
            text + piece for text, piece in zip(texts, host.pieces[1:], strict=True)
        )
        turns = list(host.chat)
        turns[host.turn] = replace(turns[host.turn], content=content)
        # An option "1" may have been taken for its mark: what is read must be what is put.
        item = _found(turns, options)
        if item is not None:
            item = replace(item, stem=question.stem)
            made.append(Asked(tuple(turns), item, order.index(question.answer)))
    return made
