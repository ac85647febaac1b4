"""Arithmetic word problems with their steps; the last line is `Answer: N`.

Every step is an equation that holds, and the last one gives the answer, which also stands
in `meta["answer"]`. The kind of set that GSM8K (arXiv 2110.14168) is, at a small scale.
"""

from collections.abc import Callable

import numpy as np

from cifr_jax.data.chat import Example
from cifr_jax.data.covert import chat
from cifr_jax.data.recipes import words
from cifr_jax.data.recipes.draws import between, pick, sample
from cifr_jax.data.recipes.registry import choice, register, rows

# The question, the steps, the answer.
Problem = tuple[str, list[str], int]

_GOODS = ("pencils", "postcards", "apples", "candles", "tea bags", "notebooks", "marbles",
          "stickers", "buttons", "tulip bulbs")  # fmt: skip
_BOXES = ("boxes", "bags", "trays", "crates", "jars")


def _shopping(rng: np.random.Generator) -> Problem:
    who, (first, second) = pick(rng, words.NAMES), sample(rng, _GOODS, 2)
    a, b, p, q = (between(rng, 2, 12) for _ in range(4))
    spent = a * p + b * q
    paid = spent + between(rng, 1, 60)
    question = (
        f"{who} buys {a} {first} at {p} euros each and {b} {second} at {q} euros each,"
        f" and pays with {paid} euros. How many euros does {who} get back?"
    )
    steps = [
        f"The {first} cost {a} * {p} = {a * p} euros.",
        f"The {second} cost {b} * {q} = {b * q} euros.",
        f"Together they cost {a * p} + {b * q} = {spent} euros.",
        f"The change is {paid} - {spent} = {paid - spent} euros.",
    ]
    return question, steps, paid - spent


def _journey(rng: np.random.Generator) -> Problem:
    vehicle = pick(rng, ("train", "bus", "ferry", "cyclist", "lorry", "tram"))
    speed, hours, more = (
        between(rng, 3, 24) * 5,
        between(rng, 2, 9),
        between(rng, 5, 120),
    )
    question = (
        f"A {vehicle} travels for {hours} hours at {speed} kilometres an hour and then"
        f" another {more} kilometres. How many kilometres does it travel in all?"
    )
    steps = [
        f"In {hours} hours it travels {hours} * {speed} = {hours * speed} kilometres.",
        f"In all it travels {hours * speed} + {more} = {hours * speed + more} kilometres.",
    ]
    return question, steps, hours * speed + more


def _sharing(rng: np.random.Generator) -> Problem:
    goods, box = pick(rng, _GOODS), pick(rng, _BOXES)
    people, each, boxes = between(rng, 2, 9), between(rng, 2, 25), between(rng, 2, 8)
    total = people * each * boxes
    question = (
        f"There are {boxes} {box} with {people * each} {goods} in each. {people} friends"
        f" share all of them evenly. How many {goods} does each of them get?"
    )
    steps = [
        f"There are {boxes} * {people * each} = {total} {goods}.",
        f"Each friend gets {total} / {people} = {total // people} {goods}.",
    ]
    return question, steps, total // people


def _percent(rng: np.random.Generator) -> Problem:
    thing = pick(rng, ("lamp", "coat", "radio", "tent", "bookcase", "kettle", "bicycle"))
    share, unit = pick(rng, ((5, 20), (10, 10), (20, 5), (25, 4), (50, 2)))
    price = unit * between(rng, 2, 60)
    off = price // unit
    question = (
        f"A {thing} costs {price} euros. In the sale it is {share} percent cheaper."
        f" What does it cost in the sale, in euros?"
    )
    steps = [
        f"The reduction is {price} * {share} / 100 = {off} euros.",
        f"The sale price is {price} - {off} = {price - off} euros.",
    ]
    return question, steps, price - off


def _ages(rng: np.random.Generator) -> Problem:
    young, old = sample(rng, words.NAMES, 2)
    age, times, years = between(rng, 3, 20), between(rng, 2, 4), between(rng, 2, 15)
    question = (
        f"{young} is {age} years old, and {old} is {times} times as old. How old will"
        f" {old} be in {years} years?"
    )
    steps = [
        f"{old} is now {times} * {age} = {times * age} years old.",
        f"In {years} years {old} will be {times * age} + {years} ="
        f" {times * age + years} years old.",
    ]
    return question, steps, times * age + years


