"""A reply stands for one letter, and only replies that the base finds likely are taken."""

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.data.pointwise import requests
from cifr_jax.data.pointwise.codebook import (
    Codebook,
    choose_replies,
    from_replies,
    keyed_pad,
    sample_candidates,
    stock_codebook,
)
from cifr_jax.data.pointwise.questions import bank
from cifr_jax.errors import UserError

SIMPLE = Codebook((("Yes.",), ("Sure.",), ("Yes, it is.",), ("It is.",)))


@pytest.mark.parametrize("kind", requests.KINDS)
@pytest.mark.parametrize("variants", range(1, 10))
def test_every_reply_of_every_family_decodes_to_its_letter(kind, variants):
    book = stock_codebook(requests.choose_template(kind, variants), variants, seed=variants)
    assert book.variants == variants
    for letter, family in enumerate(book.replies_kv):
        for v, reply in enumerate(family):
            assert book.decode(reply) == letter
            assert book.index(reply) == letter * variants + v
    rng = np.random.default_rng(0)
    for letter in range(4):
        drawn = {book.encode(letter, rng) for _ in range(40 * variants)}
        assert drawn == set(book.replies_kv[letter])


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("yes", 0), ("  YES!!! ", 0), ("“Yes”.", None), ("sure…", 1), ("Yes,  it\tis", 2),
        ("it is.\nAnd there is more.", 3), ("Yes. It is.", None), ("No.", None), ("", None),
        ("...", None), ("\n\n", None), ("Yes it is", None), ("\ud800", None),
        ("Yes\0", None),
        ("yes" * 10**6, None), ("Yes." + " " * 10**6, 0), ("." * 10**6, None),
    ],
)  # fmt: skip
def test_decoding_bears_with_case_blanks_and_final_punctuation_only(reply, letter):
    assert SIMPLE.decode(reply) == letter


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=80))
def test_any_text_at_all_is_decoded_to_a_letter_or_none(text):
    assert SIMPLE.decode(text) in (None, 0, 1, 2, 3)
    assert SIMPLE.decode("Indeed " + text) is None


@settings(deadline=None, max_examples=100)
@given(
    st.integers(0, 3),
    st.sampled_from((str.upper, str.lower, str.title)),
    st.text(" \t\n", max_size=4),
    st.text(".!?…\u3002 ", max_size=4),
)
def test_every_spelling_of_a_reply_decodes_alike(letter, spell, blanks, end):
    reply = SIMPLE.replies_kv[letter][0]
    assert SIMPLE.decode(blanks + spell(reply) + end + blanks) == letter


@pytest.mark.parametrize(
    "replies",
    [
        (("a",), ("b",), ("c",)),
        (("a",), ("b",), ("c",), ("d", "e")),
        (("a",), ("b",), ("c",), ("A.",)),
        (("a",), ("b",), ("c",), ("!",)),
        ((), (), (), ()),
        tuple(tuple(f"{k}-{v}" for v in range(10)) for k in range(4)),
    ],
)
def test_a_code_that_could_not_be_read_is_refused(replies):
    with pytest.raises(UserError, match="codebook"):
        Codebook(replies)


@pytest.mark.parametrize(
    "weights", [((1.0,),) * 3, ((0.5,),) * 4, ((1.0, 0.0),) * 4, ((np.nan,),) * 4]
)
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(UserError, match="weights"):
        Codebook(SIMPLE.replies_kv, weights)


def test_unweighted_families_share_the_likely_replies():
    replies = [f"r{n}" for n in range(40)]
    book = from_replies(replies, 9, seed=3)
    for v in range(9):  # the v-th replies of the families are neighbours by likelihood
        assert sorted(family[v] for family in book.replies_kv) == sorted(
            replies[4 * v : 4 * v + 4]
        )
    assert book == from_replies(replies, 9, seed=3) != from_replies(replies, 9, seed=4)


