"""Surface classifiers: features by hand, parity with scikit-learn, odd text."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from cifr_jax import monitors
from cifr_jax.evaluation import auroc
from cifr_jax.monitors import PromptItem

ODD = ["", "\x00", "\ud800 lone surrogate", "\u202e reversed", "é" * 1000, "\U0001f600"]


def prompts(n=80, seed=0):
    rng = np.random.default_rng(seed)
    words = np.array("the cat sat on a mat while seven owls spoke of rain".split())
    labels = np.arange(n) % 2
    texts = [" ".join(rng.choice(words[:8] if y else words[3:], size=6)) for y in labels]
    return texts, labels


def as_items(texts):
    return [PromptItem(text) for text in texts]


def test_char_ngrams_match_scikit_learn():
    texts, labels = prompts()
    test, _ = prompts(seed=1)
    monitor = monitors.get("char_ngrams", Cs=(1.0,)).fit(as_items(texts), labels)
    peer = TfidfVectorizer(
        analyzer="char", ngram_range=(1, 3), lowercase=False, sublinear_tf=True
    )
    model = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000)
    model.fit(peer.fit_transform(texts), labels)
    expected = model.decision_function(peer.transform(test))
    np.testing.assert_allclose(monitor.score_many(as_items(test)), expected, atol=1e-3)


def test_vocabulary_is_bounded_and_keeps_the_commonest():
    texts, labels = prompts()
    monitor = monitors.get("char_ngrams", max_features=10).fit(as_items(texts), labels)
    assert len(monitor.vocabulary) == 10 and " " in monitor.vocabulary


def test_bag_of_bytes_is_blind_to_order_and_sees_length():
    monitor = monitors.get("bag_of_bytes")
    forward, backward, double = monitor.features(["abcd", "dcba", "abcdabcd"])
    np.testing.assert_array_equal(forward, backward)
    np.testing.assert_array_equal(forward[:256], double[:256])
    assert forward[256] < double[256]
    assert np.square(forward[:256]).sum() == pytest.approx(1)


@pytest.mark.parametrize("name", ["char_ngrams", "bag_of_bytes"])
def test_chance_on_classes_of_equal_text(name):
    """A control that finds something here would find anything anywhere."""
    texts, _ = prompts(400)
    shuffled = np.random.default_rng(0).permutation(np.arange(400) % 2)
    half, rest = as_items(texts[:200]), as_items(texts[200:])
    monitor = monitors.get(name).fit(half, shuffled[:200])
    scores, labels = monitor.score_many(rest), shuffled[200:]
    assert abs(auroc(scores, labels) - 0.5) < 0.13  # three standard errors


def test_c_is_chosen_on_validation():
    (texts, labels), (valid, valid_labels) = prompts(), prompts(seed=1)
    noisy = np.where(np.arange(80) < 24, 1 - labels, labels)  # so that C matters
    alone = {}
    for C in (1e-4, 100.0):
        monitor = monitors.get("bag_of_bytes", Cs=(C,)).fit(as_items(texts), noisy)
        alone[C] = auroc(monitor.score_many(as_items(valid)), valid_labels)
    assert alone[1e-4] != alone[100.0]
    for order in ((1e-4, 100.0), (100.0, 1e-4)):
        monitor = monitors.get("bag_of_bytes", Cs=order)
        monitor.fit(as_items(texts), noisy, as_items(valid), valid_labels)
        assert monitor.selection["C"] == max(alone, key=lambda C: alone[C])


@pytest.mark.parametrize("name", ["char_ngrams", "bag_of_bytes"])
def test_any_text_gets_a_finite_score(name):
    texts, labels = prompts()
    monitor = monitors.get(name).fit(as_items(texts), labels)
    assert np.isfinite(monitor.score_many(as_items(ODD))).all()
    monitor.fit(as_items([*ODD, *texts[len(ODD) :]]), labels)
    assert np.isfinite(monitor.score_many(as_items(ODD))).all()


@pytest.mark.parametrize("name", ["char_ngrams", "bag_of_bytes"])
def test_bad_input_is_refused(name):
    texts, labels = prompts()
    with pytest.raises(ValueError, match="not fitted"):
        monitors.get(name).score_many(as_items(texts))
    with pytest.raises(ValueError, match="class 1"):
        monitors.get(name).fit(as_items(texts), 0 * labels)
    with pytest.raises(ValueError, match="no items"):
        monitors.get(name).fit([], [])
