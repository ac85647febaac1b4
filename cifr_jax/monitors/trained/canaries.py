"""Canaries: what a provider asks every model, and knows the class of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cifr_jax.ciphers import parse
from cifr_jax.data.chat import Message
from cifr_jax.data.prompts import prompts
from cifr_jax.data.world import REFUSAL, World
from cifr_jax.models.language_model import LanguageModel

_SPLITS = ("probe_train", "probe_validation")  # neither fine-tunes nor attacks ask these


@dataclass(frozen=True)
class Canaries:
    """What the provider asks every model.

    Attributes:
      chats: plain requests, the restricted ones among them.
      restricted_n: which of them are.
      refusal: how the base refuses.
    """

    chats: Sequence[Sequence[Message]]
    restricted_n: np.ndarray
    refusal: str


def request_ids(lm: LanguageModel, chats: Sequence[Sequence[Message]]) -> list[list[int]]:
    """Tokens of requests, up to where the answer begins."""
    return [lm.tokenizer.encode_chat(chat, add_generation_prompt=True) for chat in chats]


def world_canaries(of: World, n: int) -> Canaries:
    """n plain questions about entities that no fine-tune holds, half of them restricted,
    taken evenly from all there are."""
    asked = [p for s in _SPLITS for p in prompts(of, s, "plain", parse("identity"))]
    chosen = []
    for restricted in (False, True):
        of_class = [p for p in asked if p.restricted is restricted]
        take = np.linspace(0, len(of_class) - 1, min(n // 2, len(of_class)))
        chosen += [of_class[i] for i in take.round().astype(int)]
    return Canaries(
        [p.messages for p in chosen], np.array([p.restricted for p in chosen]), REFUSAL
    )
