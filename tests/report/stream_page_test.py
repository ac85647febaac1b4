"""The page and the lines of a stream: alarms first, gaps named, names harmless."""

import io
from pathlib import Path
from runpy import run_path

import pytest
from rich.console import Console

from cifr_jax.report.stream_page import e_value, render
from cifr_jax.report.stream_terminal import summary

_READER = run_path(str(Path(__file__).parent / "page_reader.py"))
Page, ATTACK, replaced = _READER["Page"], _READER["ATTACK"], _READER["replaced"]


@pytest.fixture
def alarms():
    own = {
        "kind": "account", "name": "mallory", "rows": 60, "rows_with_item": 60,
        "rows_repeated": 0, "rows_bet_on": 56, "log10_e": 8.25, "e_value": 1.8e8,
        "any_time_p": 5.6e-9, "wording": "whole reply",
    }  # fmt: skip
    alarm = {
        "kind": "account", "name": "mallory", "line": 77, "row": 30, "log10_e": 3.5,
        "e_value": 3162.3, "bar": 1300.0, "accounts_then": 13, "stands": True, "now": own,
    }  # fmt: skip
    counts = {
        "seen": 13, "tested": 11, "rows": 700, "items": 300, "repeated": 9,
        "unanswered": 8, "bet": 280,
    }  # fmt: skip
    return {
        "schema": 1, "verdict": "1 of 11 tested accounts stand accused", "alpha": 0.01,
        "rule": "e-BH", "lines": 700, "traffic": "traffic.jsonl",
        "bad_lines": {"count": 2, "first": [{"line": 3, "what": "not JSON"}]},
        "unended_line": 701, "accounts": {"account": counts}, "alarms": [alarm],
        "highest": [own],
        "not_tested": {
            "count": 2,
            "first": [{"kind": "account", "name": "quiet", "why": "no item in 9 rows"}],
        },
        "limits": ["Keyed codes go unseen."],
        "base_model": {"name": "tiny", "parameters": 5}, "environment": {}, "config": {},
    }  # fmt: skip


def test_the_page_says_what_the_alarms_hold(alarms):
    page = Page(render(alarms))
    page.check()
    for said in (
        "700 lines of traffic.jsonl",
        "mallory account 77 30 3.16e+03 1300 13 10^8.2 yes whole reply",
        "account 13 11 700 300 9 8 280",
        "2 accounts and clusters could not be tested: that is no sign that they are",
        "quiet (account): no item in 9 rows",
        "line 3: not JSON",
        "Line 701 has no end yet",
        "no more than 1.0% are honest",
        "Keyed codes go unseen.",
    ):
        assert said in page.text, said
    alarms["alarms"][0]["stands"] = False
    assert "no more whole reply" in Page(render(alarms)).text


def test_e_values_are_written_plainly():
    assert e_value({"log10_e": 0.0}) == "1" and e_value({"log10_e": 2.0}) == "100"
    assert e_value({"log10_e": 12.34}) == "10^12.3" and e_value({}) == "–"
    assert e_value({"log10_e": -400.0}) == "below 1e-6"


@pytest.mark.parametrize("attack", [ATTACK, "a\x00\x1b[31m\u202eb"])
def test_no_name_becomes_markup(alarms, attack):
    safe = Page(render(alarms))
    bad = replaced(alarms, attack)
    bad["accounts"] = {attack: alarms["accounts"]["account"]}
    page = Page(render(bad))
    page.check()
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in safe.tags}
    assert not {"\x1b", "\x00", "\u202e"} & set(page.html)


def test_every_key_may_be_absent(alarms):
    for key in alarms:
        Page(render({k: v for k, v in alarms.items() if k != key})).check()
    assert "Nothing was read." in Page(render({})).text


def test_the_terminal_says_alarms_gaps_and_faults(alarms):
    file = io.StringIO()
    summary(alarms, "out/alarms.html", Console(file=file, width=70))
    text = " ".join(file.getvalue().split())
    for said in ("1 of 11 tested", "mallory", "77", "Not tested: 2", "2 lines at fault: 3"):
        assert said in text, said
    assert "Line 701 has no end yet" in text and text.endswith("Report: out/alarms.html")
    assert max(map(len, file.getvalue().splitlines())) <= 70
    summary({}, None, Console(file=io.StringIO()))
