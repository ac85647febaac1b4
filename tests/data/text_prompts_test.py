"""Splits of real text: groups stay together, near-duplicates never cross."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.data.sources import TextPrompt
from cifr_jax.data.text_prompts import assign, groups_of, split_names

FRACTIONS = (0.5, 0.2, 0.3)


def prompt(text, group, source="s", restricted=False, split=""):
    return TextPrompt(text, source, group, restricted, split)


def test_prompts_that_share_most_words_are_one_group_along_chains():
    found = groups_of(
        [
            prompt("red green blue", "a"),
            prompt("green blue white", "b"),  # 2 of 4 with a
            prompt("blue white black", "c"),  # 2 of 4 with b, 1 of 5 with a
            prompt("one two three", "d"),
            prompt("BLUE, black? gold silver iron", "e"),  # 2 of 6 with c
        ]
    )
    assert found == ["a", "a", "a", "d", "e"]


def test_prompts_without_words_are_no_duplicates():
    assert groups_of([prompt("?!", "a"), prompt("...", "b")]) == ["a", "b"]


@settings(deadline=None, max_examples=50)
@given(n=st.integers(0, 60), seed=st.integers(0, 99))
def test_shares_are_exact_and_do_not_depend_on_order(n, seed):
    names = [f"g{i}" for i in range(n)]
    split = split_names(names, FRACTIONS, seed)
    counts = [sum(s == w for s in split.values()) for w in ("train", "validation")]
    assert counts[0] == round(0.5 * n) and sum(counts) == round(0.7 * n)
    assert split == split_names(names[::-1], FRACTIONS, seed)


def test_another_seed_is_another_split():
    names = [f"g{i}" for i in range(40)]
    assert split_names(names, FRACTIONS, 0) != split_names(names, FRACTIONS, 1)


@settings(deadline=None, max_examples=50)
@given(
    texts=st.lists(
        st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=3),
        min_size=1,
        max_size=30,
    ),
    seed=st.integers(0, 9),
)
def test_no_group_and_no_text_stands_in_two_splits(texts, seed):
    fixed = ("", "", "unseen", "edgy", "train")
    prompts = [
        prompt(" ".join(words), f"g{i // 2}", f"source {i % 3}", split=fixed[i % 5])
        for i, words in enumerate(texts)
    ]
    found = assign(prompts, FRACTIONS, seed)
    for key in ("group", "text"):
        at = {}
        for p in found:
            assert at.setdefault(getattr(p, key), p.split) == p.split
    assert all(p.split for p in found)
    # What was free is never dropped: it takes the place of its group.
    assert sum(not p.split for p in prompts) <= len(found)


def test_a_test_prompt_like_one_of_training_is_left_out():
    learned = [prompt("how to paint the blue fence", "p0", split="train")]
    like = prompt("how to paint the green fence", "u0", "other", split="unseen")
    other = prompt("why do owls sing", "u1", "other", split="unseen")
    found = assign([*learned, like, other], FRACTIONS, 0)
    assert [(p.text, p.split) for p in found] == [
        (learned[0].text, "train"),
        (other.text, "unseen"),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_the_two_sides_of_a_pair_stay_together(seed):
    sides = ("vex it", "soothe them")
    prompts = [
        dataclasses.replace(
            prompt(f"{i}{i} {side} {i}", f"p{i}"), restricted=side == sides[0]
        )
        for i in range(20)
        for side in sides
    ]
    found = assign(prompts, FRACTIONS, seed)
    assert len(found) == 40
    for first, twin in zip(found[::2], found[1::2], strict=True):
        assert first.group == twin.group and first.split == twin.split
