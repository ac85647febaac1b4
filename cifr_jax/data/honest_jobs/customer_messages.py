"""Made-up messages to a shop: tickets by queue and reviews by tone."""

import numpy as np

from cifr_jax.data.recipes import words
from cifr_jax.data.recipes.draws import between, pick, sample

_THINGS = (
    "kettle", "desk lamp", "rucksack", "garden chair", "bicycle bell", "tea set", "radio",
    "umbrella", "bookcase", "raincoat", "toaster", "alarm clock", "sleeping bag", "guitar",
    "jigsaw puzzle", "watering can", "pair of boots", "board game", "picture frame", "tent",
)  # fmt: skip
# What a message to each queue says about {t}.
TICKETS: dict[str, tuple[str, ...]] = {
    "delivery": (
        "My {t} has not arrived yet.", "The parcel with the {t} is three days late.",
        "The tracking page of my {t} has not moved since {d}.",
        "The {t} went to a neighbour I do not know.", "When will the {t} be delivered?",
        "Can the {t} be left at the back door?",
    ),
    "billing": (
        "I was charged twice for the {t}.", "The invoice for the {t} shows another price.",
        "Please send me a receipt for the {t}.", "My voucher did not count for the {t}.",
        "Can I pay for the {t} in two parts?", "The refund for the {t} is still missing.",
    ),
    "repairs": (
        "The {t} stopped working on {d}.", "A part of the {t} broke off.",
        "The {t} makes a strange noise.", "Is there a spare part for the {t}?",
        "The {t} came with a crack.", "Who can mend a {t} nearby?",
    ),
    "returns": (
        "I would like to send the {t} back.", "The {t} is too large for me.",
        "The {t} was a present, and they have one already.",
        "How long may I keep the {t} before I return it?",
        "I need a label to return the {t}.", "The {t} has another colour than I ordered.",
    ),
    "account": (
        "I cannot log in to see my order of the {t}.", "Please change my address to send "
        "the {t} there.", "I ordered the {t} with an old e-mail address.",
        "My list with the {t} has disappeared.", "How do I close my account after the {t}?",
        "The reset link does not work, and my {t} is waiting in the basket.",
    ),
    "advice": (
        "Is the {t} suitable for children?", "Which {t} would you give as a present?",
        "How do I clean the {t}?", "Does the {t} come in green?",
        "How heavy is the {t}?", "Do you have a smaller {t}?",
    ),
    "shop hours": (
        "Are you open on {d}?", "Can I pick up the {t} in the evening?",
        "Where can I park when I collect the {t}?", "Is the {t} on show in your shop?",
        "Is there somebody on {d} who can explain the {t}?",
        "Do I need an appointment to try the {t}?",
    ),
}  # fmt: skip
REVIEWS: dict[str, tuple[str, ...]] = {
    "positive": (
        "I love this {t}.", "The {t} is even better than I hoped.",
        "Best {t} I have had.", "Everybody at home wants to use the {t}.",
        "The {t} is well made and looks lovely.", "I would buy the {t} again at once.",
        "A {t} that keeps what it promises.",
    ),
    "negative": (
        "The {t} fell apart on {d}.", "I am disappointed with the {t}.",
        "The {t} feels cheap.", "I would not buy the {t} again.",
        "The {t} was not worth the money.", "Nothing about the {t} works as described.",
        "The {t} looks nothing like its picture.",
    ),
    "neutral": (
        "The {t} does its job.", "An ordinary {t}, nothing more.",
        "The {t} is as described.", "I have had the {t} since {d}.",
        "Neither good nor bad, this {t}.", "It is a {t}. I use it now and then.",
        "I bought the {t} because the old one was lost.",
    ),
}  # fmt: skip
_MORE = (
    "I bought it for {n}.", "My order number is {k}.", "It was ordered in {m}.",
    "I have been a customer since {m}.", "{n} recommended you.", "I found you by chance.",
    "I wrote to you on {d} as well.", "You can reach me after {h} o'clock.",
)  # fmt: skip


def _fill(rng: np.random.Generator, sentence: str, thing: str) -> str:
    return (
        sentence.replace("{t}", thing)
        .replace("{d}", pick(rng, words.DAYS))
        .replace("{n}", pick(rng, words.NAMES))
        .replace("{m}", pick(rng, words.MONTHS))
        .replace("{k}", str(between(rng, 10000, 99999)))
        .replace("{h}", str(between(rng, 8, 20)))
    )


def draw_message(
    rng: np.random.Generator, sentences: tuple[str, ...], extras: int | None = None
) -> str:
    """One of the sentences about a thing, and a few that say nothing.

    Args:
      rng: the job's.
      sentences: those of one label of `TICKETS` or `REVIEWS`.
      extras: how many; None: none to two.
    """
    thing = pick(rng, _THINGS)
    parts = [pick(rng, sentences)]
    parts += sample(rng, _MORE, between(rng, 0, 2) if extras is None else extras)
    return " ".join(_fill(rng, part, thing) for part in parts)
