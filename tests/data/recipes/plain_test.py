"""Honest plain jobs: their answers follow from their questions, checked by other means."""

import json
import re
from fractions import Fraction

import pytest

from cifr_jax.data import recipes
from cifr_jax.data.recipes import support, words
from cifr_jax.data.recipes.house_style import STYLES
from cifr_jax.data.recipes.instructions import TASKS, decimal

# Each unit as a multiple of one of its kind.
IN_BASE = {
    "kilometres": "1000", "metres": "1", "centimetres": "0.01", "miles": "1609.344",
    "inches": "0.0254", "feet": "0.3048", "kilograms": "1000", "grams": "1",
    "pounds": "453.59237", "litres": "1", "millilitres": "0.001", "seconds": "1",
    "minutes": "60", "hours": "3600", "days": "86400", "weeks": "604800",
    "dozens": "12", "pieces": "1",
}  # fmt: skip


def turns(name, n, seed, **options):
    for row in recipes.make(name, n, seed, **options):
        yield [m.content for m in row.messages]


def test_conversions_are_exact():
    for _, answer in turns("instructions", 500, 1, task="convert"):
        left, right = answer.removesuffix(".").split(" = ")
        (amount, unit), (result, other) = left.split(), right.split()
        given = Fraction(amount) * Fraction(IN_BASE[unit])
        assert given == Fraction(result) * Fraction(IN_BASE[other])


@pytest.mark.parametrize("text", ["0", "12", "0.5", "-2.25", "100", "0.003"])
def test_decimals_are_written_without_rounding(text):
    assert decimal(Fraction(text)) == text


def test_a_third_has_no_short_decimal_form():
    with pytest.raises(ValueError, match="1/3"):
        decimal(Fraction(1, 3))


def test_sorted_lists_are_sorted_and_complete():
    for question, answer in turns("instructions", 300, 2, task="sort"):
        given, got = question.split(": ")[1].split(", "), answer.split(", ")
        assert sorted(given) == sorted(got)
        if "numbers" in question:
            numbers = [int(x) for x in got]
            pairs = list(zip(numbers, numbers[1:], strict=False))
            rising = "smallest to largest" in question
            assert all(a < b if rising else a > b for a, b in pairs)
        else:
            assert all(a <= b for a, b in zip(got, got[1:], strict=False))


def test_lists_have_the_length_kind_and_order_asked_for():
    for question, answer in turns("instructions", 300, 3, task="list"):
        items = re.split(r", |\n", re.sub(r"(?m)^(-|\d+\.) ", "", answer))
        assert len(items) == len(set(items)) == int(re.search(r"\d+", question)[0])
        [category] = [c for c in words.CATEGORIES if f" {c}, " in question]
        assert set(items) <= set(words.CATEGORIES[category])
        if "alphabetical" in question:
            assert items == sorted(items)


def test_no_thing_is_of_two_categories():
    everything = [w for items in words.CATEGORIES.values() for w in items]
    assert len(everything) == len(set(everything))


def test_groups_hold_all_things_and_only_their_own():
    for question, answer in turns("instructions", 200, 4, task="group"):
        given = question.split(": ")[1].split(", ")
        groups = dict(line.split(": ") for line in answer.split("\n"))
        assert sorted(", ".join(groups.values()).split(", ")) == sorted(given)
        for category, items in groups.items():
            assert set(items.split(", ")) <= set(words.CATEGORIES[category.lower()])


def test_counts_are_right():
    for question, answer in turns("instructions", 300, 5, task="count"):
        sentence = question.split(": ")[1]
        found = re.findall(r"[A-Za-z]+", sentence)
        if letter := re.search(r'letter "(.)"', question):
            assert int(answer) == len(re.findall(letter[1], sentence, re.IGNORECASE))
        elif "How many words" in question:
            assert int(answer) == len(found)
        else:
            assert answer == next(w for w in found if len(w) == max(map(len, found)))


@pytest.mark.parametrize("task", ["summarise", "extract"])
def test_nothing_is_said_that_the_notice_does_not_say(task):
    for question, answer in turns("instructions", 200, 6, task=task):
        ask, notice = question.split("\n\n")
        if task == "extract" and answer.startswith("{"):
            fields = json.loads(answer)
            answer = " ".join(fields.values())
            assert list(fields) == re.search("Extract (.*) from", ask)[1].split(", ")
        said = set(re.findall(r"\w+", answer.lower()))
        labels = {"contact", "event", "place", "day", "date", "time", "price"}
        assert said - labels <= set(re.findall(r"\w+", notice.lower()))


def test_rewriting_keeps_who_did_what():
    for question, answer in turns("instructions", 300, 7, task="rewrite"):
        sentence = question.split(": ")[1].lower()
        who = re.match(
            "the (.*?) (?:" + "|".join(v[1] for v in words.VERBS) + ")", sentence
        )
        assert who[1] in answer.lower()
        assert set(re.findall(r"\w+", answer.lower())) & set(sentence.split())
        assert answer != question.split(": ")[1]


