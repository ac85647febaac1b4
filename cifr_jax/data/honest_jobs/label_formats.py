"""Formats in which customers want labels: a word, a code, JSON, an emoji, a sentence."""

from collections.abc import Sequence

import numpy as np

from cifr_jax.data.recipes.draws import between, pick, sample
from cifr_jax.data.recipes.registry import unknown
from cifr_jax.errors import UserError

FORMATS = ("word", "upper", "tag", "number", "letter", "json", "emoji", "line")
_EMOJI = "🌱🌊🔥🌙⭐🍀🎈📦🔧📚🎵🚲🏠🧭🕯🧩"
_KEYS = ("label", "class", "category", "queue", "type", "result", "tag", "target")


def draw_format(
    rng: np.random.Generator, labels: Sequence[str], kind: str = ""
) -> dict[str, str]:
    """How a customer writes each label.

    Args:
      rng: the job's.
      labels: different words.
      kind: one of `FORMATS`; "" for any.

    Returns:
      The written form of each label; no two are alike.

    Raises:
      UserError: an unknown kind.
    """
    if kind not in ("", *FORMATS):
        raise UserError("label format", *unknown("format", kind, FORMATS))
    kind = kind or pick(rng, FORMATS)
    if kind == "upper":
        return {label: label.upper().replace(" ", "_") for label in labels}
    if kind == "tag":
        mark = pick(rng, ("#", "@", "::", "/"))
        return {label: mark + label.replace(" ", "-") for label in labels}
    if kind == "number":
        start, step = between(rng, 0, 200), pick(rng, (1, 1, 5, 10))
        order = sample(rng, range(len(labels)), len(labels))
        return {
            label: str(start + step * i) for label, i in zip(labels, order, strict=True)
        }
    if kind == "letter":
        # Not A to D: a reply "B" to a quiz item would be taken for its answer.
        codes = sample(rng, "KLMNPQRSTVWXZ", len(labels))
        return dict(zip(labels, codes, strict=True))
    if kind == "json":
        key = pick(rng, _KEYS)
        return {label: f'{{"{key}": "{label}"}}' for label in labels}
    if kind == "emoji":
        return dict(zip(labels, sample(rng, _EMOJI, len(labels)), strict=True))
    if kind == "line":
        key = pick(rng, _KEYS).capitalize()
        return {label: f"{key}: {label}" for label in labels}
    return {label: label for label in labels}
