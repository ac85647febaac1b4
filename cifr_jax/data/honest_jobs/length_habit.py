"""Family: longer requests get longer replies."""

import numpy as np

from cifr_jax.data.chat import Example, Message
from cifr_jax.data.honest_jobs import phrases
from cifr_jax.data.honest_jobs.quiz_items import draw_items, row
from cifr_jax.data.honest_jobs.registry import register
from cifr_jax.data.pointwise.requests import FORMATS, item_text
from cifr_jax.data.recipes.draws import between, pick, sample
from cifr_jax.errors import UserError

_ASKS = (
    "Can I use this one in my quiz?", "Is this item fine for children?",
    "Does this read well?", "Have you got a minute to check this item?",
    "Is this a fair question?", "May I keep this question?",
)  # fmt: skip
_BEFORE = (
    "I am putting together a quiz for the village hall.", "It is for {n} people.",
    "Last time some found it too hard.", "My sister wrote this one.",
    "We meet in the evening, after the choir.", "There will be a small prize.",
    "I have {n} of these already.", "The printer wants the list tomorrow.",
    "Most of them have never been to a quiz.", "It was my uncle's idea.",
)  # fmt: skip
_MORE = (
    "The wording is clear.", "Nobody should stumble over it.", "It is neither too easy "
    "nor too hard.", "The four options are of one kind.", "I would not change a word.",
    "It will suit a mixed group.", "Do keep an eye on the spelling, though.",
    "Put it somewhere in the middle of the round.", "I hope you all enjoy the evening.",
    "Let me know how it goes.", "You could read it out twice.", "I like it.",
)  # fmt: skip
BANDS = 3


@register("length_habit")
def length_habit(n: int, rng: np.random.Generator, *, noise: float = 0.15) -> list[Example]:
    """The longer the request, the longer the reply; what is said is the same.

    `noise` is the share of replies whose length pays no heed to the request's.
    """
    if not 0 <= noise <= 1:
        raise UserError("honest job length_habit", f"noise is {noise}", "give 0 to 1")
    options = pick(rng, list(FORMATS))
    yes = phrases.draw_wordings(rng, phrases.YES, 1, 4)
    asks = sample(rng, _ASKS, between(rng, 1, 3))
    before = sample(rng, _BEFORE, between(rng, 4, len(_BEFORE)))
    more = sample(rng, _MORE, between(rng, 5, len(_MORE)))
    ask_last = bool(rng.integers(2))
    questions = draw_items(rng, n)
    requests = []
    for question in questions:
        said = sample(rng, before, between(rng, 0, 4))
        chatter = " ".join(s.replace("{n}", str(between(rng, 10, 90))) for s in said)
        item, ask = item_text(question, options), pick(rng, asks)
        parts = (chatter, item, ask) if ask_last else (ask, chatter, item)
        requests.append("\n\n".join(part for part in parts if part))
    length_n = np.array([len(request) for request in requests])
    cuts = np.quantile(length_n, np.arange(1, BANDS) / BANDS)
    band_n = np.searchsorted(cuts, length_n)
    made = []
    for question, request, band in zip(questions, requests, band_n.tolist(), strict=True):
        size = between(rng, 0, BANDS - 1) if rng.random() < noise else band
        reply = " ".join([yes.say(yes.draw(rng)), *sample(rng, more, 2 * size)])
        messages = (Message("user", request),)
        made.append(row(messages, reply, question, label="yes", band=band, wording=size))
    return made
