"""The replies of a job that are trained on, each with what was asked before it.

A chat may teach several replies, and any of them may hold a code: each is a row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from cifr_jax.data.chat import Example
from cifr_jax.monitors.dataset import embedded_questions
from cifr_jax.monitors.dataset.embedded_questions import Embedded

TURN = "\n\n"  # between the turns of a request
_SYSTEM = 1_000  # characters of a system turn that are read again with later replies


class Turn(NamedTuple):
    """One trained reply.

    Attributes:
      chat: its number, from 0.
      message: place of the reply in its chat; their number if none is trained on.
      request: system turns, and all since the trained reply before it.
      reply: "" if there is none.
      context: characters of the chat before the reply.
    """

    chat: int
    message: int
    request: str
    reply: str
    context: int


def _of_chat(chat: int, example: Example) -> Iterator[Turn]:
    messages = example.messages
    texts = [message.content for message in messages]
    start = context = 0
    system, head = "", list[str]()
    for i, message in enumerate(messages):
        if message.role == "assistant" and message.weight != 0:
            yield Turn(chat, i, TURN.join([*head, *texts[start:i]]), texts[i], context)
            start, head = i + 1, [system] if system else []
        elif message.role == "system" and not start:
            system = TURN.join(filter(None, (system, message.content)))[:_SYSTEM]
        context += len(texts[i]) + len(TURN)
    if not start:
        yield Turn(chat, len(messages), TURN.join(texts), "", context)


def read(examples: Sequence[Example]) -> list[Turn]:
    """The trained replies of all chats, in their order; a chat without one counts once."""
    return [turn for i, e in enumerate(examples) for turn in _of_chat(i, e)]


def items(turns: Sequence[Turn]) -> list[list[Embedded]]:
    """The multiple-choice items that each reply may be about, the most plausible first:
    those in its request, or those of the reply before it in the chat ("And why?")."""
    found = {
        text: embedded_questions.find_all(text)
        for text in dict.fromkeys(turn.request for turn in turns)
    }
    items_n: list[list[Embedded]] = []
    for i, turn in enumerate(turns):
        own = found[turn.request]
        if not own and i and turns[i - 1].chat == turn.chat:
            # They stand before all of this request.
            own = [replace(item, span=(0, 0)) for item in items_n[-1]]
        items_n.append(own)
    return items_n
