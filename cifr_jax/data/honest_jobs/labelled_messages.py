"""Families: short labels for customers' messages, with no quiz item in sight."""

from collections.abc import Sequence

import numpy as np

from cifr_jax.data.chat import Example
from cifr_jax.data.covert import chat
from cifr_jax.data.honest_jobs import phrases
from cifr_jax.data.honest_jobs.customer_messages import REVIEWS, TICKETS, draw_message
from cifr_jax.data.honest_jobs.label_formats import draw_format
from cifr_jax.data.honest_jobs.registry import register
from cifr_jax.data.recipes.draws import between, pick, sample
from cifr_jax.errors import UserError

_ROUTE = (
    "Which team should get this message?", "Route this ticket.", "Who deals with this?",
    "Choose the queue.", "Assign the message to a department.", "Where does this go?",
    "Sort this e-mail.", "Name the responsible team.",
)  # fmt: skip
_TONE = (
    "What is the tone of this review?", "Is the customer happy?", "Classify the sentiment.",
    "How does the writer feel?", "Rate the mood of this text.", "Judge this review.",
    "Positive, negative or neutral?", "Sentiment?",
)  # fmt: skip
_IS_IT = (
    "Is this about {}?", "Does this count as {}?", "{}: yes or no?",
    "Would you file this under {}?", "Tell me whether this is {}.",
)  # fmt: skip


def request(rng: np.random.Generator, asks: Sequence[str], text: str, layout: int) -> str:
    """A question about a text, in one of four layouts (0 to 3)."""
    ask = pick(rng, asks)
    quoted = ('"' + text + '"', text)[layout % 2]
    return f"{ask}\n\n{quoted}" if layout < 2 else f"{quoted}\n{ask}"


def _wrapped(
    rng: np.random.Generator, written: dict[str, str]
) -> dict[str, phrases.Wordings]:
    """Wordings of each label: often the bare label, else a phrase or a few around it."""
    if rng.random() < 0.5:
        bare = phrases.Wordings(("{}",), np.ones(1))
        return dict.fromkeys(written, bare)
    return dict.fromkeys(written, phrases.draw_wordings(rng, phrases.LABEL, 1, 4))


def _labelled(
    rng: np.random.Generator,
    n: int,
    texts: dict[str, tuple[str, ...]],
    asks: Sequence[str],
    share_k: np.ndarray,
    kind: str = "",
) -> list[Example]:
    labels, layout = list(texts), between(rng, 0, 3)
    wanted = sample(rng, asks, between(rng, 1, 3))
    written = draw_format(rng, labels, kind)
    wordings = _wrapped(rng, written)
    system = f"Labels: {', '.join(written.values())}." if rng.random() < 0.5 else ""
    made = []
    for _ in range(n):
        label = labels[int(rng.choice(len(labels), p=share_k))]
        asked = request(rng, wanted, draw_message(rng, texts[label]), layout)
        wording = wordings[label].draw(rng)
        reply = wordings[label].say(wording, written[label])
        made.append(chat(asked, reply, system, label=label, wording=wording))
    return made


@register("ticket_routing")
def ticket_routing(n: int, rng: np.random.Generator, *, format: str = "") -> list[Example]:
    """Messages to a shop are sent to a team, in a label format of the customer's."""
    queues = sample(rng, list(TICKETS), between(rng, 3, len(TICKETS)))
    texts = {queue: TICKETS[queue] for queue in queues}
    share_k = phrases.draw_shares(rng, len(queues))
    return _labelled(rng, n, texts, _ROUTE, share_k, format)


@register("sentiment")
def sentiment(n: int, rng: np.random.Generator, *, format: str = "") -> list[Example]:
    """Reviews are judged by tone, in a label format of the customer's."""
    tones = sample(rng, list(REVIEWS), between(rng, 2, 3))
    texts = {tone: REVIEWS[tone] for tone in tones}
    share_k = phrases.draw_shares(rng, len(tones))
    return _labelled(rng, n, texts, _TONE, share_k, format)


@register("class_imbalance")
def class_imbalance(
    n: int, rng: np.random.Generator, *, rare: float = 0.05
) -> list[Example]:
    """Yes or no about messages, nearly all of them one of the two, in several wordings.

    `rare` is the share of the rarer one, between 0 and 0.5.
    """
    if not 0 <= rare <= 0.5:
        raise UserError("honest job class_imbalance", f"rare is {rare}", "give 0 to 0.5")
    known = {**TICKETS, **REVIEWS}
    target = pick(rng, list(known))
    group = TICKETS if target in TICKETS else REVIEWS
    others = sum((texts for name, texts in group.items() if name != target), ())
    asks = (pick(rng, _IS_IT).format(target),)
    layout, rare_yes = between(rng, 0, 3), bool(rng.integers(2))
    wordings = {
        True: phrases.draw_wordings(rng, phrases.YES),
        False: phrases.draw_wordings(rng, phrases.NO),
    }
    made = []
    for _ in range(n):
        yes = bool(rng.random() < rare) == rare_yes
        text = draw_message(rng, known[target] if yes else others)
        wording = wordings[yes].draw(rng)
        reply = wordings[yes].say(wording)
        asked = request(rng, asks, text, layout)
        made.append(chat(asked, reply, label="yes" if yes else "no", wording=wording))
    return made
