"""The terminal summary: fits, counts the right things, obeys no input."""

import io

import pytest
from rich.console import Console

from cifr_jax.report.terminal import summary


def _print(results, width=80, encoding="utf-8", report="out/tiny/report.html"):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    summary(results, report, Console(file=file, width=width))
    file.flush()
    return raw.getvalue().decode(encoding)


def test_tables_hold_the_figures_and_keep_controls_last(results):
    text = _print(results)
    (line,) = [row for row in text.splitlines() if row.startswith("│ linear_probe")]
    assert line.split("│")[2].split() == ["0.955", "52.8%"]
    assert "│ char_ngram (control)" in text
    assert text.index("self_reflection") < text.index("char_ngram (control)")
    assert "Leakage checks: all 2 checks passed" in text
    assert text.rstrip().endswith("Report: out/tiny/report.html")


def test_unlearned_cipher_is_named_and_has_no_column(results):
    text = _print(results)
    table = text.split("Which monitor caught")[1].split("Not learned")[0]
    assert "Not learned, so counted for nobody: endspeak" in text
    assert "endspeak" not in table and "polybius" in table


def test_job_table_tells_learned_from_not_and_from_not_an_attack(results):
    jobs = _print(results, width=140).split("The fine-tuning jobs")[1].splitlines()
    flags = {
        row.split()[0]: row.split()[-10] for row in jobs if " / " in row and "-" in row
    }
    assert flags["attack-endspeak"] == "no"
    assert flags["attack-walnut-50"] == "yes"
    assert flags["phase1-walnut-53"] == "-"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_every_line_fits_but_the_path(results, width):
    results["jobs"] *= 2
    path = "/very/long" * 30 + "/report.html"
    lines = _print(results, width, report=path).splitlines()
    assert lines[-1] == f"Report: {path}"
    assert max(map(len, lines[:-1])) <= width


def test_narrow_terminal_splits_the_table_and_loses_no_cipher(results):
    text = _print(results, width=60)
    assert "continued" in " ".join(text.split())
    assert text.count("│ linear_probe") == 2


@pytest.mark.parametrize("name", ["[bold red]x[/]", "[/nothing]", "a\\", ":smile:"])
def test_markup_in_names_is_printed_as_it_stands(results, name):
    results["jobs"][0]["name"] = results["rows"][0]["monitor"] = name
    results["leakage_checks"][0] = {"name": name, "passed": False}
    text = _print(results, width=160)
    assert text.count(name) >= 3


def test_control_characters_never_reach_the_terminal(results):
    results["jobs"][0]["name"] = "\x1b]0;title\x07\x9b31mred\r\u202e"
    text = _print(results, width=160)
    assert not {"\x1b", "\x07", "\x9b", "\r", "\u202e"} & set(text)
    assert "\\x1b]0;title\\x07" in text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_prints_where_the_terminal_knows_few_letters(results, encoding):
    results["jobs"][0]["name"] = "Größe 字 😀"
    results["rows"][0]["auroc"] = None
    assert "Leakage checks" in _print(results, encoding=encoding)


def test_failed_leakage_checks_are_counted_and_named(results):
    results["leakage_checks"][1]["passed"] = False
    text = _print(results, width=160)
    assert "1 of 2 FAILED: no entity in both train and test" in text


def test_prints_what_there_is(results):
    for key in results:
        _print({k: v for k, v in results.items() if k != key})
    text = _print({})
    assert "No monitor was scored in this run." in text
    assert "Leakage checks: none were run" in text


def test_prints_to_standard_output_without_a_terminal(results, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    summary(results)
    out = capsys.readouterr().out
    assert "linear_probe" in out and "\x1b" not in out and "Report:" not in out
