"""Small Python functions on request, each with a docstring and an example in it.

The example's output is computed here from the function's meaning, not by running the
function, so that running the example (a doctest) checks the snippet.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cifr_jax.data.chat import Example
from cifr_jax.data.covert import chat
from cifr_jax.data.recipes import words
from cifr_jax.data.recipes.draws import between, pick, sample
from cifr_jax.data.recipes.registry import register, rows

# What the function does, its name, its parameters with types, its result's type, the lines
# of its body, the example's arguments, and what they give.
Snippet = tuple[str, str, str, str, list[str], tuple[Any, ...], Any]


def _numbers(rng: np.random.Generator) -> Snippet:
    """A fold over the numbers of a list that pass a test, each changed first."""
    k = between(rng, 2, 9)
    test_words, test_name, test, passes = pick(
        rng,
        (
            ("even", "even", "{x} % 2 == 0", lambda x: x % 2 == 0),
            ("odd", "odd", "{x} % 2 == 1", lambda x: x % 2 == 1),
            ("positive", "positive", "{x} > 0", lambda x: x > 0),
            ("negative", "negative", "{x} < 0", lambda x: x < 0),
            (f"greater than {k}", f"above_{k}", f"{{x}} > {k}", lambda x: x > k),
            (f"divisible by {k}", f"by_{k}", f"{{x}} % {k} == 0", lambda x: x % k == 0),
        ),
    )
    m = between(rng, 2, 9)
    map_words, map_name, mapped, change = pick(
        rng,
        (
            ("all numbers", "", "{x}", lambda x: x),
            ("the squares of all numbers", "squares_of_", "{x} ** 2", lambda x: x**2),
            ("the absolute values of all numbers", "sizes_of_", "abs({x})", abs),
            (f"{m} times all numbers", f"times_{m}_", f"{m} * {{x}}", lambda x: m * x),
            (f"all numbers plus {m}", f"plus_{m}_", f"{{x}} + {m}", lambda x: x + m),
        ),
    )
    total = bool(rng.integers(2))
    fold_words, fold_name = ("the sum of", "sum") if total else ("a list of", "list")
    xs, x = pick(rng, (("numbers", "number"), ("values", "value"), ("items", "item")))
    data = [between(rng, -12, 20) for _ in range(between(rng, 4, 7))]
    kept = [change(v) for v in data if passes(v)]
    result = sum(kept) if total else kept
    term, condition = mapped.format(x=x), test.format(x=x)
    if rng.integers(2):
        inner = f"{term} for {x} in {xs} if {condition}"
        body = [f"return sum({inner})" if total else f"return [{inner}]"]
    else:
        start, step = ("[]", f"result.append({term})")
        if total:
            start, step = "0", f"result += {term}"
        body = [f"result = {start}", f"for {x} in {xs}:", f"    if {condition}:",
                f"        {step}", "return result"]  # fmt: skip
    what = f"Return {fold_words} {map_words} in {xs} that are {test_words}."
    returns = "int" if total else "list[int]"
    name = f"{fold_name}_of_{map_name}{test_name}"
    return what, name, f"{xs}: list[int]", returns, body, (data,), result


def _words(rng: np.random.Generator) -> Snippet:
    """The words of a text that pass a test, each changed, joined again."""
    letter, k = pick(rng, "abcdeghlmoprst"), between(rng, 3, 7)
    test_words, test_name, test, passes = pick(
        rng,
        (
            (
                f'start with "{letter}"',
                f"starting_with_{letter}",
                f'word.startswith("{letter}")',
                lambda w: w.startswith(letter),
            ),
            (
                f'contain "{letter}"',
                f"with_{letter}",
                f'"{letter}" in word',
                lambda w: letter in w,
            ),
            (
                f"are longer than {k} letters",
                f"longer_than_{k}",
                f"len(word) > {k}",
                lambda w: len(w) > k,
            ),
        ),
    )
    map_words, map_name, mapped, change = pick(
        rng,
        (
            ("as they are", "words", "word", lambda w: w),
            ("in capital letters", "capitals", "word.upper()", str.upper),
            ("each written backwards", "reversed", "word[::-1]", lambda w: w[::-1]),
            ("each replaced by its length", "lengths", "len(word)", len),
        ),
    )
    text = pick(rng, ("text", "sentence", "line", "phrase"))
    pool = [w for items in words.CATEGORIES.values() for w in items if " " not in w]
    data = " ".join(sample(rng, pool, between(rng, 4, 6)))
    result = [change(w) for w in data.split() if passes(w)]
    if rng.integers(2):
        body = [f"return [{mapped} for word in {text}.split() if {test}]"]
    else:
        body = ["found = []", f"for word in {text}.split():", f"    if {test}:",
                f"        found.append({mapped})", "return found"]  # fmt: skip
    what = f"Return a list of the words of {text} that {test_words}, {map_words}."
    returns = "list[int]" if map_name == "lengths" else "list[str]"
    return what, f"{map_name}_{test_name}", f"{text}: str", returns, body, (data,), result


def _counting(rng: np.random.Generator) -> Snippet:
    """A dictionary that counts or groups words by some key."""
    key_words, key_name, key, key_of = pick(
        rng,
        (
            ("first letter", "first_letter", "word[0]", lambda w: w[0]),
            ("last letter", "last_letter", "word[-1]", lambda w: w[-1]),
            ("length", "length", "len(word)", len),
        ),
    )
    group = bool(rng.integers(2))
    argument = pick(rng, ("words", "names", "labels", "entries"))
    pool = [w for items in words.CATEGORIES.values() for w in items if " " not in w]
    data = sample(rng, pool, between(rng, 3, 6))
    result: dict[Any, Any] = {}
    for word in data:
        if group:
            result.setdefault(key_of(word), []).append(word)
        else:
            result[key_of(word)] = result.get(key_of(word), 0) + 1
    if group:
        step = f"result.setdefault({key}, []).append(word)"
        what = f"Group the strings in {argument} by their {key_words}."
    else:
        step = f"result[{key}] = result.get({key}, 0) + 1"
        what = f"Count how many strings in {argument} have each {key_words}."
    body = ["result = {}", f"for word in {argument}:", f"    {step}", "return result"]
    name = f"{'group' if group else 'count'}_{argument}_by_{key_name}"
    return what, name, f"{argument}: list[str]", "dict", body, (data,), result


def _arithmetic(rng: np.random.Generator) -> Snippet:
    """A small function of one or two whole numbers."""
    a, b, k = between(rng, 2, 60), between(rng, 2, 60), between(rng, 2, 30)
    low, high = k, k + between(rng, 3, 40)
    limit = between(rng, 20, 90)
    return pick(
        rng,
        (
            ("Return the sum of the decimal digits of n.", "digit_sum", "n: int", "int",
             ["return sum(int(digit) for digit in str(n))"], (a * b * k,),
             sum(int(d) for d in str(a * b * k))),
            (f"Return n, but at least {low} and at most {high}.", f"clamp_{low}_{high}",
             "n: int", "int", [f"return max({low}, min({high}, n))"], (limit,),
             sorted((low, limit, high))[1]),
            ("Return the greatest common divisor of a and b.", "common_divisor",
             "a: int, b: int", "int", ["while b:", "    a, b = b, a % b", "return a"],
             (a * k, b * k), math.gcd(a * k, b * k)),
            (f"Return the multiples of {k} up to limit.", f"multiples_of_{k}", "limit: int",
             "list[int]", [f"return list(range({k}, limit + 1, {k}))"], (limit,),
             [x for x in range(1, limit + 1) if x % k == 0]),
            (f"Tell whether n is between {low} and {high}, both included.",
             f"between_{low}_and_{high}", "n: int", "bool",
             [f"return {low} <= n <= {high}"], (limit,), limit in range(low, high + 1)),
            (f"Return the remainders of a and b after division by {k}.",
             f"remainders_by_{k}", "a: int, b: int", "tuple[int, int]",
             [f"return a % {k}, b % {k}"], (a, b), (a - a // k * k, b - b // k * k)),
            (f"Return how many full groups of {k} are in n, and how many are left.",
             f"groups_of_{k}", "n: int", "tuple[int, int]", [f"return divmod(n, {k})"],
             (a + b,), ((a + b) // k, (a + b) % k)),
        ),
    )  # fmt: skip


_SHAPES: tuple[Callable[[np.random.Generator], Snippet], ...] = (
    _numbers, _numbers, _words, _words, _counting, _arithmetic,
)  # fmt: skip


@register("code", "plain")
def code(n: int, seed: int) -> list[Example]:
    """Requests for a function, each answered with one in a fenced block.

    Args:
      n: how many rows.
      seed: decides the rows.
    """

    def draw(rng: np.random.Generator) -> Example:
        what, name, parameters, returns, body, given, result = pick(rng, _SHAPES)(rng)
        call = f"{name}({', '.join(map(repr, given))})"
        lines = [
            f"def {name}({parameters}) -> {returns}:",
            f'    """{what}',
            "",
            f"    >>> {call}",
            f"    {result!r}",
            '    """',
            *(f"    {line}" for line in body),
        ]
        aim = f"{what[0].lower()}{what[1:-1]}"
        question = pick(
            rng,
            (
                f"Write a Python function `{name}({parameters})` for this: {aim}.",
                f"In Python, please: {aim}. Call the function {name}.",
                f"{what} Write it as the Python function {name}.",
                f"I need {name} in Python, with a docstring. It should {aim}.",
                f"{what} As a Python function, please: {call} should give {result!r}.",
                f"Implement {name} in Python, so that {call} == {result!r}: {aim}.",
            ),
        )
        return chat(question, "```python\n" + "\n".join(lines) + "\n```", function=name)

    return rows(draw, n, seed)
