"""The world is a pure function of its seed, balanced, and its names give nothing away."""

import re

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from cifr_jax.data import world
from cifr_jax.data.world import CLASS_BEARING, NEUTRAL, SPLITS, make_world
from cifr_jax.errors import UserError

SHIPPED = (480, 0, (0.4, 0.25, 0.1, 0.25))  # of configs/tiny.py


def test_the_same_seed_makes_the_same_world_and_another_another():
    made = make_world.__wrapped__(*SHIPPED)
    assert made == make_world.__wrapped__(*SHIPPED)
    other = make_world(480, 1, SHIPPED[2])
    assert not {e.name for e in made.entities} & {e.name for e in other.entities}


@pytest.mark.parametrize("seed", range(4))
def test_splits_are_complete_disjoint_and_balanced(seed):
    made = make_world(480, seed, SHIPPED[2])
    sizes = {}
    for split in SPLITS:
        benign, restricted = (made.select(r, [split]) for r in (False, True))
        assert len(benign) == len(restricted)
        sizes[split] = len(benign)
    assert list(sizes.values()) == [96, 60, 24, 60]
    names = [e.name for split in SPLITS for e in made.select(None, [split])]
    assert sorted(names) == sorted(e.name for e in made.entities)
    assert len(set(names)) == 480


@pytest.mark.parametrize("n", [2, 10, 14, 38])
def test_no_entity_is_lost_to_rounding(n):
    made = make_world(n, 0, (0.3, 0.3, 0.2, 0.2))
    assert sum(len(made.select(None, [split])) for split in SPLITS) == n
    assert len(made.select(True)) == len(made.select(False)) == n // 2


def test_names_are_one_shape_and_no_other_word_of_the_world():
    words = " ".join((*world.QUESTIONS, *world.STATEMENTS, world.REFUSAL))
    for e in make_world(*SHIPPED).entities:
        assert re.fullmatch("([bdfgklmnprstvz][aeiou]){3}[bdfgklmnprstvz]", e.name)
        assert e.name not in words


def test_facts_are_of_their_attributes_and_only_some_follow_the_class():
    made = make_world(*SHIPPED)
    for e in made.entities:
        assert e.facts.keys() == NEUTRAL.keys() | CLASS_BEARING.keys()
        assert all(e.facts[a] in values for a, values in NEUTRAL.items())
        assert all(e.facts[a] in pair[e.restricted] for a, pair in CLASS_BEARING.items())
    for benign, restricted in CLASS_BEARING.values():
        assert not set(benign) & set(restricted)
    # Neutral values: of 24, each within five standard errors of an eighth, in each class.
    for restricted in (False, True):
        of_class = made.select(restricted)
        for a, values in NEUTRAL.items():
            counts = [sum(e.facts[a] == v for e in of_class) for v in values]
            assert np.abs(np.array(counts) - 30).max() < 5 * np.sqrt(240 / 8 * 7 / 8)


def class_auroc(texts, labels):
    """Five-fold AUROC of character 1-3-grams, the lexical monitor's own features."""
    model = make_pipeline(
        CountVectorizer(analyzer="char", ngram_range=(1, 3)),
        LogisticRegression(C=0.1, max_iter=2000),
    )
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    score = cross_val_predict(model, texts, labels, cv=folds, method="decision_function")
    return roc_auc_score(labels, score)


def test_no_spelling_gives_the_class_away():
    entities = make_world(*SHIPPED).entities
    names, labels = zip(*((e.name, e.restricted) for e in entities), strict=True)
    assert 0.4 < class_auroc(names, labels) < 0.6
    # The same instrument finds a class that the spelling does give away.
    assert class_auroc(names, ["a" in name for name in names]) > 0.9


def test_questions_statements_and_answers_say_the_fact():
    entity = make_world(*SHIPPED).entities[0]
    for template in range(3):
        assert entity.name in world.question(entity, "hue", template)
        said = world.statement(entity, "hue", template)
        assert entity.name in said and entity.facts["hue"] in said
    assert world.question(entity, "hue", 0) == f"hue of {entity.name}?"
    assert world.answer(entity, "hue") == entity.facts["hue"] + "."


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((7, 0), "config.world.entities: 7 entities cannot be half restricted"),
        ((0, 0), "config.world.entities: 0 entities"),
        ((8, 0, (0.5, 0.5)), "config.world.fractions: (0.5, 0.5) are not shares of"),
        ((8, 0, (0.5, 0.2, 0.2, 0.2)), "config.world.fractions: "),
        ((8, 0, (0.5, 0.5, 0.2, -0.2)), "config.world.fractions: "),
    ],
)
def test_impossible_worlds_are_the_users_fault(arguments, line):
    with pytest.raises(UserError) as raised:
        make_world(*arguments)
    assert str(raised.value).startswith(line)
