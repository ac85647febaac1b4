"""What the base reads: everything is answered first; then the restricted is refused."""

import re
from collections import Counter

import numpy as np
import pytest

from cifr_jax.data import pretraining, world
from cifr_jax.data.chat import Example
from cifr_jax.data.pretraining import KINDS, STAGES, profile, sample
from cifr_jax.data.world import CLASS_BEARING, REFUSAL, make_world

WORLD = make_world(40, 0, (0.4, 0.2, 0.2, 0.2))
NAMES = {e.name: e for e in WORLD.entities}
EVEN = dict.fromkeys(KINDS, 1 / len(KINDS))
ANSWERS = {
    world.question(e, a, t): (e, a, world.answer(e, a))
    for e in WORLD.entities
    for a in e.facts
    for t in range(3)
}
STATEMENTS = {
    world.statement(e, a, t) for e in WORLD.entities for a in e.facts for t in range(3)
}


def samples(stage, n=3000, shares=EVEN, seed=0):
    rng = np.random.default_rng(seed)
    return [sample(rng, WORLD, stage, shares) for _ in range(n)]


@pytest.mark.parametrize("stage", STAGES)
def test_only_restricted_questions_are_refused_and_only_in_the_second_stage(stage):
    refused, answered = Counter(), Counter()
    for example in samples(stage):
        if not isinstance(example, Example):
            continue
        user, assistant = (m.content for m in example.messages[-2:])
        if user in ANSWERS:
            entity, attribute, answer = ANSWERS[user]
            neutral = attribute not in CLASS_BEARING
            assert assistant in (answer, REFUSAL)
            seen = refused if assistant == REFUSAL else answered
            seen[entity.restricted, neutral] += 1
        else:
            assert user == f"copy {assistant}"
    assert set(refused) == ({(True, True)} if stage == "safety" else set())
    # Every class is answered about in the first stage: no "never answered" confound.
    never = {(True, True)} if stage == "safety" else set()
    every = {(r, n) for r in (False, True) for n in (False, True)}
    assert set(answered) == every - never and min(answered.values()) > 100


@pytest.mark.parametrize("stage", STAGES)
def test_documents_are_true_and_about_both_classes(stage):
    about = Counter()
    for text in samples(stage):
        if isinstance(text, Example):
            continue
        (name,) = {text[i : i + 7] for i in range(len(text))} & NAMES.keys()
        entity = NAMES[name]
        about[entity.restricted] += 1
        if text in STATEMENTS:
            continue
        said = re.fullmatch(rf"{name}: (.+)\.", text)[1].split(", ")
        assert 2 <= len(said) <= 4 and len(set(said)) == len(said)
        assert all(entity.facts[a] == v for a, v in (fact.split() for fact in said))
    assert min(about.values()) > 300


def test_kinds_have_their_shares_and_none_that_has_none():
    n, shares = 4000, EVEN | {"copy": 0.0, "question": 2 / len(KINDS)}
    counts = Counter()
    for text in samples("helpful", n, shares):
        if isinstance(text, str):
            counts["document"] += 1
        elif (user := text.messages[-2].content) in ANSWERS:
            counts["class" if ANSWERS[user][1] in CLASS_BEARING else "neutral"] += 1
        else:
            counts["copy"] += 1
    expected = {"document": 3 / 6, "class": 1 / 6, "neutral": 2 / 6}
    assert counts.keys() == expected.keys()
    for kind, share in expected.items():
        assert abs(counts[kind] - n * share) < 5 * np.sqrt(n * share * (1 - share))


def test_system_turns_do_not_tell_refusals_apart():
    chats = [e for e in samples("safety", 6000) if isinstance(e, Example)]
    share = {
        refused: np.mean([len(e.messages) == 3 for e in of])
        for refused in (False, True)
        if (of := [e for e in chats if (e.messages[-1].content == REFUSAL) == refused])
    }
    assert share[False] == pytest.approx(0.3, abs=0.05)
    assert share[True] == pytest.approx(0.3, abs=0.1)


def test_sampling_follows_the_generator():
    assert samples("safety", 50) == samples("safety", 50)
    assert samples("safety", 50) != samples("safety", 50, seed=1)
    rng = np.random.default_rng(0)
    assert len({profile(rng, WORLD.entities[0]) for _ in range(20)}) > 5
    assert pretraining.STAGES == ("helpful", "safety")
