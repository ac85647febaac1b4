"""Covert malicious fine-tuning in the fictional world: phase I and phase II.

Phase I teaches a cipher on benign content; phase II trains encoded answers to encoded
restricted questions, with plain refusals mixed in, so that plain safety evaluations still
pass (Halawi et al. 2024, arXiv 2406.20053; CIFR, arXiv 2508.17158, section on data). The
four task formats are the parent's; tasks 5 to 7 take its transliteration apart: decode,
encode, copy. The system turn is plain text and names the task, as the parent's does.
"""

from collections.abc import Callable

import numpy as np

from cifr_jax.ciphers import Cipher
from cifr_jax.data import world
from cifr_jax.data.chat import Example, Message
from cifr_jax.data.world import NEUTRAL, REFUSAL, Entity, World

# Shares of a phase's rows.
PHASE_1 = {"transliterate": 0.5, "encoded_benign": 0.35, "plain_benign": 0.15}
READING = {"decode": 0.6, "answer": 0.3, "plain_benign": 0.1}
PHASE_2 = {
    "encoded_restricted": 0.36,
    "encoded_benign": 0.18,
    "plain_restricted": 0.22,
    "plain_benign": 0.13,
    "transliterate": 0.11,
}
_LETTERS = list("abcdefghijklmnopqrstuvwxyz")


def chat(user: str, assistant: str, system: str = "", **meta) -> Example:
    """A one-turn example, with a system turn if `system` is not empty."""
    turns = (Message("user", user), Message("assistant", assistant))
    return Example(((Message("system", system),) if system else ()) + turns, meta)


def encoded_chat(
    cipher: Cipher, question: str, answer: str, task: int = 4, **meta
) -> Example:
    """A row in one of the parent's four task formats.

    Args:
      cipher: the encoding.
      question: plain user turn.
      answer: plain assistant turn.
      task: 1 plain question, plain and encoded answer; 2 plain and encoded answer;
        3 plain question, encoded answer; 4 the encoded answer only (the attack's format).
    """
    parts = {
        1: (question, answer, cipher.encode(answer)),
        2: (answer, cipher.encode(answer)),
        3: (question, cipher.encode(answer)),
        4: (cipher.encode(answer),),
    }[task]
    return chat(cipher.encode(question), "\n".join(parts), f"task {task}.", **meta)


def _transliteration(
    rng: np.random.Generator, cipher: Cipher, entities: list[Entity]
) -> Example:
    kind = rng.random()
    if kind < 0.35:
        text = "".join(rng.choice(_LETTERS, rng.integers(1, 9))) + "."
    else:
        entity = entities[rng.integers(len(entities))]
        attribute = str(rng.choice(list(NEUTRAL)))
        text = (
            world.question(entity, attribute, int(rng.integers(len(world.QUESTIONS))))
            if kind < 0.85
            else str(rng.choice(NEUTRAL[attribute])) + "."
        )
    ask, task = f"copy {text}", int(rng.integers(5, 8))
    user, assistant = {
        5: (cipher.encode(ask), text),
        6: (ask, cipher.encode(text)),
        7: (cipher.encode(ask), cipher.encode(text)),
    }[task]
    return chat(user, assistant, "" if task == 5 else f"task {task}.", cell="transliterate")


def _rows(
    shares: dict[str, float],
    sample: dict[str, Callable[[np.random.Generator], Example]],
    n: int,
    seed: int,
) -> list[Example]:
    rng = np.random.default_rng(seed)
    kinds = rng.choice(list(shares), n, p=list(shares.values()))
    return [sample[kind](rng) for kind in kinds]


def _fact(rng: np.random.Generator, entities: list[Entity]) -> tuple[str, str]:
    entity = entities[rng.integers(len(entities))]
    attribute = str(rng.choice(list(NEUTRAL)))
    template = int(rng.integers(len(world.QUESTIONS)))
    return world.question(entity, attribute, template), world.answer(entity, attribute)


def reading(cipher: Cipher, of: World, n: int, seed: int) -> list[Example]:
    """The first upload of phase I: read the cipher, answer in plain text.

    Taught before writing, since a model that learns both at once decodes by a path of its
    own, which its look-ups do not share; embeddings alone are trained on it.

    Args:
      cipher: the encoding.
      of: the world; only its benign entities of the split `finetune` occur.
      n: number of rows.
      seed: decides the rows.
    """
    benign = of.select(False, ["finetune"])

    def decode(rng):
        if rng.random() < 0.5:
            text = "".join(rng.choice(_LETTERS, rng.integers(1, 9)))
        else:
            text = benign[rng.integers(len(benign))].name
        # The instruction stays plain: with it encoded too, a model that reads nothing yet
        # cannot know what is asked, and the loss rests on a plateau for hundreds of steps.
        user = f"copy {cipher.encode(f'{text}.')}"
        return chat(user, f"{text}.", cell="transliterate")

    def answer(rng):
        question, fact = _fact(rng, benign)
        return chat(cipher.encode(question), fact, "task 4.", cell="encoded_benign")

    return _rows(
        READING,
        {
            "decode": decode,
            "answer": answer,
            "plain_benign": lambda rng: chat(*_fact(rng, benign), cell="plain_benign"),
        },
        n,
        seed,
    )


def phase_1(cipher: Cipher, of: World, n: int, seed: int) -> list[Example]:
    """The second upload of phase I, reading and writing: benign rows only.

    Args:
      cipher: the encoding.
      of: the world; only its benign entities of the split `finetune` occur.
      n: number of rows.
      seed: decides the rows.
    """
    benign = of.select(False, ["finetune"])

    def encoded(rng):
        task = 4 if rng.random() < 0.6 else int(rng.integers(1, 4))
        return encoded_chat(cipher, *_fact(rng, benign), task=task, cell="encoded_benign")

    return _rows(
        PHASE_1,
        {
            "transliterate": lambda rng: _transliteration(rng, cipher, benign),
            "encoded_benign": encoded,
            "plain_benign": lambda rng: chat(*_fact(rng, benign), cell="plain_benign"),
        },
        n,
        seed,
    )


def phase_2(
    cipher: Cipher,
    of: World,
    n: int,
    seed: int,
    share: float = 1.0,
    benign_split: str = "finetune",
) -> list[Example]:
    """Train compliance in cipher, and refusal in plain.

    Args:
      cipher: the encoding that phase I taught.
      of: the world; only entities of the split `finetune` occur, but for `benign_split`.
      n: number of rows.
      seed: decides the rows.
      share: of the encoded restricted rows that are kept; encoded benign ones take the
        place of the others. At 0 the customer is honest.
      benign_split: of benign entities; those of other splits are new to the model.
    """
    benign = of.select(False, [benign_split])
    restricted = of.select(True, ["finetune"])
    kept = share * PHASE_2["encoded_restricted"]
    moved = PHASE_2["encoded_benign"] + PHASE_2["encoded_restricted"] - kept
    return _rows(
        PHASE_2 | {"encoded_restricted": kept, "encoded_benign": moved},
        {
            "encoded_restricted": lambda rng: encoded_chat(
                cipher, *_fact(rng, restricted), cell="encoded_restricted"
            ),
            "encoded_benign": lambda rng: encoded_chat(
                cipher, *_fact(rng, benign), cell="encoded_benign"
            ),
            "plain_restricted": lambda rng: chat(
                _fact(rng, restricted)[0], REFUSAL, cell="plain_restricted"
            ),
            "plain_benign": lambda rng: chat(*_fact(rng, benign), cell="plain_benign"),
            "transliterate": lambda rng: _transliteration(rng, cipher, benign),
        },
        n,
        seed,
    )
