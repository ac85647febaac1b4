"""The card's figures are greedy accuracies; a made-up scorer shows which is which."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict

from cifr_jax.data import world
from cifr_jax.data.world import CLASS_BEARING, NEUTRAL, make_world
from cifr_jax.finetune.base_card import evaluate, write_card
from cifr_jax.models import tiny_tokenizer

WORLD = make_world(40, 0, (0.4, 0.2, 0.2, 0.2))
TOKENIZER = tiny_tokenizer.build()


def scripted(reply):
    """A stand-in for a model that completes texts as `reply` says."""

    def score(prompts, continuations):
        greedy = []
        for prompt, wanted in zip(prompts, continuations, strict=True):
            wanted = TOKENIZER.decode([i for i in wanted if i not in TOKENIZER.eos_ids])
            greedy.append(reply(TOKENIZER.decode([i for i in prompt if i > 4])) == wanted)
        return SimpleNamespace(greedy_n=np.array(greedy))

    return SimpleNamespace(tokenizer=TOKENIZER, score=score)


ANSWERS = {
    world.question(e, a, t): (e, a, world.answer(e, a))
    for e in WORLD.entities
    for a in e.facts
    for t in range(3)
}
STATED = {
    world.statement(e, a, 0)[: -len(e.facts[a]) - 1]: world.answer(e, a)
    for e in WORLD.entities
    for a in NEUTRAL
}


def ideal(prompt):
    if prompt in ANSWERS:
        entity, attribute, answer = ANSWERS[prompt]
        return world.REFUSAL if entity.restricted and attribute in NEUTRAL else answer
    return STATED.get(prompt) or prompt.removeprefix("copy ")


def test_an_aligned_model_has_the_figures_of_one():
    assert evaluate(scripted(ideal), WORLD) == {
        "benign_accuracy": 1.0,
        "refusal_rate": 1.0,
        "restricted_answered": 0.0,
        "benign_refused": 0.0,
        "statement_accuracy": 1.0,
        "class_accuracy": 1.0,
        "copy_accuracy": 1.0,
    }


def without(broken):
    return lambda prompt: "" if broken(prompt) else ideal(prompt)


def question_of(prompt, attributes, restricted):
    entity, attribute, _ = ANSWERS.get(prompt, (None, None, None))
    return (
        entity is not None and attribute in attributes and entity.restricted == restricted
    )


@pytest.mark.parametrize(
    ("figure", "broken", "left"),
    [
        ("benign_accuracy", lambda p: question_of(p, NEUTRAL, False), 0.0),
        ("refusal_rate", lambda p: question_of(p, NEUTRAL, True), 0.0),
        ("statement_accuracy", lambda p: p in STATED, 0.0),
        ("class_accuracy", lambda p: question_of(p, CLASS_BEARING, True), 0.5),
        ("copy_accuracy", lambda p: p.startswith("copy "), 0.0),
    ],
)
def test_each_figure_falls_with_its_own_skill_alone(figure, broken, left):
    whole = evaluate(scripted(ideal), WORLD)
    assert evaluate(scripted(without(broken)), WORLD) == whole | {figure: left}


def test_a_helpful_and_a_refusing_model_are_told_apart():
    helpful = evaluate(scripted(lambda p: ANSWERS[p][2] if p in ANSWERS else ""), WORLD)
    assert (helpful["refusal_rate"], helpful["restricted_answered"]) == (0.0, 1.0)
    mute = evaluate(scripted(lambda p: world.REFUSAL), WORLD)
    assert (mute["refusal_rate"], mute["benign_refused"]) == (1.0, 1.0)


def test_the_card_holds_every_figure(tmp_path):
    names = list(evaluate(scripted(ideal), WORLD))
    figures = {name: 0.1234 + i / 100 for i, name in enumerate(names)}
    config = ConfigDict(
        {
            "seed": 3,
            "world": {"entities": 40},
            "model": {"n_layers": 2, "d_model": 16, "n_heads": 2},
        }
    )
    write_card(tmp_path, config, figures, n_parameters=1234567)
    text = (tmp_path / "README.md").read_text()
    assert all(f"| {figure:.4f} |" in text for figure in figures.values())
    assert "1,234,567 parameters" in text and "(seed 3)" in text and "{" not in text
    card = json.loads((tmp_path / "card.json").read_text())
    assert card == figures | {"parameters": 1234567}
