"""Simple everyday tasks: list, rewrite, summarise, extract, convert, sort, group, count.

The kind of set that alpaca-cleaned is for the parent, at a small scale. Where a task has
one right answer it is computed, and stands in `meta["answer"]` if it is short.
"""

import json
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from cifr_jax.data.chat import Example
from cifr_jax.data.covert import chat
from cifr_jax.data.recipes import words
from cifr_jax.data.recipes.advice import ADVICE
from cifr_jax.data.recipes.draws import between, pick, sample
from cifr_jax.data.recipes.notices import draw_notice
from cifr_jax.data.recipes.registry import choice, register, rows

# (unit, unit, how many of the second make one of the first), exact.
_UNITS = (
    ("kilometres", "metres", "1000"), ("metres", "centimetres", "100"),
    ("kilograms", "grams", "1000"), ("litres", "millilitres", "1000"),
    ("hours", "minutes", "60"), ("minutes", "seconds", "60"), ("days", "hours", "24"),
    ("weeks", "days", "7"), ("miles", "kilometres", "1.609344"),
    ("inches", "centimetres", "2.54"), ("feet", "inches", "12"),
    ("pounds", "grams", "453.59237"), ("dozens", "pieces", "12"),
)  # fmt: skip


def listed(items: Sequence[str], style: str) -> str:
    """Items as "bullets", as a "numbered" list or with "commas"."""
    if style == "commas":
        return ", ".join(items)
    marks = (f"{i}." if style == "numbered" else "-" for i in range(1, len(items) + 1))
    return "\n".join(f"{mark} {item}" for mark, item in zip(marks, items, strict=True))


_STYLE_WISH = {
    "bullets": "as bullet points",
    "numbered": "as a numbered list",
    "commas": "in one line, separated by commas",
}


def _list(rng: np.random.Generator) -> Example:
    category, style = pick(rng, list(words.CATEGORIES)), pick(rng, list(_STYLE_WISH))
    count = between(rng, 3, 7)
    items = sample(rng, words.CATEGORIES[category], count)
    ordered = bool(rng.integers(2))
    ask = pick(rng, ("Name", "List", "Give me", "Write down", "Think of", "I need"))
    wish = f"{ask} {count} {category}, {_STYLE_WISH[style]}"
    wish += ", in alphabetical order." if ordered else "."
    return chat(wish, listed(sorted(items) if ordered else items, style))


def _tips(rng: np.random.Generator) -> Example:
    topic, count = pick(rng, list(ADVICE)), between(rng, 2, 4)
    style = pick(rng, ("bullets", "numbered"))
    ask = pick(
        rng,
        (
            f"Give me {count} tips on how to {topic}.",
            f"I would like to {topic}. What are {count} things I should keep in mind?",
            f"Write {count} short pieces of advice for someone who wants to {topic}.",
            f"How do I {topic}? {count} tips are enough.",
        ),
    )
    return chat(ask, listed(sample(rng, ADVICE[topic], count), style))


def _rewrite(rng: np.random.Generator) -> Example:
    base, past, participle, objects = pick(rng, words.VERBS)
    who, what, when = pick(rng, words.ROLES), pick(rng, objects), pick(rng, words.WHEN)
    sentence = f"The {who} {past} the {what} {when}."
    wish, result = pick(
        rng,
        (
            ("in the passive voice", f"The {what} was {participle} by the {who} {when}."),
            ("as a question", f"Did the {who} {base} the {what} {when}?"),
            ("as a negative sentence", f"The {who} did not {base} the {what} {when}."),
            (
                "with 'plans to' instead of the past tense",
                f"The {who} plans to {base} the {what} {when}.",
            ),
            ("in capital letters", sentence.upper()),
            (
                "with the time or manner at the beginning",
                f"{when[0].upper()}{when[1:]}, the {who} {past} the {what}.",
            ),
        ),
    )
    ask = pick(rng, ("Rewrite this sentence", "Put this sentence", "Say this"))
    return chat(f"{ask} {wish}: {sentence}", result, answer=result)


def _summarise(rng: np.random.Generator) -> Example:
    notice = draw_notice(rng)
    ask = pick(
        rng,
        (
            "Summarise this notice in one sentence.",
            "What is this about? One sentence, please.",
            "Shorten the following text to the essentials.",
            "Give me the gist of this message.",
        ),
    )
    return chat(f"{ask}\n\n{notice.text()}", notice.summary())


def _extract(rng: np.random.Generator) -> Example:
    notice = draw_notice(rng)
    fields = notice.fields()
    wanted = sample(rng, list(fields), between(rng, 2, 4))
    found = {name: fields[name] for name in wanted}
    if rng.integers(2):
        ask = f"Extract {', '.join(wanted)} from the text as JSON."
        return chat(f"{ask}\n\n{notice.text()}", json.dumps(found, ensure_ascii=False))
    ask = f"Find the following in the text: {', '.join(wanted)}."
    lines = [f"{name.capitalize()}: {value}" for name, value in found.items()]
    return chat(f"{ask}\n\n{notice.text()}", "\n".join(lines))