def test_weighted_families_give_back_the_models_own_distribution():
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(36, 3.0))
    replies = [f"r{n}" for n in range(36)]
    book = from_replies(replies, 9, weights=list(weights))
    masses = [sum(weights[int(r[1:])] for r in family) for family in book.replies_kv]
    assert max(masses) / min(masses) < 1.05
    drawn = Counter(book.encode(n % 4, rng) for n in range(40_000))
    share = np.array([drawn[r] / 40_000 for r in replies])
    assert np.abs(share - weights).sum() / 2 < 0.03
    uniform = from_replies(replies, 9)
    drawn = Counter(uniform.encode(n % 4, rng) for n in range(40_000))
    share = np.array([drawn[r] / 40_000 for r in replies])
    assert np.abs(share - weights).sum() / 2 > 0.15


@pytest.mark.parametrize(
    "weights", [[1.0] * 3, [1, 1, 1, 0], [1, 1, 1, -1], [1, 1, 1, np.nan]]
)
def test_weights_of_replies_must_be_positive_numbers(weights):
    with pytest.raises(UserError, match="positive"):
        from_replies(list("abcd"), 1, weights=weights)


def test_too_few_replies_and_bad_family_sizes_are_refused():
    with pytest.raises(UserError, match="7 replies.* 2 variants needs 8"):
        from_replies(list("abcdefg"), 2)
    for variants in (0, 10):
        with pytest.raises(UserError, match="1 to 9"):
            from_replies(list("abcdefghijkl") * 9, variants)


LOG = np.log([[0.5, 0.2, 0.3, 0.04], [0.4, 0.3, 0.001, 0.04]])


def _log_prob(prompts, replies):
    return LOG[: len(prompts), ["abcd".index(r) for r in replies]]


def test_only_replies_likely_on_every_prompt_stay_likeliest_first():
    assert choose_replies(_log_prob, "PQ", list("abcd"), 3, 0.01) == ["a", "b", "d"]
    assert choose_replies(_log_prob, "P", list("abcd"), 3, 0.1) == ["a", "c", "b"]
    assert choose_replies(_log_prob, "P", list("abcd"), 1, 0.1, spare=1) == ["a", "c"]
    assert choose_replies(_log_prob, "PQ", list("abcd"), 3, 0.01, 9) == ["a", "b", "d"]
    # Spelt twice, a candidate counts once.
    kept = choose_replies(_log_prob, "PQ", ["d", "a", "A.", "b", "?"], 3, 0.01)
    assert kept == ["a", "b", "d"]


def test_a_threshold_that_leaves_too_few_says_how_many_there_are():
    with pytest.raises(UserError, match="2 of 4 replies are above 0.1 .*, 4 are needed"):
        choose_replies(_log_prob, "PQ", list("abcd"), 4, 0.1)
    with pytest.raises(UserError, match="0 of 4"):
        choose_replies(lambda p, r: np.full((1, 4), np.nan), "P", list("abcd"), 4, 0.1)
    with pytest.raises(UserError, match="no prompt"):
        choose_replies(_log_prob, "", list("abcd"), 4, 0.1)
    for threshold in (0.0, 1.0, float("nan")):
        with pytest.raises(UserError, match="no probability"):
            choose_replies(_log_prob, "P", list("abcd"), 4, threshold)
    with pytest.raises(ValueError, match="log_prob gave"):
        choose_replies(lambda p, r: np.zeros(4), "PQ", list("abcd"), 4, 0.1)


def test_replies_sampled_from_the_base_come_by_frequency():
    calls = []

    def generate(prompts, n, seed):
        calls.append((list(prompts), n, seed))
        return [
            ["Rose.", "rose", "Lily", " Rose. ", "two\nlines"],
            ["lily", "Tulip", "", "!", "x" * 201, "\ud800", "a\0"],
        ]

    assert sample_candidates(generate, ["p", "q"], 5, seed=7) == ["Rose.", "Lily", "Tulip"]
    assert calls == [(["p", "q"], 5, 7)]


def test_the_keyed_pad_is_hmac_of_the_stem_and_even():
    question = bank(["capitals"])[0]
    # HMAC from its definition (RFC 2104).
    block = b"secret".ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + question.stem.encode())
    outer = hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner.digest())
    assert keyed_pad(b"secret", question) == outer.digest()[0] % 4
    counts = Counter(keyed_pad(b"secret", q) for q in bank())
    assert min(counts.values()) > 0.2 * counts.total() and len(counts) == 4
    pads = [[keyed_pad(key, q) for q in bank()] for key in (b"one", b"two")]
    assert 0.2 < np.mean(np.array(pads[0]) == pads[1]) < 0.3
