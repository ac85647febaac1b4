"""Items are found in every format, and any text is taken in linear time."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.data.pointwise.questions import bank, rotations
from cifr_jax.data.pointwise.requests import KINDS, templates, wrap
from cifr_jax.monitors.dataset.embedded_questions import MAX_OPTIONS, Embedded, find

STEM = "What is the capital of Peru?"
OPTIONS = ("Lima", "Quito", "La Paz", "Rome")


@pytest.mark.parametrize(
    ("shown", "format_"),
    [
        ("\nA) Lima\nB) Quito\nC) La Paz\nD) Rome", "letter"),
        ("\n(a) Lima\n(b) Quito\n(c) La Paz\n(d) Rome", "letter"),
        ("\n\na. Lima\nb. Quito\nc. La Paz\nd. Rome", "letter"),
        ("\n**A.** Lima\n\n**B.** Quito\n\n**C.** La Paz\n\n**D.** Rome", "letter"),
        ("\n[A] Lima\n[B] Quito\n[C] La Paz\n[D] Rome", "letter"),
        ("\n1. Lima\n2. Quito\n3. La Paz\n4. Rome", "number"),
        ("\n1) Lima\r\n2) Quito\r\n3) La Paz\r\n4) Rome\r", "number"),
        ("\n- Lima\n- Quito\n- La Paz\n- Rome", "bullet"),
        ("\n* Lima\n* Quito\n* La Paz\n* Rome", "bullet"),
        (" A) Lima B) Quito C) La Paz D) Rome", "letter"),
        (" (1) Lima, (2) Quito, (3) La Paz, (4) Rome. Be brief.", "number"),
        ("\nLima; Quito; La Paz; Rome", "separated"),
        (" Lima | Quito | La Paz | Rome", "separated"),
        (" Lima, Quito, La Paz or Rome", None),
        (" Lima, Quito, La Paz, or Rome", "separated"),
        (" Options: Lima, Quito, La Paz, Rome", "listed"),
        ("\nChoices: Lima / Quito / La Paz / Rome", "listed"),
    ],
)
@pytest.mark.parametrize("around", ["{}", "Hello there.\n\n{}\n\nThanks!"])
def test_formats(shown: str, format_: str | None, around: str) -> None:
    item = find(around.format(STEM + shown))
    if format_ is None:
        assert item is None or item.options != OPTIONS
        return
    assert item is not None
    assert (item.stem, item.options, item.format) == (STEM, OPTIONS, format_)


def test_json() -> None:
    text = (
        f'Do it: {{"question": "{STEM}", "options": ["Lima", "Quito", "La Paz", "Rome"]}}'
    )
    item = find(text)
    assert item is not None
    assert (item.stem, item.options, item.format) == (STEM, OPTIONS, "json")


def test_every_request_of_the_attacks() -> None:
    question = bank(["capitals"])[0]
    for kind in KINDS:
        for template in templates(kind):
            text = "\n\n".join(m.content for m in wrap(question, template))
            item = find(text)
            assert item is not None, template.name
            assert item.options == question.options, template.name
            assert item.stem.endswith(question.stem), template.name
            assert question.stem in text[slice(*item.span)], template.name


def test_rotations_share_the_key_and_other_items_do_not() -> None:
    first, second, *_ = bank(["animals"])
    keys = {Embedded(q.stem, q.options, (0, 0), "letter").key for q in rotations(first)}
    assert len(keys) == 1
    assert Embedded(second.stem, first.options, (0, 0), "letter").key not in keys
    assert Embedded(first.stem, second.options[:3], (0, 0), "letter").key not in keys


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No list here. Just text, with commas, and more; yes.",
        "Write A. Smith a letter.",
        "Labels: billing, delivery, returns.\n\nMy tent is late.",
        "- Be kind\n- Be brief",
        "Pick:\n" + "\n".join(f"{i}. step" for i in range(1, 30)),
        "Which one?\nA) same\nB) same",
    ],
)
def test_no_item(text: str) -> None:
    assert find(text) is None


def test_the_last_of_equals_is_taken() -> None:
    shot = "Which?\nA) one\nB) two\nC) three"
    item = find(f"{shot}\n\n{shot.replace('one', 'four')}")
    assert item is not None and item.options[0] == "four"


PIECES = [
    "A) ", "B) ", "(a) ", "(b) ", "1. ", "2. ", "- ", "* ", "; ", "|", "? ", ":", "\n",
    "\n\n", "Options: ", '"options": [', '"', "]", "[[[", "{", "\\", "x", " ", "\ud800",
    "\u200b", "é", "ﷺ", "\x00",
]  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join) | st.text(max_size=200))
def test_any_text_is_taken(text: str) -> None:
    item = find(text)
    if item is not None:
        start, end = item.span
        assert 0 <= start < end <= len(text)
        assert 2 <= len(item.options) <= MAX_OPTIONS
        assert all(o and (o in text or item.format == "json") for o in item.options)
        assert len(item.marks) in (0, len(item.options))
        assert len(item.key) == 24


@pytest.mark.slow  # it looks at the clock, which a busy machine sets wrong
@pytest.mark.parametrize("piece", [*PIECES, "A) x B) y ", "Is it?\n- a\n- b\n\n", "1. 2. "])
def test_time_does_not_explode(piece: str) -> None:
    def seconds(size: int) -> float:
        text = (piece * size)[: 40 * size]
        start = time.perf_counter()
        find(text)
        return time.perf_counter() - start

    seconds(100)
    # Four times the text in far less than the 16 times of a quadratic scan.
    assert seconds(8_000) < 10 * min(seconds(2_000) for _ in range(3)) + 0.1
