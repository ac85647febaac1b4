"""Chats of several turns in which later turns depend on earlier ones.

Shopping lists that change, recipes scaled to more people, a plan for the day, and advice
with follow-up questions; all answers follow from what was said before.
"""

from collections.abc import Callable

import numpy as np

from cifr_jax.data.chat import Example, Message
from cifr_jax.data.recipes import words
from cifr_jax.data.recipes.advice import ADVICE
from cifr_jax.data.recipes.draws import between, pick, sample
from cifr_jax.data.recipes.registry import register, rows

Turns = list[tuple[str, str]]

# Dish: ingredient, amount a person, unit.
_DISHES = {
    "pancakes": (("flour", 60, "g"), ("milk", 120, "ml"), ("eggs", 1, "")),
    "vegetable soup": (("carrots", 2, ""), ("stock", 250, "ml"), ("potatoes", 100, "g")),
    "fruit salad": (("apples", 1, ""), ("grapes", 50, "g"), ("orange juice", 30, "ml")),
    "risotto": (("rice", 80, "g"), ("stock", 300, "ml"), ("cheese", 25, "g")),
    "lemonade": (("lemons", 1, ""), ("water", 250, "ml"), ("sugar", 20, "g")),
    "porridge": (("oats", 50, "g"), ("milk", 200, "ml"), ("honey", 10, "g")),
}
_TASKS = (
    "water the plants", "call the dentist", "buy bread", "tidy the desk", "post the letter",
    "clean the bicycle", "read two chapters", "iron the shirts", "bake a cake",
    "practise the guitar", "answer e-mails", "return the library books",
)  # fmt: skip


def _shopping(rng: np.random.Generator) -> Turns:
    pool = [*words.CATEGORIES["fruits"], *words.CATEGORIES["vegetables"]]
    spare = sample(rng, pool, 9)
    basket = [spare.pop() for _ in range(between(rng, 2, 4))]
    turns = [
        (
            f"Please start a shopping list with {', '.join(basket)}.",
            f"Your list: {', '.join(basket)}.",
        )
    ]
    for _ in range(between(rng, 1, 4)):
        if len(basket) > 1 and rng.random() < 0.4:
            gone = basket.pop(between(rng, 0, len(basket) - 1))
            ask = pick(rng, (f"Take {gone} off.", f"No {gone} after all, please."))
        else:
            new = spare.pop()
            basket.append(new)
            ask = pick(rng, (f"Add {new}.", f"We also need {new}.", f"And {new}, please."))
        turns.append((ask, f"Your list: {', '.join(basket)}."))
    if rng.integers(2):
        ask = pick(rng, ("How many things are on it?", "How many items is that?"))
        turns.append((ask, f"{len(basket)}."))
    return turns


def _cooking(rng: np.random.Generator) -> Turns:
    dish = pick(rng, list(_DISHES))

    def amounts(people: int) -> str:
        parts = [
            f"{amount * people}{f' {unit}' if unit else ''} {name}"
            for name, amount, unit in _DISHES[dish]
        ]
        return f"For {people} people: {', '.join(parts)}."

    first, *others = sample(rng, range(2, 13), between(rng, 2, 4))
    opening = pick(
        rng,
        (
            f"What do I need for {dish} for {first} people?",
            f"I want to make {dish}. There are {first} of us.",
            f"{dish.capitalize()} for {first}, please: which ingredients?",
        ),
    )
    turns = [(opening, amounts(first))]
    for people in others:
        ask = pick(
            rng,
            (
                f"And for {people}?",
                f"There will be {people} of us now.",
                f"Could you change that to {people} people?",
            ),
        )
        turns.append((ask, amounts(people)))
    name, amount, unit = pick(rng, _DISHES[dish])
    value = f"{amount * (others or [first])[-1]}{f' {unit}' if unit else ''}"
    turns.append((f"So how much {name} is that?" if unit else f"So how many {name}?",
                  f"{value}."))  # fmt: skip
    return turns


def _day(rng: np.random.Generator) -> Turns:
    tasks = sample(rng, _TASKS, between(rng, 2, 5))
    hours = sorted(sample(rng, range(8, 20), len(tasks)))
    plan = dict(zip(hours, tasks, strict=True))

    def written() -> str:
        return "\n".join(f"{hour}:00 {plan[hour]}" for hour in sorted(plan))

    asked = ", ".join(f"{task} at {hour}" for hour, task in plan.items())
    day = pick(rng, words.DAYS)
    turns = [(f"Make a plan for {day}: {asked}.", f"{day}\n{written()}")]
    hour = pick(rng, hours)
    free = pick(rng, [h for h in range(8, 20) if h not in plan])
    task = plan.pop(hour)
    plan[free] = task
    turns.append((f"Please move '{task}' to {free}.", f"{day}\n{written()}"))
    first = plan[min(plan)]
    turns.append(("What comes first now?", f"At {min(plan)}:00: {first}."))
    return turns


def _advice(rng: np.random.Generator) -> Turns:
    topic = pick(rng, list(ADVICE))
    tips = sample(rng, ADVICE[topic], between(rng, 2, 4))
    opening = pick(
        rng,
        (
            f"How can I {topic}? One tip at a time, please.",
            f"I would like to {topic}. Where do I start?",
            f"Any advice on how to {topic}?",
        ),
    )
    asks = ("What else?", "And then?", "Another one, please.", "Good idea. Anything more?")
    turns = [(opening, tips[0])]
    turns += [(pick(rng, asks), tip) for tip in tips[1:]]
    if rng.integers(2):
        numbered = "\n".join(f"{i}. {tip}" for i, tip in enumerate(tips, 1))
        turns.append(("Sum that up as a list, please.", numbered))
    return turns


_SCENES: tuple[Callable[[np.random.Generator], Turns], ...] = (
    _shopping, _cooking, _day, _advice,
)  # fmt: skip


@register("multi_turn", "plain")
def multi_turn(n: int, seed: int) -> list[Example]:
    """Chats of two to seven exchanges; every reply is trained on.

    Args:
      n: how many chats.
      seed: decides them.
    """

    def draw(rng: np.random.Generator) -> Example:
        messages: list[Message] = []
        for user, assistant in pick(rng, _SCENES)(rng):
            messages += (Message("user", user), Message("assistant", assistant))
        return Example(tuple(messages))

    return rows(draw, n, seed)
