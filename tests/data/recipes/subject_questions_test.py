"""Subject questions: one right option, anywhere, told by nothing but the fact."""

import numpy as np
import pytest

from cifr_jax.data import recipes
from cifr_jax.data.recipes import facts
from cifr_jax.data.recipes.subject_questions import LETTERS, SUBJECTS

# From an atlas and a periodic table, not from the code.
KNOWN = {
    "capitals": {"France": "Paris", "Australia": "Canberra", "Kenya": "Nairobi",
                 "Brazil": "Brasília", "Turkey": "Ankara", "Canada": "Ottawa"},
    "countries": {"Lima": "Peru", "Oslo": "Norway", "Kathmandu": "Nepal"},
    "chemical_symbols": {"iron": "Fe", "sodium": "Na", "silver": "Ag", "tin": "Sn"},
    "atomic_numbers": {"oxygen": "8", "calcium": "20", "iron": "26", "krypton": "36",
                       "silver": "47", "xenon": "54"},
    "units": {"force": "newton", "electric charge": "coulomb"},
    "polygons": {"hexagon": "6", "dodecagon": "12"},
    "roman_numerals": {"4": "IV", "49": "XLIX", "399": "CCCXCIX"},
    "squares": {"12": "144", "59": "3481"},
}  # fmt: skip


def parts(row):
    """Question, options by letter, statement, letter."""
    question, *shown = row.messages[0].content.split("\n")
    statement, last = row.messages[1].content.split("\n")
    options = dict(line.split(". ", 1) for line in shown)
    return question, options, statement, last.removeprefix("Answer: ")


@pytest.mark.parametrize("subject", KNOWN)
def test_facts_that_are_known_from_elsewhere(subject):
    table = SUBJECTS[subject].table
    assert {x: table[x] for x in KNOWN[subject]} == KNOWN[subject]


def test_roman_numerals_read_back():
    values = dict(zip("IVXLCDM", (1, 5, 10, 50, 100, 500, 1000), strict=True))
    for number in range(1, 4000):
        text = facts.roman(number)
        digits = [values[c] for c in text]
        after = [*digits[1:], 0]
        signed = (-d if d < e else d for d, e in zip(digits, after, strict=True))
        assert sum(signed) == number
        assert not any(c * 4 in text for c in values)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_exactly_one_option_is_right_and_it_is_the_one_named(subject):
    of = SUBJECTS[subject]
    asked = {q.format(x=x): x for q in of.questions for x in of.table}
    for row in recipes.make("subject_questions", 200, 2, subject=subject):
        question, options, statement, letter = parts(row)
        x = asked[question]
        assert list(options) == list(LETTERS) and len(set(options.values())) == 4
        assert [a for a in LETTERS if options[a] == of.table[x]] == [letter]
        assert statement == of.statement.format(x=x, y=options[letter])
        assert row.meta["answer"] == letter and row.meta["subject"] == subject


def test_neither_place_nor_length_gives_the_answer_away():
    n = 4000
    rows = [parts(row) for row in recipes.make("subject_questions", n, 3)]
    sigma = np.sqrt(n * 0.25 * 0.75)
    for letter in LETTERS:
        assert abs(sum(row[3] == letter for row in rows) - n / 4) < 5 * sigma
    for order in (min, max):
        guessed = sum(
            order(LETTERS, key=lambda a: len(options[a])) == letter
            for _, options, _, letter in rows
        )
        assert guessed < 0.33 * n


def test_all_subjects_are_in_an_even_mix():
    rows = recipes.make("subject_questions", 2200, 4)
    counts = [sum(row.meta["subject"] == s for row in rows) for s in SUBJECTS]
    assert min(counts) > 130 and max(counts) < 270  # 200 each, five sigma
