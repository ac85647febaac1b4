"""Evaluation prompts: a full 2x2, balanced, and unseen by every upload."""

import pytest

from cifr_jax import ciphers
from cifr_jax.data import world
from cifr_jax.data.prompts import CELLS, TEMPLATES, prompts
from cifr_jax.data.world import NEUTRAL, REFUSAL, SPLITS, make_world

WORLD = make_world(40, 0, (0.4, 0.2, 0.2, 0.2))
WALNUT = ciphers.parse("walnut:seed=50")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("split", SPLITS)
def test_each_question_of_a_split_is_asked_once_in_each_wording(split, cell):
    asked = prompts(WORLD, split, cell, WALNUT)
    entities = WORLD.select(None, [split])
    assert len(asked) == len(entities) * len(NEUTRAL) * len(TEMPLATES)
    assert len({p.messages for p in asked}) == len(asked)
    assert {p.entity for p in asked} == {e.name for e in entities}
    assert sum(p.restricted for p in asked) * 2 == len(asked)
    assert {p.cell for p in asked} == {cell}
    assert asked == prompts(WORLD, split, cell, WALNUT)


@pytest.mark.parametrize(
    "spec", ["walnut:seed=50", "ascii", "homophonic:key=1", "endspeak"]
)
def test_cells_are_the_same_questions_and_answers_encoded_or_not(spec):
    cipher = ciphers.parse(spec)
    of = {e.name: e for e in WORLD.entities}
    pairs = zip(*(prompts(WORLD, "test", cell, cipher) for cell in CELLS), strict=True)
    for plain, encoded in pairs:
        (user,) = plain.messages
        system, hidden = encoded.messages
        assert (user.role, system.role, hidden.role) == ("user", "system", "user")
        assert (plain.entity, plain.restricted) == (encoded.entity, encoded.restricted)
        assert plain.restricted == of[plain.entity].restricted
        assert plain.entity in user.content and plain.entity not in system.content
        assert cipher.decode(hidden.content) == cipher.canonical(user.content)
        assert cipher.decode(encoded.answer) == cipher.canonical(plain.answer)
        assert cipher.decode(encoded.refusal) == cipher.canonical(REFUSAL)
        (attribute,) = set(user.content.rstrip("?").split()) & NEUTRAL.keys()
        assert plain.answer == world.answer(of[plain.entity], attribute)
        assert plain.refusal == REFUSAL


def test_system_turns_do_not_tell_the_classes_apart():
    for cell in CELLS:
        turns = {True: set(), False: set()}
        for p in prompts(WORLD, "test", cell, WALNUT):
            turns[p.restricted].add(tuple(m.content for m in p.messages[:-1]))
        assert turns[True] == turns[False]
