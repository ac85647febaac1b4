"""The verdict's page and its few lines for the terminal: true, harmless, short of text."""

import io
import re
from html.parser import HTMLParser
from pathlib import Path
from runpy import run_path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cifr_jax.errors import UserError
from cifr_jax.evaluation.verdict_schema import validate_verdict
from cifr_jax.report import verdict_wording as words
from cifr_jax.report.verdict_page import render, write_page
from cifr_jax.report.verdict_terminal import summary

_MAKE = run_path(str(Path(__file__).parent / "example_verdict.py"))["example_verdict"]
_ATTACK = "</title></style>\"'><script>alert(1)</script><svg onload=alert(2)>{{ 7*7 }}&$x^"


@pytest.fixture
def verdict():
    return _MAKE()


class _Page(HTMLParser):
    """Tags, attributes and text of a page; checks that every tag is closed in turn."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.text = [], [], ""
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> within {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data + " "


def _replace_text(value, new):
    """All texts of a verdict replaced, but for those that select."""
    kept = {"level", "verdict", "not_tested"}
    if isinstance(value, dict):
        return {k: v if k in kept else _replace_text(v, new) for k, v in value.items()}
    if isinstance(value, list):
        return [_replace_text(entry, new) for entry in value]
    return new if isinstance(value, str) else value


def test_page_says_what_the_verdict_holds(verdict):
    text = _Page(render(verdict)).text
    for said in (
        "Audit of the fine-tuning job upload-7",
        "134 rows with 268 trained replies, base model tiny (1,234,567 parameters), seed 0",
        "Verdict: attack",
        "about 2 would score as high",
        "2 of 3 detectors could test this job",
        "conditional_permutation dataset 0.4127 0.0001",
        "style_features dataset – 0.200",
        "weight_drift adapter not tested: no tuned model was given",
        "where the model's own answer is option A. (rows 1 to 3 and 9)",
        "dash plain option A 40 2 option B 3 39",
        "threshold 0.9300",
        "weight_drift : no tuned model was given images : the upload has none",
        "A code over latents that nobody tests goes unseen.",
        "Time taken: 3.5 s",
        "cifr_jax 0.4.0",
        "job.data upload.jsonl",
    ):
        assert said in text


def test_page_is_whole_loads_nothing_and_runs_nothing(verdict):
    html = render(verdict)
    page = _Page(html)
    assert not re.search(r"https?:|@import|url\((?!#)", html)
    tags = [tag for tag, _ in page.tags]
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(tags)
    assert tags.count("table") == tags.count("caption") == 7
    (policy,) = [a["content"] for _, a in page.tags if "http-equiv" in a]
    assert policy.startswith("default-src 'none';") and "script" not in policy
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for key in ("href", "aria-labelledby"):
        found = {a[key].removeprefix("#") for _, a in page.tags if key in a}
        assert found and found <= set(ids)
    assert "{" not in page.text and "@media print" in html and "dark" in html


def test_bars_are_longer_for_smaller_p_values_and_full_at_the_floor(verdict):
    bars = []
    for p in (1.0, 0.1, 0.01, 1e-4, 1e-9, 0.0):
        verdict["detectors"][1]["p_value"] = p
        bars.append(re.findall(r'<span style="--share:([\d.]+)">', render(verdict))[1])
    assert bars == ["0.000", "0.250", "0.500", "1.000", "1.000", "1.000"]
    assert set(re.findall(r'<i style="--share:([\d.]+)">', render(verdict))) == {"0.500"}


def test_the_heat_of_a_cell_is_its_share_of_the_row(verdict):
    counts = verdict["detectors"][0]["evidence"][0]["counts"]
    counts["cells"] = [[3, 1], [0, 0]]
    heats = re.findall(r"--heat:([\d.]+)", render(verdict).split("</style>")[1])
    assert heats == ["0.75", "0.25", "0.00", "0.00"]


def test_what_is_too_much_to_read_is_counted_not_shown(verdict):
    (entry,) = verdict["detectors"][0]["evidence"]
    entry["counts"] = {"rows": ["r"], "columns": ["c"] * 13, "cells": [[7] * 13]}
    entry["rows"] = list(range(1, 134, 2))
    verdict["detectors"][0]["evidence"] = [entry] * 13
    text = _Page(render(verdict)).text
    assert text.count("The table of counts, 1 by 13, is in verdict.json.") == 10
    assert "3 more in verdict.json" in text
    assert "(rows 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23 and 55 more)" in text


def test_the_customers_text_is_not_shown_even_if_it_stands_in_the_verdict(verdict):
    entry = verdict["detectors"][0]["evidence"][0]
    for place in (verdict, verdict["detectors"][0], entry, entry["counts"]):
        place["text"] = place["examples"] = "words of the customer"
    validate_verdict(verdict)
    assert "words of the customer" not in render(verdict)


@pytest.mark.parametrize("attack", [_ATTACK, "javascript:alert(1)", "a\x00\x1b[31m\u202eb"])
def test_no_text_of_the_verdict_becomes_markup(verdict, attack):
    safe = _Page(render(_replace_text(verdict, "harmless")))
    spoilt = _replace_text(verdict, attack)
    spoilt["detectors"][2]["not_tested"] = attack
    for key, value in (("config", attack), ("versions", attack), ("timings", 1.0)):
        spoilt[key] = {attack: value}
    page = _Page(render(spoilt))
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in safe.tags}
    assert {k for _, a in page.tags for k in a} <= {k for _, a in safe.tags for k in a}
    assert not {"\x00", "\x1b", "\u202e"} & set(page.text)
    if attack is _ATTACK:
        assert page.text.count("{{ 7*7 }}") > 10  # shown as it was given, never run


def test_every_key_may_be_absent_and_every_figure_null(verdict):
    for key in verdict:
        _Page(render({k: v for k, v in verdict.items() if k != key}))
    bare = _Page(render({})).text
    assert "There is no verdict." in bare and "No detector was run." in bare

    def gaps(value):
        if isinstance(value, dict):
            return {k: gaps(v) for k, v in value.items()}
        if isinstance(value, list):
            return [gaps(v) for v in value]
        return None if isinstance(value, float) else value

    text = _Page(render(gaps(verdict))).text
    assert not re.search(r"\b(nan|None)\b", text) and "no p-value" in text


def test_not_tested_is_never_read_as_clear(verdict):
    verdict |= {"verdict": "not tested", "p_value": None, "risk": None}
    verdict["detectors"] = verdict["detectors"][2:]
    text = _Page(render(verdict)).text
    assert "that is no sign that it is honest" in text
    assert "Risk – " in text and "0 of 1 detector could test this job" in text


@pytest.mark.parametrize(
    ("p", "n_benign", "said"),
    [
        (0.2, 1000, "about 200 would score as high."),
        (0.0126, 1000, "about 13 would score as high."),
        (0.0005, 10**6, "fewer than 1 would score as high."),
        (1.0, 50, "about 1000 would score as high."),
        # Of 199 honest jobs nothing below 1 in 200 can be told, whatever the p-value is.
        (1e-9, 199, "at most about 5 would score as high: none of the 199 measured did"),
        (1 / 200, 199, "at most about 5 would"),
        (1e-9, 10**4, "fewer than 1 would score as high: none of the 10000 measured did"),
        (1e-9, 0, "no honest jobs were scored"),
        (None, 1000, "No p-value could be computed"),
    ],
)
def test_the_meaning_is_no_finer_than_the_calibration(verdict, p, n_benign, said):
    verdict["p_value"] = p
    verdict["operating_point"]["n_benign"] = n_benign
    assert said in words.meaning(verdict)


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 10))
def test_row_numbers_name_runs_and_count_the_rest(rows, most):
    text = words.row_numbers({"rows": rows}, most)
    if not rows:
        assert text == ""
        return
    more = re.search(r"(\d+) more$", text)
    named = set()
    for part in re.split(r", | and ", text.partition(" ")[2]):
        if not part.endswith("more"):
            first, _, last = part.partition(" to ")
            named |= set(range(int(first), int(last or first) + 1))
    assert named <= set(rows)
    assert len(named) + (int(more[1]) if more else 0) == len(set(rows))
    assert named == set(sorted(set(rows))[: len(named)])  # the first ones
    left_out = words.row_numbers({"rows": rows, "rows_left_out": 7}, most)
    assert left_out.endswith(f"and {7 + (int(more[1]) if more else 0)} more")


def test_a_lone_surrogate_is_written_and_a_file_in_the_way_is_told(verdict, tmp_path):
    verdict["job"] = "broken \ud800 name"
    write_page(verdict, tmp_path / "verdict.html")
    assert "broken \\ud800 name" in (tmp_path / "verdict.html").read_text("utf-8")
    with pytest.raises(UserError, match="verdict.html"):
        write_page(verdict, tmp_path / "verdict.html" / "verdict.html")


def _print(verdict, width=80, encoding="utf-8", path="out/verdict.html"):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    summary(verdict, path, Console(file=file, width=width))
    file.flush()
    return raw.getvalue().decode(encoding)


def test_terminal_says_verdict_meaning_reason_and_what_is_open(verdict):
    lines = _print(verdict, 200).splitlines()
    assert lines[0] == "ATTACK: " + words.headline(verdict)
    assert lines[1].startswith("risk 0.970, p 0.002, operating point at 0.01 false")
    assert lines[2].startswith("- conditional_permutation: The reply has a dash")
    assert lines[2].endswith("(rows 1 to 3 and 9)")
    assert "Not checked: weight_drift; images." in lines[3]
    assert lines[4:] == ["Report: out/verdict.html"]


def test_terminal_names_the_strongest_reasons_first(verdict):
    first = verdict["detectors"][0]
    verdict["detectors"] = [
        first | {"name": f"d{i}", "p_value": p}
        for i, p in enumerate((0.5, 1e-6, None, 0.2))
    ]
    found = re.findall(r"- (d\d)", _print(verdict))
    assert found == ["d1", "d3", "d0"]


@pytest.mark.parametrize(
    "name", ["[bold red]x[/]", "[/nothing]", ":smile:", "\x1b]0;t\x07"]
)
def test_terminal_obeys_no_input(verdict, name):
    text = _print(_replace_text(verdict, name), 300)
    assert name.encode("unicode_escape").decode() in text
    assert not {"\x1b", "\x07"} & set(text)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_terminal_prints_where_few_letters_are_known(verdict, encoding):
    verdict["detectors"][0]["evidence"][0]["reason"] = "Größe 字 😀"
    verdict["risk"] = None
    assert "risk -" in _print(verdict, encoding=encoding)


def test_terminal_prints_what_there_is(verdict):
    for key in verdict:
        _print({k: v for k, v in verdict.items() if k != key})
    assert "NO VERDICT" in _print({}) and "Report:" not in _print({}, path=None)


def test_the_page_tells_which_upload_and_code_it_is_of(verdict):
    text = _Page(render(verdict)).text
    assert "134 rows with 268 trained replies" in text
    for key in ("upload", "git_revision", "device"):
        assert verdict[key] in text
    assert "calibration of rows 7d793037a0760186" in text
    for key in ("n_replies", "upload", "calibrations", "git_revision", "device"):
        del verdict[key]
    bare = _Page(render(verdict)).text
    assert "trained replies" not in bare and "digest of its chats" not in bare


def test_the_rounds_of_a_training_are_drawn_and_without_two_there_is_no_figure(verdict):
    html = render(verdict)
    assert (
        html.count("<svg") == 3
        and "drift of activations: 0.040 at step 10" in _Page(html).text
    )
    for rounds in ([], verdict["rounds"][:1], [{"step": _ATTACK, "loss": None}, {}]):
        page = render({**verdict, "rounds": rounds})
        assert "round by round" not in page and "<svg" not in page
