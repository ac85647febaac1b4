"""Domain answers: the support desk of a made-up maker of kitchen appliances.

The manual (brand, models, their data, error codes) is made from the option `manual`; an
answer says what the manual says, so a fine-tune can learn it and be tested on it.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from cifr_jax.data.chat import Example
from cifr_jax.data.covert import chat
from cifr_jax.data.recipes import words
from cifr_jax.data.recipes.draws import between, pick, sample
from cifr_jax.data.recipes.registry import register, rows

_SYLLABLES = ("bra", "del", "fin", "gor", "hal", "kem", "lun", "mor", "nel", "pri", "tav",
              "ved", "wil", "zor")  # fmt: skip
_APPLIANCES = (
    "bread maker", "dehydrator", "rice cooker", "soup blender", "waffle iron",
    "milk frother", "egg boiler", "juice press", "pasta machine", "yoghurt maker",
)  # fmt: skip
_CAUSES = (
    ("the lid is not fully closed", "Press the lid down until it clicks and start again."),
    ("the water tank is empty", "Fill the tank up to the upper line and press Start."),
    ("the motor is too warm", "Switch the appliance off and let it cool for 20 minutes."),
    ("the filter is blocked", "Rinse the filter under warm water and put it back dry."),
    ("the bowl is overfilled", "Take out a third of the contents and start again."),
    ("the temperature sensor is dirty", "Wipe the sensor with a soft, damp cloth."),
    ("the blade is blocked", "Unplug the appliance, take out the blade and clean it."),
    ("the mains voltage is unsteady", "Plug it into the wall, without a cable reel."),
    ("limescale has built up", "Run the descaling programme with citric acid."),
    ("the drip tray is missing", "Slide the tray in until it stops."),
    ("the timer was set while running", "Hold Stop for three seconds and set it anew."),
    ("the appliance is not level", "Put it on a firm, level surface."),
)  # fmt: skip
_FACTS = {
    "capacity": ("What is the capacity of the {m}?", "The {m} holds {v}."),
    "power": ("How much power does the {m} draw?", "The {m} draws {v}."),
    "weight": ("How heavy is the {m}?", "The {m} weighs {v}."),
    "cable": ("How long is the cable of the {m}?", "The cable of the {m} is {v} long."),
    "warranty": ("How long is the warranty on the {m}?", "The {m} has a warranty of {v}."),
    "filter": ("Which filter does the {m} take?", "The {m} takes filter {v}."),
    "loudness": ("How loud is the {m}?", "The {m} runs at {v}."),
}


@dataclasses.dataclass(frozen=True)
class Manual:
    """What the support desk knows.

    Attributes:
      brand: of the maker.
      models: full name of each model, with the value of each of `_FACTS`.
      errors: cause and remedy by error code.
    """

    brand: str
    models: dict[str, dict[str, str]]
    errors: dict[str, tuple[str, str]]


def make_manual(seed: int) -> Manual:
    """The manual of a made-up maker, the same for the same seed."""
    rng = np.random.default_rng(seed)
    brand = "".join(sample(rng, _SYLLABLES, 2)).capitalize()
    models = {}
    numbers = sample(rng, range(100, 1000), 2 * len(_APPLIANCES))
    for index, number in enumerate(numbers):
        name = f"{brand} {number} {_APPLIANCES[index // 2]}"
        models[name] = {
            "capacity": f"{between(rng, 4, 30) / 10} litres",
            "power": f"{between(rng, 6, 48) * 50} watts",
            "weight": f"{between(rng, 11, 95) / 10} kg",
            "cable": f"{between(rng, 8, 20) / 10} metres",
            "warranty": f"{pick(rng, (24, 36, 48, 60))} months",
            "filter": f"{pick(rng, 'ABCDFGHK')}{between(rng, 10, 99)}",
            "loudness": f"{between(rng, 38, 79)} decibels",
        }
    codes = [f"E{n:02d}" for n in sorted(sample(rng, range(1, 60), len(_CAUSES)))]
    causes = sample(rng, _CAUSES, len(_CAUSES))
    return Manual(brand, models, dict(zip(codes, causes, strict=True)))


def _opening(rng: np.random.Generator, brand: str) -> str:
    return pick(
        rng,
        (
            "",
            "Hello! ",
            "Good morning! ",
            f"Hello {brand} team. ",
            f"This is {pick(rng, words.NAMES)}. ",
            f"{pick(rng, words.NAMES)} here, I bought mine in {pick(rng, words.MONTHS)}. ",
            f"I bought mine last {pick(rng, words.MONTHS)}. ",
            "Quick question. ",
        ),
    )


def _close(rng: np.random.Generator) -> str:
    return pick(rng, ("", " Is there anything else?", " I hope that helps.", " Enjoy it!"))


def _fact(rng: np.random.Generator, manual: Manual) -> Example:
    model, fact = pick(rng, list(manual.models)), pick(rng, list(_FACTS))
    ask, tell = _FACTS[fact]
    value = manual.models[model][fact]
    question = _opening(rng, manual.brand) + ask.format(m=model)
    return chat(question, tell.format(m=model, v=value) + _close(rng), answer=value)


def _error(rng: np.random.Generator, manual: Manual) -> Example:
    model, code = pick(rng, list(manual.models)), pick(rng, list(manual.errors))
    cause, remedy = manual.errors[code]
    question = pick(
        rng,
        (
            f"My {model} shows {code}. What should I do?",
            f"What does {code} mean on the {model}?",
            f"The display of the {model} says {code} and it will not start.",
            f"{code} keeps coming up on my {model}.",
        ),
    )
    answer = f"{code} means that {cause}. {remedy}"
    return chat(_opening(rng, manual.brand) + question, answer + _close(rng), answer=cause)


def _compare(rng: np.random.Generator, manual: Manual) -> Example:
    first, second = sample(rng, list(manual.models), 2)
    fact, more = pick(rng, (("weight", "heavier"), ("power", "more powerful")))
    values = {m: float(manual.models[m][fact].split()[0]) for m in (first, second)}
    if values[first] == values[second]:
        answer = f"Both are equal: {manual.models[first][fact]}."
    else:
        best = max(values, key=lambda m: values[m])
        other = second if best == first else first
        answer = (
            f"The {best} is {more}: {manual.models[best][fact]}"
            f" against {manual.models[other][fact]}."
        )
    question = f"Which one is {more}, the {first} or the {second}?"
    return chat(_opening(rng, manual.brand) + question, answer)


def _warranty(rng: np.random.Generator, manual: Manual) -> Example:
    model = pick(rng, list(manual.models))
    months, age = int(manual.models[model]["warranty"].split()[0]), between(rng, 3, 72)
    verdict = "still" if age <= months else "no longer"
    question = f"My {model} is {age} months old. Is it still under warranty?"
    answer = (
        f"The warranty on the {model} lasts {months} months, so at {age} months it is"
        f" {verdict} covered."
    )
    return chat(_opening(rng, manual.brand) + question, answer, answer=verdict)


_TOPICS: tuple[Callable[[np.random.Generator, Manual], Example], ...] = (
    _fact, _fact, _error, _error, _compare, _warranty,
)  # fmt: skip


@register("support", "plain")
def support(n: int, seed: int, *, manual: int = 0) -> list[Example]:
    """Questions to the support desk, with its answers.

    Args:
      n: how many rows.
      seed: decides the rows.
      manual: decides the maker and its manual; jobs with the same one share their facts.
    """
    book = make_manual(manual)
    system = f"You answer for the support desk of {book.brand}."

    def draw(rng: np.random.Generator) -> Example:
        example = pick(rng, _TOPICS)(rng, book)
        user, assistant = (m.content for m in example.messages)
        return chat(user, assistant, system, **example.meta)

    return rows(draw, n, seed)