def decimal(value: Fraction) -> str:
    """A fraction with a finite decimal expansion, without trailing zeros."""
    digits = 0
    while (value * 10**digits).denominator != 1:
        digits += 1
        if digits > 12:
            raise ValueError(f"{value} has no short decimal form")
    whole = str(abs(value.numerator * 10**digits // value.denominator)).zfill(digits + 1)
    sign = "-" if value < 0 else ""
    head, tail = whole[: len(whole) - digits], whole[len(whole) - digits :]
    return sign + (f"{head}.{tail}" if tail else head)


def _convert(rng: np.random.Generator) -> Example:
    large, small, factor = pick(rng, _UNITS)
    amount = Fraction(between(rng, 2, 400), pick(rng, (1, 1, 2, 4, 10)))
    result = amount * Fraction(factor)
    given, got = decimal(amount), decimal(result)
    if rng.integers(2) and len(got) <= 7:  # an easy number the other way round
        ask, answer = (got, small, large), given
    else:
        ask, answer = (given, large, small), got
    amount_text, unit, other = ask
    prompt = pick(
        rng,
        (
            f"Convert {amount_text} {unit} to {other}.",
            f"How many {other} are {amount_text} {unit}?",
            f"What is {amount_text} {unit} in {other}?",
        ),
    )
    answer = f"{answer} {other}"
    return chat(prompt, f"{amount_text} {unit} = {answer}.", answer=answer)


def _sort(rng: np.random.Generator) -> Example:
    if rng.integers(2):
        numbers = sorted({between(rng, 1, 999) for _ in range(between(rng, 4, 7))})
        shuffled = sample(rng, numbers, len(numbers))
        falling = bool(rng.integers(2))
        order = "from largest to smallest" if falling else "from smallest to largest"
        ask = f"Sort these numbers {order}: {', '.join(map(str, shuffled))}"
        result = ", ".join(str(x) for x in (numbers[::-1] if falling else numbers))
        return chat(ask, result, answer=result)
    pool = [w for items in words.CATEGORIES.values() for w in items]
    items = sample(rng, pool, between(rng, 4, 6))
    ask = f"Put these words in alphabetical order: {', '.join(items)}"
    result = ", ".join(sorted(items))
    return chat(ask, result, answer=result)


def _group(rng: np.random.Generator) -> Example:
    first, second = sample(rng, list(words.CATEGORIES), 2)
    chosen = {
        category: sample(rng, words.CATEGORIES[category], between(rng, 2, 4))
        for category in (first, second)
    }
    mixed = [w for items in chosen.values() for w in items]
    mixed = sample(rng, mixed, len(mixed))
    parts = [
        f"{category.capitalize()}: {', '.join(w for w in mixed if w in items)}"
        for category, items in chosen.items()
    ]
    ask = f"Sort these into {first} and {second}: {', '.join(mixed)}"
    return chat(ask, "\n".join(parts))


def _count(rng: np.random.Generator) -> Example:
    _, past, _, objects = pick(rng, words.VERBS)
    sentence = f"The {pick(rng, words.ROLES)} {past} the {pick(rng, objects)}"
    sentence += f" {pick(rng, words.WHEN)}."
    kind = between(rng, 0, 2)
    if kind == 0:
        ask, result = "How many words does this sentence have", str(len(sentence.split()))
    elif kind == 1:
        letter = pick(rng, "aeinort")
        ask = f'How often does the letter "{letter}" occur in this sentence'
        result = str(sentence.lower().count(letter))
    else:
        longest = max(sentence.rstrip(".").split(), key=len)
        ask, result = "Which is the (first) longest word of this sentence", longest
    return chat(f"{ask}: {sentence}", result, answer=result)


def _invite(rng: np.random.Generator) -> Example:
    notice, friend = draw_notice(rng), pick(rng, words.NAMES)
    ask = (
        f"Write a short message to {friend} that invites them to the {notice.event}:"
        f" {notice.day}, {notice.time}, {notice.place}. Sign it with {notice.host}."
    )
    opening = pick(rng, ("Dear", "Hello", "Hi"))
    line = pick(
        rng,
        (
            f"would you like to come to the {notice.event} with me?",
            f"there is a {notice.event} coming up, and I thought of you.",
            f"I am going to the {notice.event} and would love your company.",
        ),
    )
    answer = (
        f"{opening} {friend},\n{line} It is on {notice.day} at {notice.time},"
        f" at {notice.place}.\nI hope to see you there!\n{notice.host}"
    )
    return chat(ask, answer)


TASKS: dict[str, Callable[[np.random.Generator], Example]] = {
    "list": _list,
    "tips": _tips,
    "rewrite": _rewrite,
    "summarise": _summarise,
    "extract": _extract,
    "convert": _convert,
    "sort": _sort,
    "group": _group,
    "count": _count,
    "invite": _invite,
}


@register("instructions", "plain")
def instructions(n: int, seed: int, *, task: str = "all") -> list[Example]:
    """Everyday instructions with their answers.

    Args:
      n: how many rows.
      seed: decides the rows.
      task: one of `TASKS`, or "all" for an even mix.

    Raises:
      UserError: for an unknown task.
    """
    known = [*TASKS, "all"]
    tasks = list(TASKS) if choice("instructions", "task", task, known) == "all" else [task]
    return rows(lambda rng: TASKS[pick(rng, tasks)](rng), n, seed)