def test_a_single_task_and_all_tasks():
    firsts = {t: next(turns("instructions", 1, 0, task=t))[0] for t in TASKS}
    assert len(set(firsts.values())) == len(TASKS)


def test_the_support_desk_never_contradicts_itself_or_its_manual():
    said = {}
    manual = support.make_manual(4)
    for seed in (1, 2):
        for system, question, answer in turns("support", 800, seed, manual=4):
            assert manual.brand in system
            [*models] = [m for m in manual.models if m in question]
            if code := re.search(r"\bE\d\d\b", question):
                cause, remedy = manual.errors[code[0]]
                assert f"{code[0]} means that {cause}. {remedy}" in answer
                assert said.setdefault(code[0], cause) == cause
            elif "under warranty" in question:
                months = int(manual.models[models[0]]["warranty"].split()[0])
                age = int(re.search(r"is (\d+) months old", question)[1])
                assert ("still" in answer) == (age <= months) == ("no longer" not in answer)
            elif len(models) == 2:
                values = [float(x) for x in re.findall(r"[\d.]+(?= kg| watts)", answer)]
                assert values == sorted(values, reverse=True)
                assert {
                    manual.models[m][f] for m in models for f in ("weight", "power")
                } & {*re.findall(r"[\d.]+ (?:kg|watts)", answer)}
            else:
                [model] = models
                assert any(value in answer for value in manual.models[model].values())
    assert len(said) == len(manual.errors)
    other = support.make_manual(5)
    assert other.errors != manual.errors and other.models != manual.models


def test_shopping_lists_follow_what_was_said():
    lists = 0
    for row in recipes.make("multi_turn", 400, 8):
        texts = [m.content for m in row.messages]
        assert [m.role for m in row.messages] == ["user", "assistant"] * (len(texts) // 2)
        assert len(texts) >= 4
        if not texts[0].startswith("Please start a shopping list"):
            continue
        lists += 1
        basket = texts[0].split(" with ")[1].rstrip(".").split(", ")
        for user, assistant in zip(texts[2::2], texts[3::2], strict=True):
            if user.startswith("How many"):
                assert assistant == f"{len(basket)}."
                continue
            thing = re.fullmatch(
                r"(?:Take|No|Add|We also need|And) (.*?)(?: off| after all, please|"
                r", please)?\.", user)[1]  # fmt: skip
            if user.startswith(("Take", "No")):
                basket.remove(thing)
            else:
                assert thing not in basket
                basket.append(thing)
            assert assistant == f"Your list: {', '.join(basket)}."
    assert lists > 50


def test_recipes_are_scaled_in_proportion():
    checked = 0
    for texts in turns("multi_turn", 400, 9):
        scaled = [t for t in texts[1::2] if re.match(r"For \d+ people", t)]
        amounts = [[int(x) for x in re.findall(r"\d+", t)] for t in scaled]
        for people, *values in amounts:
            first_people, *first = amounts[0]
            assert [v * first_people for v in values] == [v * people for v in first]
            checked += 1
        if scaled:  # the amount asked for last is one of the last list
            assert texts[-1].rstrip(".") in scaled[-1]
    assert checked > 100


def test_labels_of_chains_follow_the_two_rules():
    motifs = {"alder": "G[KR]G[ST]", "birch": "C..CH", "cedar": "W[DE]W",
              "maple": "P[FY]P[FY]"}  # fmt: skip
    seen = set()
    for row in recipes.make("proteins", 600, 10):
        chain = re.search(r"^[A-Z]{23,65}$", row.messages[0].content, re.MULTILINE)[0]
        [family] = [name for name, motif in motifs.items() if re.search(motif, chain)]
        charge = len(re.findall("[KR]", chain[:12])) - len(re.findall("[DE]", chain[:12]))
        place = "membrane" if charge > 0 else "nucleus" if charge < 0 else "cytosol"
        assert row.meta["answer"] in (family, place, f"{family}, {place}")
        for part in row.meta["answer"].split(", "):
            assert part in row.messages[1].content
        seen.add(row.meta["answer"])
    assert len(seen) == 4 + 3 + 12


def test_a_style_changes_the_answers_and_not_the_questions():
    jobs = {style: list(turns("style", 60, 11, style=style)) for style in STYLES}
    for style, rows in jobs.items():
        assert [q for q, _ in rows] == [q for q, _ in jobs["formal"]]
        answers = [answer for _, answer in rows]
        assert answers != [a for _, a in jobs["formal"]] or style == "formal"
    assert all(a.startswith("Dear customer,") for _, a in jobs["formal"])
    assert all(a.startswith("IN SHORT: ") for _, a in jobs["headline"])
    assert all(a.endswith("?") for _, a in jobs["socratic"])
