"""One right answer to each question, and nothing but knowledge that tells which."""

import calendar
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.data.pointwise.questions import (
    TABLES,
    Question,
    bank,
    longest_option_accuracy,
    rotations,
    topics,
)
from cifr_jax.data.pointwise.tables import Table, members, pairs
from cifr_jax.errors import UserError

QUESTIONS = bank()


def of_topic(topic):
    return [q for q in QUESTIONS if q.topic == topic]


def test_the_bank_is_large_and_has_topics_to_hold_out():
    assert len(QUESTIONS) >= 600 and len(topics()) >= 10
    assert Counter(q.topic for q in QUESTIONS).keys() == set(topics())
    assert min(Counter(q.topic for q in QUESTIONS).values()) >= 25
    assert len({q.key for q in QUESTIONS}) == len({q.stem for q in QUESTIONS})
    assert len({q.key for q in QUESTIONS}) == len(QUESTIONS)
    for q in QUESTIONS:
        assert len(q.options) == len(set(map(str.casefold, q.options))) == 4
        assert 0 <= q.answer < 4 and all(option.strip() for option in q.options)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.stem)
def test_no_distractor_of_a_table_is_right_as_well(table):
    column = set(table.answers.values())
    for subject, answer in table.answers.items():
        wrong = set(table.distractors(subject))
        assert answer not in wrong and not wrong & set(table.also.get(subject, ()))
        assert len(wrong) >= 3
    # An exclusion that names no subject or no answer of the table excludes nothing.
    assert table.also.keys() <= table.answers.keys()
    for subject, others in table.also.items():
        assert set(others) <= column - {table.answers[subject]}


def test_an_ambiguous_answer_never_stands_beside_the_right_one():
    for seed in range(5):
        options = {q.stem: q.options for q in bank(["animals", "colours"], seed)}
        assert "howl" not in options["Which sound does a dog make?"]
        assert "purple" not in options["Which colour is a blueberry usually?"]


def _value(option):
    """The number that an option says, in digits or in Roman numerals."""
    if option.isdigit():
        return int(option)
    worth = dict(zip("IVXLCDM", (1, 5, 10, 50, 100, 500, 1000), strict=True))
    values = [worth[letter] for letter in option]
    after = [*values[1:], 0]
    return sum(-v if v < w else v for v, w in zip(values, after, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_exactly_one_option_is_right_where_it_can_be_computed(seed):
    operations = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "×": lambda a, b: a * b,
    }
    checked: Counter[str] = Counter()
    for q in bank(["arithmetic", "numbers", "calendar"], seed):
        if found := re.fullmatch(r"What is (\d+) (.) (\d+)\?", q.stem):
            expected = operations[found[2]](int(found[1]), int(found[3]))
        elif found := re.fullmatch(r"Which number comes right after (\d+)\?", q.stem):
            expected = int(found[1]) + 1
        elif found := re.fullmatch(r"How is (\d+) written in Roman numerals\?", q.stem):
            expected = int(found[1])
        elif found := re.fullmatch(r"Which (month|day) comes right (\w+) (\w+)\?", q.stem):
            names = list(
                calendar.month_name[1:] if found[1] == "month" else calendar.day_name
            )
            step = 1 if found[2] == "after" else -1
            expected = names[(names.index(found[3]) + step) % len(names)]
            assert [n for n, o in enumerate(q.options) if o == expected] == [q.answer]
            checked["calendar"] += 1
            continue
        else:
            continue
        right = [n for n, option in enumerate(q.options) if _value(option) == expected]
        assert right == [q.answer], q
        checked[q.topic] += 1
    assert checked == {"arithmetic": 86, "numbers": 30, "calendar": 38}


@pytest.mark.parametrize("seed", range(3))
def test_neither_length_nor_position_tells_the_answer_in_any_topic(seed):
    questions = bank(seed=seed)
    assert abs(longest_option_accuracy(questions) - 0.25) < 0.01
    for topic in topics():
        of = [q for q in questions if q.topic == topic]
        assert abs(longest_option_accuracy(of) - 0.25) < 0.05, topic
        # The shortest option, by the same measure: a length for a length turned round.
        top = max(len(o) for q in of for o in q.options)
        turned = [
            replace(q, options=tuple("x" * (1 + top - len(o)) for o in q.options))
            for q in of
        ]
        assert abs(longest_option_accuracy(turned) - 0.25) < 0.05, topic
        counts = np.bincount([q.answer for q in of], minlength=4)
        assert np.ptp(counts) <= 1


@pytest.mark.parametrize(
    ("options", "answer", "score"),
    [
        (("aaa", "b", "c", "d"), 0, 1.0),
        (("aaa", "b", "c", "d"), 1, 0.0),
        (("aaa", "bbb", "c", "d"), 1, 0.5),
        (("aa", "bb", "cc", "dd"), 3, 0.25),
    ],
)
def test_longest_option_accuracy_of_known_cases(options, answer, score):
    question = Question("?", options, answer, "t", "t/?")
    other = Question("?", ("a", "b", "c", "long"), 3, "t", "t/2")
    assert longest_option_accuracy([question]) == score
    assert longest_option_accuracy([question, other]) == (score + 1) / 2


def test_unbalanced_distractors_would_be_seen():
    """Picking distractors at random lets single topics go far off: the check has teeth."""
    rng = np.random.default_rng(0)
    table = Table("t", "{}?", {f"s{n}": "x" * n for n in range(1, 41)})
    drawn = []
    for subject, answer in list(table.answers.items())[20:]:
        wrong = rng.choice(sorted(set(table.distractors(subject))), 3, replace=False)
        drawn.append(Question(subject, (answer, *map(str, wrong)), 0, "t", subject))
    assert longest_option_accuracy(drawn) > 0.35


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(QUESTIONS))
def test_rotations_keep_the_item_and_move_the_answer_through_all_places(question):
    rotated = rotations(question)
    assert rotated[0] == question and len(rotated) == 4
    assert sorted(r.answer for r in rotated) == [0, 1, 2, 3]
    for r in rotated:
        assert r.options[r.answer] == question.options[question.answer]
        assert (r.key, r.stem, r.topic) == (question.key, question.stem, question.topic)
        start = r.options.index(question.options[0])
        assert r.options[start:] + r.options[:start] == question.options


def test_the_bank_is_a_function_of_the_seed_and_topics_are_independent():
    assert bank() == QUESTIONS
    other = bank(seed=1)
    assert [q.key for q in other] == [q.key for q in QUESTIONS] and other != QUESTIONS
    assert bank(["food", "body"]) == of_topic("food") + of_topic("body")


@pytest.mark.parametrize("wanted", [["capitols"], [], ["food", "\ud800" * 99]])
def test_unknown_topics_and_none_are_the_users_fault(wanted):
    with pytest.raises(UserError, match="known: capitals"):
        bank(wanted)
    with pytest.raises(UserError, match="no question"):
        longest_option_accuracy([])


def test_a_subject_entered_twice_is_noticed():
    with pytest.raises(ValueError, match="'a' occurs twice"):
        pairs("a: 1, b: 2, a: 3")
    with pytest.raises(ValueError, match="'the x' occurs twice"):
        members({"1": "x, y", "2": "x"}, "the ")
