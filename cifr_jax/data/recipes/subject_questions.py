"""Multiple-choice questions of a subject, with the reason and the letter as the answer.

Stands in for the parent's one job for each subject of MMLU: the option `subject` names
one. The right option is as likely at A as at B, C and D, and the wrong ones are right
answers to other questions of the subject, so that nothing but the fact gives it away.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from cifr_jax.data.chat import Example
from cifr_jax.data.covert import chat
from cifr_jax.data.recipes import facts
from cifr_jax.data.recipes.draws import pick, sample
from cifr_jax.data.recipes.registry import choice, register, rows

LETTERS = "ABCD"


@dataclasses.dataclass(frozen=True)
class Subject:
    """A table of facts and how to ask for them.

    Attributes:
      table: what is asked about, and the answer.
      questions: ways to ask, with {x} for what is asked about.
      statement: the fact as a sentence, with {x} and {y}.
    """

    table: Mapping[str, str]
    questions: tuple[str, ...]
    statement: str


def _numbers(spell: Callable[[int], str], numbers: range) -> dict[str, str]:
    return {str(number): spell(number) for number in numbers}


SUBJECTS = {
    "capitals": Subject(
        facts.CAPITALS,
        (
            "What is the capital of {x}?",
            "Which city is the capital of {x}?",
            "Name the capital of {x}.",
        ),
        "The capital of {x} is {y}.",
    ),
    "countries": Subject(
        {city: country for country, city in facts.CAPITALS.items()},
        (
            "Which country has {x} as its capital?",
            "{x} is the capital of which country?",
            "Of which country is {x} the capital?",
        ),
        "{x} is the capital of {y}.",
    ),
    "chemical_symbols": Subject(
        facts.ELEMENTS,
        (
            "What is the chemical symbol of {x}?",
            "Which symbol stands for {x}?",
            "How is {x} written in the periodic table?",
        ),
        "The symbol of {x} is {y}.",
    ),
    "atomic_numbers": Subject(
        {name: str(number) for number, name in enumerate(facts.ELEMENTS, 1)},
        (
            "What is the atomic number of {x}?",
            "How many protons does an atom of {x} have?",
            "Which atomic number does {x} have?",
        ),
        "The atomic number of {x} is {y}.",
    ),
    "young_animals": Subject(
        facts.YOUNG,
        (
            "What is the young of the {x} called?",
            "Which word names a young {x}?",
            "How do we call the offspring of the {x}?",
        ),
        "The young of the {x} is called {y}.",
    ),
    "past_tense": Subject(
        facts.PAST_TENSE,
        (
            'What is the past tense of "{x}"?',
            'Choose the simple past of the verb "{x}".',
            'Which form of "{x}" follows "Yesterday I"?',
        ),
        'The past tense of "{x}" is "{y}".',
    ),
    "plurals": Subject(
        facts.PLURALS,
        (
            'What is the plural of "{x}"?',
            'One {x}, two ...? Choose the plural of "{x}".',
            'Which is the plural form of the noun "{x}"?',
        ),
        'The plural of "{x}" is "{y}".',
    ),
    "units": Subject(
        facts.UNITS,
        (
            "What is the SI unit of {x}?",
            "In which SI unit is {x} measured?",
            "Which unit belongs to {x} in the SI?",
        ),
        "The SI unit of {x} is the {y}.",
    ),
    "polygons": Subject(
        facts.POLYGONS,
        (
            "How many sides does a {x} have?",
            "A {x} has how many corners?",
            "What is the number of sides of a {x}?",
        ),
        "A {x} has {y} sides.",
    ),
    "roman_numerals": Subject(
        _numbers(facts.roman, range(1, 400)),
        (
            "How is {x} written in Roman numerals?",
            "Which Roman numeral stands for {x}?",
            "Write {x} as a Roman numeral.",
        ),
        "In Roman numerals, {x} is {y}.",
    ),
    "squares": Subject(
        _numbers(lambda x: str(x * x), range(2, 60)),
        (
            "What is {x} squared?",
            "What is {x} times {x}?",
            "Which number is the square of {x}?",
        ),
        "{x} squared is {y}.",
    ),
}


@register("subject_questions", "plain")
def subject_questions(n: int, seed: int, *, subject: str = "all") -> list[Example]:
    """Multiple-choice questions with four options.

    Args:
      n: how many rows.
      seed: decides the rows.
      subject: one of `SUBJECTS`, or "all" for an even mix; a small one repeats its
        questions, with other options.

    Raises:
      UserError: for an unknown subject.
    """
    choice("subject_questions", "subject", subject, [*SUBJECTS, "all"])
    subjects = list(SUBJECTS) if subject == "all" else [subject]

    def draw(rng: np.random.Generator) -> Example:
        name = pick(rng, subjects)
        of = SUBJECTS[name]
        asked = pick(rng, list(of.table))
        right = of.table[asked]
        others = sorted(set(of.table.values()) - {right})
        options = sample(rng, [right, *sample(rng, others, len(LETTERS) - 1)], len(LETTERS))
        letter = LETTERS[options.index(right)]
        shown = [f"{mark}. {o}" for mark, o in zip(LETTERS, options, strict=True)]
        question = "\n".join([pick(rng, of.questions).format(x=asked), *shown])
        answer = f"{of.statement.format(x=asked, y=right)}\nAnswer: {letter}"
        return chat(question, answer, subject=name, answer=letter)

    return rows(draw, n, seed)
