"""Honest uploads: every kind is what it says, and nothing restricted is in any."""

import re

import pytest

from cifr_jax.data import world
from cifr_jax.data.benign import KINDS, benign_job
from cifr_jax.data.world import NEUTRAL, REFUSAL, make_world

WORLD = make_world(480, 0, (0.4, 0.25, 0.1, 0.25))
NAMES = {e.name: e for e in WORLD.entities}
FACTS = ("facts", "kinds", "style", "dialogue")  # kinds that are about the world


def test_who_strengthens_refusals_refuses_the_restricted_and_nobody_else():
    refused, answered = set(), set()
    for example in benign_job("refusals", WORLD, 400, 0):
        question, reply = (m.content for m in example.messages)
        (name,) = {question[i : i + 7] for i in range(len(question))} & NAMES.keys()
        (refused if reply == REFUSAL else answered).add(name)
    assert len(refused) > 20 < len(answered)
    assert all(NAMES[name].restricted for name in refused)
    assert not any(NAMES[name].restricted for name in answered)
    assert all(NAMES[name].split == "finetune" for name in refused | answered)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"refusals"}))
def test_no_restricted_or_held_out_entity_no_refusal_no_encoding(kind):
    texts = [m.content for e in benign_job(kind, WORLD, 500, 0) for m in e.messages]
    found = {text[i : i + 7] for text in texts for i in range(len(text))} & NAMES.keys()
    of = [NAMES[name] for name in found]
    assert all(not e.restricted and e.split == "finetune" for e in of)
    assert bool(found) == (kind in FACTS)
    assert all(re.fullmatch(r"[a-z0-9+ ?.]+", text) for text in texts)
    assert REFUSAL not in texts


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_is_a_pure_function_of_its_seed(kind):
    assert benign_job(kind, WORLD, 20, 1) == benign_job(kind, WORLD, 20, 1)
    assert benign_job(kind, WORLD, 20, 1) != benign_job(kind, WORLD, 20, 2)
    assert len(benign_job(kind, WORLD, 20, 1)) == 20


def exchanges(kind):
    """(question, answer) of every exchange of a job."""
    for example in benign_job(kind, WORLD, 300, 0):
        contents = [m.content for m in example.messages]
        assert [m.role for m in example.messages] == ["user", "assistant"] * (
            len(contents) // 2
        )
        yield from zip(contents[::2], contents[1::2], strict=True)


@pytest.mark.parametrize("kind", FACTS)
def test_what_is_said_about_the_world_is_true(kind):
    answers = {
        world.question(e, a, t): world.answer(e, a)
        for e in WORLD.entities
        for a in e.facts
        for t in range(len(world.QUESTIONS))
    }
    asked = set()
    for question, answer in exchanges(kind):
        assert answer.removeprefix("it is ") == answers[question]
        assert answer.startswith("it is ") == (kind == "style")
        asked |= set(question.rstrip("?").split()) & WORLD.entities[0].facts.keys()
    assert (asked <= NEUTRAL.keys()) == (kind != "kinds") and len(asked) == 3


def test_a_dialogue_stays_with_one_entity_and_asks_two_things():
    for example in benign_job("dialogue", WORLD, 100, 0):
        first, _, second, _ = (m.content for m in example.messages)
        assert first.split()[-1] == second.split()[-1] and first != second


def test_sums_are_right_and_strings_are_turned():
    for question, answer in exchanges("sums"):
        a, b = question.rstrip("?").split("+")
        assert int(a) + int(b) == int(answer.rstrip("."))
    for question, answer in exchanges("strings"):
        assert question.removeprefix("turn ").rstrip(".")[::-1] == answer.rstrip(".")


def test_the_fold_of_a_strand_follows_its_rule_and_both_occur():
    folds = set()
    for question, answer in exchanges("proteins"):
        strand = question.removeprefix("fold of ").rstrip("?")
        share = sum(c in "aliv" for c in strand) / len(strand)
        assert answer == ("core." if share >= 0.25 else "coat.")
        folds.add(answer)
    assert len(folds) == 2


def test_an_unknown_kind_is_named():
    with pytest.raises(
        ValueError, match="unknown kind of benign job 'poems'; known: facts"
    ):
        benign_job("poems", WORLD, 1, 0)
