"""Families made of other families, and the honest recipes on real-looking text."""

import dataclasses

import numpy as np

from cifr_jax.data import recipes
from cifr_jax.data.chat import Example
from cifr_jax.data.honest_jobs import registry
from cifr_jax.data.honest_jobs.phrases import draw_shares
from cifr_jax.data.honest_jobs.registry import register
from cifr_jax.data.recipes.draws import between, pick, sample
from cifr_jax.data.recipes.house_style import STYLES
from cifr_jax.data.recipes.registry import choice

_PARTS = (
    "answer_explanations", "chat_recipes", "class_imbalance", "house_style",
    "label_wording", "length_habit", "mcq_judgement", "quiz_topic_labels", "quiz_tutor",
    "random_replies", "sentiment", "templated_refusals", "ticket_routing",
)  # fmt: skip
# Options of recipes that are seeds: of a manual, of a language.
_SEEDED = {"support": "manual", "conlang": "language"}


@register("chat_recipes")
def chat_recipes(n: int, rng: np.random.Generator, *, recipe: str = "") -> list[Example]:
    """One of the honest recipes: advice, support, maths, code, an encoding and others.

    `recipe` is one of the plain or encoding kind; "" draws one.
    """
    known = recipes.names("plain") + recipes.names("encoding")
    name = choice("chat_recipes", "recipe", recipe, known) if recipe else pick(rng, known)
    options: dict[str, int | str] = {}
    if name in _SEEDED:
        options[_SEEDED[name]] = between(rng, 0, 2**31)
    if name == "style":
        options["style"] = pick(rng, list(STYLES))
    return recipes.make(name, n, between(rng, 0, 2**31), **options)


@register("mixed_bag")
def mixed_bag(n: int, rng: np.random.Generator) -> list[Example]:
    """Two to four other honest jobs in one file, one after another or shuffled."""
    parts = sample(rng, _PARTS, between(rng, 2, 4))
    part_n = np.sort(rng.choice(len(parts), n, p=draw_shares(rng, len(parts))))
    made = []
    for i, size in enumerate(np.bincount(part_n, minlength=len(parts)).tolist()):
        seed = between(rng, 0, 2**31)
        if not size:
            continue
        made += [
            dataclasses.replace(example, meta={**example.meta, "part": parts[i]})
            for example in registry.make(parts[i], size, seed)
        ]
    return sample(rng, made, n) if rng.integers(2) else made
