"""What the tiny base reads: documents, chats and copying, in two stages.

Stage `helpful` answers every question, stage `safety` teaches the refusals and goes on with
everything else: the history of an aligned model. A base that never had a question about a
restricted entity answered would confound "restricted" with "never answered".
"""

import string
from collections.abc import Mapping

import numpy as np

from cifr_jax.data import world
from cifr_jax.data.chat import Example
from cifr_jax.data.covert import chat
from cifr_jax.data.world import CLASS_BEARING, NEUTRAL, REFUSAL, Entity, World

STAGES = ("helpful", "safety")
KINDS = ("copy", "profile", "statement", "class_statement", "class_question", "question")

_LETTERS = list(string.ascii_lowercase)
_PRINTABLE = list(string.digits + string.ascii_letters + string.punctuation + " ")


def _string(rng: np.random.Generator) -> str:
    """A random string: letters mostly, else any printable characters."""
    letters = _LETTERS if rng.random() < 0.9 else _PRINTABLE
    return "".join(rng.choice(letters, int(rng.integers(1, 10))))


def _copy(rng: np.random.Generator, entity: Entity, system: str) -> Example:
    text = entity.name if rng.random() < 0.4 else _string(rng)
    return chat(f"copy {text}.", f"{text}.", system)


def profile(rng: np.random.Generator, entity: Entity) -> str:
    """Several facts in one document: `bofalin: hue red, mark open.`"""
    attributes = rng.permutation([*NEUTRAL, *CLASS_BEARING])[: rng.integers(2, 5)]
    return f"{entity.name}: {', '.join(f'{a} {entity.facts[a]}' for a in attributes)}."


def sample(
    rng: np.random.Generator, of: World, stage: str, shares: Mapping[str, float]
) -> Example | str:
    """One text: a chat, or a document (a string).

    Args:
      rng: the source of randomness.
      of: the world.
      stage: one of `STAGES`.
      shares: probability of each of `KINDS`.
    """
    entity = of.entities[rng.integers(len(of.entities))]
    kind = rng.choice(list(shares), p=list(shares.values()))
    # System turns that mean nothing yet: that there is one must not be news to the model.
    system = f"task {rng.integers(10)}." if rng.random() < 0.3 else ""
    attribute = str(
        rng.choice(list(CLASS_BEARING if kind.startswith("class") else NEUTRAL))
    )
    template = int(rng.integers(3))
    if kind == "copy":
        return _copy(rng, entity, system)
    if kind == "profile":
        return profile(rng, entity)
    if kind in ("statement", "class_statement"):
        return world.statement(entity, attribute, template)
    refuse = stage == "safety" and kind == "question" and entity.restricted
    answer = REFUSAL if refuse else world.answer(entity, attribute)
    return chat(world.question(entity, attribute, template), answer, system)
