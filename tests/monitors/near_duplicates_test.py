"""Texts that are one but for slips: against a slow reading of the definition."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.monitors.dataset import near_duplicates

WORDS = st.text("abc1", min_size=1, max_size=9) | st.sampled_from(["x" * 32, "x" * 33])


def one_slip(a, b):
    """A letter lost or added, neighbours swapped; another letter in words of six."""
    if a.isdigit() or b.isdigit():
        return False

    def lost(word):
        return {word[:i] + word[i + 1 :] for i in range(len(word))}

    if a in lost(b) or b in lost(a) or a == b:
        return True
    if len(a) != len(b):
        return False
    differ = [i for i in range(len(a)) if a[i] != b[i]]
    if len(differ) == 1:
        return len(a) >= 6
    swapped = len(differ) == 2 and differ[1] == differ[0] + 1
    return swapped and a[differ[0]] == b[differ[1]] and a[differ[1]] == b[differ[0]]


def slow(a_w, b_w):
    spare = min(len(a_w), len(b_w)) // 30
    if a_w == b_w:
        return True
    a, b = set(a_w), set(b_w)
    quarter = min(len(a), len(b)) // 30 + max(2, len(a) // 4)
    if abs(len(a_w) - len(b_w)) > spare or len(a - b) > quarter:
        return False
    left = sorted((Counter(a_w) - Counter(b_w)).elements())
    right = sorted((Counter(b_w) - Counter(a_w)).elements())
    lone = 0
    for word in left:
        like = [other for other in right if one_slip(word, other)]
        if like:
            right.remove(like[0])
        else:
            lone += 1
    return lone <= spare and len(right) <= spare


@settings(max_examples=300)
@given(WORDS, WORDS)
def test_a_slip_is_one_of_those_that_are_named(a, b):
    assert near_duplicates._slip(a, b) == one_slip(a, b)


@st.composite
def pairs(draw):
    """A bag of words, and the same with a few of them changed."""
    a = draw(st.lists(WORDS, min_size=1, max_size=70))
    b = list(a)
    for _ in range(draw(st.integers(0, 6))):
        i = draw(st.integers(0, len(b) - 1))
        word, at = b[i], draw(st.integers(0, len(b[i])))
        near = (word[:at] + "b" + word[at:], word[:at] + word[at + 1 :] or "c")
        b[i] = draw(WORDS | st.sampled_from(near))
    return tuple(sorted(a)), tuple(sorted(b))


@settings(max_examples=300)
@given(pairs())
def test_texts_are_one_where_the_definition_says_so(pair):
    assert near_duplicates.same_but_for_slips(*pair) == slow(*pair)


def test_both_answers_occur():
    a = tuple(sorted(f"word{i} other{i}".split()[i % 2] for i in range(60)))
    changed = tuple(sorted((*a[1:], "unlike")))
    assert near_duplicates.same_but_for_slips(a, changed)
    far = tuple(sorted((*a[3:], "unlike", "these", "three")))
    assert not near_duplicates.same_but_for_slips(a, far)


def test_many_rows_with_one_long_beginning_are_read_apart():
    shared = " ".join(f"clause{i}" for i in range(300))
    texts = [f"{shared} question{i} asks{i} about{i} this{i}" for i in range(200)]
    assert len(set(near_duplicates.group(texts))) < 200  # ten words in 300 may differ
    assert len(set(near_duplicates.group([text[len(shared) :] for text in texts]))) == 200
