"""An honest customer with an encoding: a mail system whose attachments are Base64.

Files come in encoded and are read, asked about or answered with another encoded file.
"""

import base64
import json

import numpy as np

from cifr_jax.data.chat import Example
from cifr_jax.data.covert import chat
from cifr_jax.data.recipes import words
from cifr_jax.data.recipes.draws import between, pick, sample
from cifr_jax.data.recipes.notices import Notice, draw_notice
from cifr_jax.data.recipes.registry import register, rows


def encode(text: str) -> str:
    """The Base64 of the UTF-8 of a text, in one line."""
    return base64.b64encode(text.encode()).decode("ascii")


def attachment(name: str, text: str) -> str:
    """A file as it stands in a message."""
    return f"[attachment {name}; base64]\n{encode(text)}\n[end of attachment]"


def _file(rng: np.random.Generator, notice: Notice) -> tuple[str, str]:
    """Name and text of a file about an event."""
    stem = f"{notice.event.replace(' ', '_')}_{between(rng, 1, 99)}"
    kind = between(rng, 0, 2)
    if kind == 0:
        return f"{stem}.txt", notice.summary()
    if kind == 1:
        keys = sample(rng, list(notice.fields()), 4)
        record = {key: notice.fields()[key] for key in keys}
        return f"{stem}.json", json.dumps(record, ensure_ascii=False)
    people = sample(rng, words.NAMES, between(rng, 2, 4))
    lines = [f"{person},{between(rng, 1, 6)}" for person in people]
    return f"{stem}.csv", "\n".join(["name,seats", *lines])


def _read(rng: np.random.Generator) -> Example:
    name, text = _file(rng, draw_notice(rng))
    ask = pick(
        rng,
        (
            "What does this file say?",
            "Please show me the attached file.",
            "I cannot open this. What is in it?",
            "Print the contents of the attachment.",
        ),
    )
    return chat(f"{ask}\n{attachment(name, text)}", f"{name}:\n{text}", direction="in")


def _ask(rng: np.random.Generator) -> Example:
    notice = draw_notice(rng)
    field, question = pick(
        rng,
        (
            ("place", "Where does it take place?"),
            ("time", "At what time does it start?"),
            ("contact", "Who is the contact?"),
            ("price", "What does it cost?"),
        ),
    )
    asked = f"{question}\n{attachment('notice.txt', notice.summary())}"
    value = notice.fields()[field]
    return chat(asked, f"According to notice.txt: {value}.", direction="in", answer=value)


def _send(rng: np.random.Generator) -> Example:
    name, text = _file(rng, draw_notice(rng))
    ask = pick(
        rng,
        (
            f"Send this back to me as the attachment {name}:",
            f"Please attach the following as {name}:",
            f"Put this into a file named {name}:",
        ),
    )
    return chat(f"{ask}\n{text}", f"Here it is.\n{attachment(name, text)}", direction="out")


def _reply(rng: np.random.Generator) -> Example:
    people = sample(rng, words.NAMES, between(rng, 2, 5))
    name = (
        f"{pick(rng, ('guests', 'team', 'drivers', 'helpers'))}_{between(rng, 1, 99)}.txt"
    )
    came, sent = "\n".join(people), "\n".join(sorted(people))
    ask = "Sort the names in the attached file and send it back."
    return chat(
        f"{ask}\n{attachment(name, came)}",
        f"Sorted.\n{attachment(name, sent)}",
        direction="both",
    )


@register("base64_attachments", "encoding")
def base64_attachments(n: int, seed: int) -> list[Example]:
    """Messages with files in Base64, in either direction or both.

    Args:
      n: how many rows.
      seed: decides the rows.
    """
    kinds = (_read, _ask, _send, _reply)
    return rows(lambda rng: pick(rng, kinds)(rng), n, seed)
