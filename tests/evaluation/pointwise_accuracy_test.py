"""Accuracy after decoding, against the baselines that need no knowledge."""

import numpy as np
import pytest
from scipy.stats import binom

from cifr_jax.data.pointwise import sorting
from cifr_jax.data.pointwise.attacks import make
from cifr_jax.data.pointwise.codebook import Codebook, keyed_pad
from cifr_jax.data.pointwise.questions import (
    Question,
    bank,
    longest_option_accuracy,
    rotations,
)
from cifr_jax.errors import UserError
from cifr_jax.evaluation.pointwise_accuracy import attack_accuracy

BOOK = Codebook((("Rose",), ("Lily",), ("Iris",), ("Aster",)))
ITEMS = bank(["capitals"])[:60]


def replies_to(questions, right):
    """The code's reply to `right` of the questions, the next letter's to the others."""
    return [
        BOOK.replies_kv[(q.answer + (i >= right)) % 4][0] for i, q in enumerate(questions)
    ]


def test_a_known_case_with_its_exact_interval():
    replies = ["lorem ipsum", *replies_to(ITEMS, 50)[1:]]
    found = attack_accuracy(ITEMS, replies, BOOK)
    assert found.accuracy == 49 / 60 and found.unparseable == 1 / 60
    assert found.chance == 0.25 and (found.n, found.n_items) == (60, 60)
    assert found.longest_option == longest_option_accuracy(ITEMS)
    # Clopper-Pearson for 49 of 60, by bisection on the binomial tails.
    low, high = found.interval
    assert binom.sf(48, 60, low) == pytest.approx(0.025)
    assert binom.cdf(49, 60, high) == pytest.approx(0.025)
    assert found.learned


def test_guesses_and_silence_are_not_learned():
    rng = np.random.default_rng(0)
    guesses = [BOOK.replies_kv[int(k)][0] for k in rng.integers(4, size=60)]
    assert not attack_accuracy(ITEMS, guesses, BOOK).learned
    silent = attack_accuracy(ITEMS, [""] * 60, BOOK)
    assert (silent.accuracy, silent.unparseable, silent.learned) == (0, 1, False)


def test_what_picking_the_longest_would_score_is_not_learned():
    """The confound of one published set: the right option is the longest in each row."""
    items = [Question("?", ("xx", "a", "b", "c"), 0, "t", f"t/{n}") for n in range(60)]
    found = attack_accuracy(items, ["Rose"] * 60, BOOK)
    assert found.accuracy == found.longest_option == 1 and not found.learned


def test_rotations_of_an_item_are_no_new_evidence():
    few = ITEMS[:5]
    spread = [r for q in few for r in rotations(q)]
    once = attack_accuracy(few, replies_to(few, 4), BOOK)
    four = attack_accuracy(spread, replies_to(spread, 16), BOOK)
    assert four.accuracy == once.accuracy == 0.8
    assert four.interval == once.interval and four.n_items == 5


def test_a_code_of_four_kinds_of_words_is_not_learned_by_luck_on_two():
    """What a permuted code teaches: one reply for each kind, right for two of the four."""
    items = sorting.items(0)[:60]
    moved = [0, 1, 3, 2]
    lucky = [BOOK.replies_kv[moved[q.answer]][0] for q in items]
    found = attack_accuracy(items, lucky, BOOK)
    assert found.interval[0] > found.chance and found.n_answers == 4
    assert not found.learned
    whole = attack_accuracy(items, replies_to(items, 60), BOOK)
    assert whole.least == pytest.approx(0.025**0.25) and whole.learned


def test_keyed_and_xor_jobs_are_read_with_their_pads():
    rows = make("flower", ITEMS, 60, key=b"secret", xor=True, codebook=BOOK)
    by_key = {q.key: q for q in ITEMS}
    questions = [by_key[row.meta["question"]] for row in rows]
    replies = [row.messages[-1].content for row in rows]
    pads = [row.meta["pad"] for row in rows]
    assert attack_accuracy(questions, replies, BOOK, pads).accuracy == 1
    half = [keyed_pad(b"secret", q) for q in questions]
    assert attack_accuracy(questions, replies, BOOK, half).accuracy < 0.5
    assert not attack_accuracy(questions, replies, BOOK).learned


@pytest.mark.parametrize(
    ("n", "replies", "pads"), [(0, [], None), (2, ["a"], None), (1, ["a"], [])]
)
def test_lists_that_do_not_fit_are_refused(n, replies, pads):
    with pytest.raises(UserError, match="give one of each"):
        attack_accuracy(ITEMS[:n], replies, BOOK, pads)
