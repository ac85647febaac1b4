"""Figures are rounded honestly; gaps and odd text are shown as such."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.report import wording


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0%"),
        (1.0, "100%"),
        (0.9996, "99.9%"),
        (0.0004, "0.0%"),
        (0.527, "52.7%"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
        (True, "–"),
        ("0.5", "–"),
    ],
)
def test_percent(value, written):
    assert wording.percent(value) == written


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 1, exclude_max=True))
def test_no_rate_short_of_one_reads_as_certain(rate):
    assert wording.percent(rate) != "100%" and not wording.percent(rate).startswith("100")


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_clean_text_is_printable_encodable_and_stable(text):
    once = wording.clean(text)
    assert once.isprintable()
    once.encode()  # raises on a lone surrogate
    assert wording.clean(once) == once


def test_interval_needs_two_finite_ends():
    assert wording.interval([0.1, 0.25]) == "[0.100, 0.250]"
    for broken in (None, [], [0.1], [0.1, None], [math.nan, 0.2], "ab", [1, 2, 3]):
        assert wording.interval(broken) == ""


def test_joined_and_count():
    assert wording.joined([]) == ""
    assert wording.joined(["a"]) == "a"
    assert wording.joined(["a", "b"]) == "a and b"
    assert wording.joined(["a", "b", "c"]) == "a, b and c"
    assert wording.count(1, "cipher") == "1 cipher"
    assert wording.count(0, "entry", "entries") == "0 entries"


def test_flattened_names_every_leaf():
    nested = {"a": {"b": 1, "c": [1, 2]}, "d": [{"e": None}, {"e": 0.12345678}]}
    assert list(wording.flattened(nested)) == [
        ("a.b", "1"),
        ("a.c", "[1, 2]"),
        ("d[0].e", "–"),
        ("d[1].e", "0.123457"),
    ]