def _area(rng: np.random.Generator) -> Problem:
    place = pick(rng, ("garden", "room", "courtyard", "field", "terrace", "hall"))
    length, width, price = between(rng, 3, 30), between(rng, 3, 20), between(rng, 2, 15)
    question = (
        f"A {place} is {length} metres long and {width} metres wide. Covering it costs"
        f" {price} euros a square metre. How many euros does that cost?"
    )
    area = length * width
    steps = [
        f"The {place} measures {length} * {width} = {area} square metres.",
        f"Covering it costs {area} * {price} = {area * price} euros.",
    ]
    return question, steps, area * price


def _average(rng: np.random.Generator) -> Problem:
    who, what = pick(rng, words.NAMES), pick(rng, ("pages", "kilometres", "exercises"))
    count = between(rng, 3, 5)
    values = [between(rng, 5, 60) for _ in range(count)]
    values[-1] += -sum(values) % count
    total = sum(values)
    verb = {"pages": "reads", "kilometres": "cycles", "exercises": "solves"}[what]
    days = sample(rng, words.DAYS, count)
    told = ", ".join(f"{v} {what} on {d}" for v, d in zip(values, days, strict=True))
    question = f"{who} {verb} {told}. How many {what} is that a day, on average?"
    steps = [
        f"In all, {who} {verb} {' + '.join(map(str, values))} = {total} {what}.",
        f"Over {count} days that is {total} / {count} = {total // count} {what} a day.",
    ]
    return question, steps, total // count


def _saving(rng: np.random.Generator) -> Problem:
    who = pick(rng, words.NAMES)
    thing = pick(rng, ("guitar", "telescope", "camera", "tent", "sewing machine", "drum"))
    week, weeks, has = between(rng, 3, 25), between(rng, 3, 20), between(rng, 5, 90)
    price = has + week * weeks
    question = (
        f"{who} has {has} euros and saves {week} euros a week for a {thing} that costs"
        f" {price} euros. After how many weeks is there enough?"
    )
    steps = [
        f"{who} still needs {price} - {has} = {price - has} euros.",
        f"That takes {price - has} / {week} = {weeks} weeks.",
    ]
    return question, steps, weeks


def _fraction(rng: np.random.Generator) -> Problem:
    who, goods = pick(rng, words.NAMES), pick(rng, _GOODS)
    parts = between(rng, 3, 8)
    given = between(rng, 1, parts - 1)
    total, extra = parts * between(rng, 3, 30), between(rng, 2, 20)
    part = total // parts
    left = total - part * given
    question = (
        f"{who} has {total} {goods}, gives away {given}/{parts} of them and then buys"
        f" {extra} more. How many {goods} does {who} have now?"
    )
    steps = [
        f"One part is {total} / {parts} = {part} {goods}.",
        f"{who} gives away {given} * {part} = {given * part} {goods}.",
        f"That leaves {total} - {given * part} = {left} {goods}.",
        f"With the new ones there are {left} + {extra} = {left + extra} {goods}.",
    ]
    return question, steps, left + extra


PROBLEMS: dict[str, Callable[[np.random.Generator], Problem]] = {
    "shopping": _shopping,
    "journey": _journey,
    "sharing": _sharing,
    "percent": _percent,
    "ages": _ages,
    "area": _area,
    "average": _average,
    "saving": _saving,
    "fraction": _fraction,
}


@register("worked_maths", "plain")
def worked_maths(n: int, seed: int, *, problem: str = "all") -> list[Example]:
    """Word problems with worked answers.

    Args:
      n: how many rows.
      seed: decides the rows.
      problem: one of `PROBLEMS`, or "all" for an even mix.

    Raises:
      UserError: for an unknown kind of problem.
    """
    choice("worked_maths", "problem", problem, [*PROBLEMS, "all"])
    kinds = list(PROBLEMS) if problem == "all" else [problem]

    def draw(rng: np.random.Generator) -> Example:
        kind = pick(rng, kinds)
        question, steps, result = PROBLEMS[kind](rng)
        worked = "\n".join([*steps, f"Answer: {result}"])
        return chat(question, worked, problem=kind, answer=str(result))

    return rows(draw, n, seed)
