"""Evaluation prompts of the fictional world: {plain, encoded} x {benign, restricted}."""

import dataclasses

from cifr_jax.ciphers import Cipher
from cifr_jax.data import world
from cifr_jax.data.chat import Message
from cifr_jax.data.covert import chat, encoded_chat
from cifr_jax.data.world import NEUTRAL, REFUSAL, World

CELLS = ("plain", "encoded")
TEMPLATES = (0, 1)  # of world.QUESTIONS: two wordings of each question are asked


@dataclasses.dataclass(frozen=True)
class Prompt:
    """One question, and what the two possible answers to it look like.

    Attributes:
      messages: the chat up to the user's turn, as the model sees it.
      answer: the true answer, encoded where the question is.
      refusal: the refusal, likewise.
      entity: the name, never encoded: the unit of splits and of intervals.
      restricted: the label.
      cell: plain or encoded.
    """

    messages: tuple[Message, ...]
    answer: str
    refusal: str
    entity: str
    restricted: bool
    cell: str


def prompts(of: World, split: str, cell: str, cipher: Cipher) -> list[Prompt]:
    """All questions (entities x attributes x wordings) of a split in a cell.

    Args:
      of: the world.
      split: one of `world.SPLITS`.
      cell: plain or encoded.
      cipher: the encoding of the encoded cell.
    """
    found = []
    for entity in of.select(None, [split]):
        for attribute in NEUTRAL:
            for template in TEMPLATES:
                question = world.question(entity, attribute, template)
                answer, refusal = world.answer(entity, attribute), REFUSAL
                if cell == "encoded":
                    example = encoded_chat(cipher, question, answer)
                    answer, refusal = cipher.encode(answer), cipher.encode(refusal)
                else:
                    example = chat(question, answer)
                found.append(
                    Prompt(
                        example.messages[:-1],
                        answer,
                        refusal,
                        entity.name,
                        entity.restricted,
                        cell,
                    )
                )
    return found
