"""A fault of the user's input is told in one line that a terminal cannot misread."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifr_jax.errors import UserError


def test_the_line_says_where_what_and_how_to_mend_it():
    error = UserError("upload.jsonl:3", "not JSON", "close the brace")
    assert str(error) == "upload.jsonl:3: not JSON; close the brace"
    assert (error.where, error.what, error.mend) == (
        "upload.jsonl:3",
        "not JSON",
        "close the brace",
    )


def test_without_a_mend_nothing_dangles():
    assert str(UserError("config.seed", "is negative")) == "config.seed: is negative"


def test_of_a_long_text_beginning_and_end_are_told():
    what = "name 'a" + "x" * 10**6 + "z' is unknown"
    line = str(UserError("a.gguf", what, "correct it"))
    assert line.startswith("a.gguf: name 'axx")
    assert line.endswith("xxz' is unknown; correct it")
    assert len(line) < 1100
    assert UserError("a.gguf", "x" * 1000).what == "x" * 1000


@given(st.text(st.characters()), st.text(st.characters()), st.text(st.characters()))
def test_any_text_gives_one_printable_line(where, what, mend):
    line = str(UserError(where, what, mend))
    assert line.isprintable()
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize(
    "nasty", ["\n", "\r", "\x1b[2J", "\u2028", "\u202e", "\udc80", "\0"]
)
def test_control_characters_are_shown_and_not_obeyed(nasty):
    line = str(UserError(f"a{nasty}b", "x"))
    assert nasty not in line
    assert line == f"a{repr(nasty)[1:-1]}b: x"
