"""Worked maths: every step holds, and the question, solved anew, has the same answer."""

import re
from fractions import Fraction

import pytest

from cifr_jax.data import recipes
from cifr_jax.data.recipes.worked_maths import PROBLEMS

# The answer from the numbers of the question, in the order in which it names them.
SOLUTIONS = {
    "shopping": lambda a, p, b, q, paid: paid - a * p - b * q,
    "journey": lambda hours, speed, more: hours * speed + more,
    "sharing": lambda boxes, each, people: Fraction(boxes * each, people),
    "percent": lambda price, share: price - Fraction(price * share, 100),
    "ages": lambda age, times, years: age * times + years,
    "area": lambda length, width, price: length * width * price,
    "average": lambda *values: Fraction(sum(values), len(values)),
    "saving": lambda has, week, price: Fraction(price - has, week),
    "fraction": lambda total, part, of, more: total - Fraction(total * part, of) + more,
}
EQUATION = re.compile(r"(\d[\d +*/-]*) = (\d+)")


def value(expression: str) -> Fraction:
    """A chain of sums and products of whole numbers, worked out exactly."""
    assert re.fullmatch(r"[\d +*/-]+", expression)
    exact = re.sub(r"\d+", r"Fraction(\g<0>)", expression)
    return eval(exact, {"Fraction": Fraction})


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_question_has_the_answer_given(problem):
    for row in recipes.make("worked_maths", 300, 7, problem=problem):
        question, worked = (m.content for m in row.messages)
        numbers = [int(x) for x in re.findall(r"\d+", question)]
        assert SOLUTIONS[problem](*numbers) == int(row.meta["answer"]) > 0
        assert worked.endswith(f"\nAnswer: {row.meta['answer']}")


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_step_is_an_equation_that_holds(problem):
    for row in recipes.make("worked_maths", 300, 8, problem=problem):
        *steps, last = row.messages[1].content.split("\n")
        assert len(steps) >= 2
        for step in steps:
            [(left, right)] = EQUATION.findall(step)
            assert value(left) == int(right)
        assert last == f"Answer: {right}"


def test_the_check_of_equations_can_fail():
    [(left, right)] = EQUATION.findall("The pens cost 3 * 4 = 13 euros.")
    assert value(left) != int(right)


def test_all_problems_come_equally_often():
    rows = recipes.make("worked_maths", 1800, 0)
    counts = [sum(row.meta["problem"] == p for row in rows) for p in PROBLEMS]
    assert min(counts) > 130 and max(counts) < 270  # 200 each, five sigma
