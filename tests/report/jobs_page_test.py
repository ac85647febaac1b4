"""The page of simulated customers: true to its figures, plain about failure, harmless."""

import copy
import io
import re
from pathlib import Path
from runpy import run_path

import pytest
from rich.console import Console

from cifr_jax.evaluation.intervals import clopper_pearson
from cifr_jax.report import jobs_figures, jobs_view
from cifr_jax.report.jobs_page import render, write_page
from cifr_jax.report.jobs_terminal import summary

_READER = run_path(str(Path(__file__).parent / "page_reader.py"))
Page, ATTACK = _READER["Page"], _READER["ATTACK"]
replaced, spoilt = _READER["replaced"], _READER["spoilt"]


def rate(hits, n):
    return {"share": hits / n, "ci95": list(clopper_pearson(hits, n)), "n": n}


CAUGHT = {
    "n=134 m=1": (60, 60),
    "n=402 m=1": (16, 16),
    "n=50 m=9": (1, 16),
    "n=402 m=9": (16, 16),
    "n=402 m=1 25%": (14, 20),
    "n=402 m=1 5%": (0, 16),
    "n=1000 m=1 25%": (16, 16),
    "n=402 m=1 keyed": (0, 16),
}


def roc(at_one_percent):
    return [[0.0, 0.0], [0.0, at_one_percent / 2], [0.01, at_one_percent], [1.0, 1.0]]


@pytest.fixture
def results():
    power = {name: rate(*counts) for name, counts in CAUGHT.items()}
    naive = {name: rate(counts[0] // 2, counts[1]) for name, counts in CAUGHT.items()}
    families = {"quiz_tutor": rate(0, 45), "author_habits": rate(2, 45)}
    levels = {
        level: rate(hits, 80) for level, hits in (("0.05", 4), ("0.01", 1), ("0.001", 0))
    }
    naive_sizes = {level: rate(70, 80) for level in levels}
    customers = {
        "thresholds": {
            "0.01": {"combined": 7.8, "naive": 19.7},
            "0.001": {"combined": None},
        },
        "power": {
            "0.01": {"combined": power, "naive": naive},
            "0.001": {"combined": {name: rate(0, n) for name, (_, n) in CAUGHT.items()}},
        },
        "power_by_kind": {"classify n=134 m=1": rate(30, 30)},
        "power_family_left_out": {"n=134 m=1": rate(57, 60)},
        "false_alarms": {"combined": {**families, "author_habits": rate(0, 45)}},
        "false_alarms_all": {"combined": rate(1, 990), "naive": rate(9, 990)},
        "false_alarms_family_left_out": families,
        "control_alarms": {"combined": rate(0, 80)},
        "size_on_controls": {"naive": levels, "channel": levels, "style": naive_sizes},
        "size_on_honest": {"naive": naive_sizes, "channel": levels},
        "weights": {"channel": 0.5},
        "jobs": {"honest": 990, "attack": 176, "control": 80},
        "items_with_own_answer": {"honest": 0.266, "attack": 0.99},
        "honest_jobs_tested": 621,
        "milliseconds_per_job": 185.4,
    }
    rows = [
        {
            "monitor": monitor, "cipher": name, "role": "test_family", "cell": "all",
            "n_positive": n, "n_negative": 990, "roc": roc(share * hits / n),
        }
        for name, (hits, n) in CAUGHT.items()
        for monitor, share in (("combined", 1.0), ("naive", 0.5), ("style", 0.7))
    ]  # fmt: skip
    return {
        "schema": 1,
        "protocol": "jobs-v1",
        "seed": 0,
        "base_model": {"name": "smollm2", "parameters": 134515008},
        "environment": {"device": "1 x cpu"},
        "timings": {"jobs": 5.9},
        "rows": rows,
        "leakage_checks": [{"name": "no customer in two splits", "passed": True}],
        "text": {"customers": customers},
        "limits": ["A latent that the auditor does not guess is not tested."],
        "config": {"seed": 0},
    }


def test_the_page_says_what_the_figures_say(results):
    page = Page(render(results))
    page.check()
    for said in (
        "At 1% false alarms 4 of 8 attacks are caught in at least 90% of jobs, and 3 in "
        "less than half.",
        "Of 990 honest jobs 0.1% are accused; a test that knows no visible label would "
        "accuse 87.5% of them at the 1% level.",
        "990 honest, 176 attack and 80 control",
        "n=134 m=1 134 1 100% 60 100% [94.0%, 100%]",
        "n=402 m=1 25% 402 1 25% 20 70.0% [45.7%, 88.1%] in part",
        "n=402 m=1 5% 402 1 5% 16 0% [0%, 20.6%] missed",
        "too few honest jobs for an operating point at 0.1%",
        "95.0% [86.1%, 99.0%]",  # its kind left out of learning
        "author_habits 45 0% [0%, 7.9%] 4.4% [0.5%, 15.1%] above 3%",
        "In 369 of 990 honest jobs no test had anything to permute",
        "A latent that the auditor does not guess is not tested.",
        "1 of 1 leakage checks passed.",
    ):
        assert said in page.text, said
    assert "classify 100%" in page.text


def test_the_region_of_failure_is_said_and_drawn(results):
    text = Page(render(results)).text
    section = text.split("Where the audit fails")[1].split("Who is accused")[0]
    assert "less than half of jobs: n=50 m=9, n=402 m=1 5% and n=402 m=1 keyed." in section
    assert "half to 90% of jobs: n=402 m=1 25%." in section
    assert "keyed: a secret key decides" in section
    drawing = jobs_figures.failure_map(results)
    assert [p.title for p in drawing.panels] == ["one reply a letter", "9 replies a letter"]
    better = copy.deepcopy(results)
    for of in better["text"]["customers"]["power"]["0.01"]["combined"].values():
        of |= rate(of["n"], of["n"])
    assert "No attack that was tried" in Page(render(better)).text
    first = drawing.panels[0].svg
    assert jobs_figures.failure_map(better).panels[0].svg != first


def test_power_curves_have_a_panel_for_each_share_and_size(results):
    by_rows = jobs_figures.power_by_rows(results)
    assert [panel.title for panel in by_rows.panels] == [
        "100% of rows carry the code",
        "25% of rows carry the code",
    ]
    assert [key.label for key in by_rows.keys] == [
        "one reply a letter",
        "9 replies a letter",
    ]
    (only,) = jobs_figures.power_by_share(results).panels
    assert only.title == "402 rows"
    # The band is drawn from the intervals: wider ones, another drawing.
    wide = copy.deepcopy(results)
    for of in wide["text"]["customers"]["power"]["0.01"]["combined"].values():
        of["ci95"] = [0.0, 1.0]
    assert jobs_figures.power_by_rows(wide).panels[0].svg != by_rows.panels[0].svg


def test_the_curve_of_all_attacks_is_their_mean_by_jobs(results):
    drawing = jobs_figures.roc(results)
    assert drawing.panels[0].title == "all attacks"
    assert {p.title for p in drawing.panels[1:]} == {
        name for name, (hits, n) in CAUGHT.items() if hits < n
    }
    hits, jobs = map(sum, zip(*CAUGHT.values(), strict=True))
    assert drawing.notes[0] == f"combined over all attacks at 1%: {hits / jobs:.3f}."
    assert drawing.notes[1] == f"naive over all attacks at 1%: {hits / jobs / 2:.3f}."


def test_trained_customers_have_a_curve_without_the_naive_test(results):
    """Their rows are those of jobs, and nothing naive was run."""
    rows = [row for row in results["rows"] if row["monitor"] == "combined"]
    drawing = jobs_figures.roc({**results, "rows": [], "job_rows": rows})
    assert drawing.panels[0].title == "all attacks"
    assert [key.label for key in drawing.keys] == ["combined"] and len(drawing.notes) == 1


def test_tests_that_break_their_word_are_named(results):
    page = Page(render(results))
    section = page.text.split("Do the tests keep their word?")[1]
    assert "style at 0.05, style at 0.01 and style at 0.001" in section
    lines = section.split("honest jobs rejected at")[1]
    assert lines.index("channel") < lines.index("naive")
    del results["text"]["customers"]["size_on_controls"]["style"]
    assert "no test rejects more often than its level" in Page(render(results)).text


def test_a_known_operating_point_at_a_tenth_is_shown(results):
    results["text"]["customers"]["thresholds"]["0.001"]["combined"] = 9.0
    page = Page(render(results))
    assert "no such point" not in page.text and "too few honest jobs" not in page.text


def test_a_failed_leakage_check_is_said_at_the_top(results):
    results["leakage_checks"].append({"name": "split", "passed": False})
    text = Page(render(results)).text
    assert "Leakage checks failed: split" in text.split("Power: which")[0]


@pytest.mark.parametrize("attack", [ATTACK, "a\x00\x1b[31m\u202eb", "broken \ud800"])
def test_no_text_of_the_results_becomes_markup(results, attack):
    safe = Page(render(results))
    bad = replaced(results, attack, ("monitor",))
    customers = bad["text"]["customers"]
    customers["power"]["0.01"]["combined"][attack] = rate(1, 9)
    customers["false_alarms"]["combined"][attack] = rate(1, 9)
    customers["false_alarms_all"][attack] = rate(1, 9)
    customers["size_on_controls"][attack] = customers["size_on_controls"]["channel"]
    customers["weights"][attack] = 1.0
    bad["config"] = {attack: attack}
    page = Page(render(bad))
    page.check()
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in safe.tags}
    assert not {"\x1b", "\x00", "\u202e"} & set(page.html)
    page.html.encode()
    if attack is ATTACK:
        assert attack in page.text


def test_every_key_may_be_absent_and_figures_may_be_gaps(results):
    for key in results:
        Page(render({k: v for k, v in results.items() if k != key})).check()
    del results["rows"]  # drawing is slow
    customers = results["text"]["customers"]
    for key in customers:
        rest = {k: v for k, v in customers.items() if k != key}
        Page(render(results | {"text": {"customers": rest}}))
    bare = Page(render({}))
    assert "No attack was scored in this run." in bare.text
    for gap in (None, float("nan"), float("inf")):
        text = Page(render(spoilt(results, gap))).text
        assert not re.search(r"\b(nan|inf|None)\b", text.split("Provenance")[1])
    for wrong in ({"text": []}, {"text": {"customers": 3}}):
        Page(render(results | wrong))


def test_the_same_results_give_the_same_bytes(results, tmp_path):
    write_page(results, tmp_path / "a.html")
    write_page(copy.deepcopy(results), tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_odd_names_of_attacks_are_listed_and_not_drawn(results):
    for name in ("n=0 m=1", "n=10 m=1 0%", "n=10 m=1 900%", "n=x", "n=" + "9" * 400):
        assert jobs_view.cell(name) is None
    power = results["text"]["customers"]["power"]["0.01"]["combined"]
    power["something else"] = rate(3, 9)
    assert "something else" in Page(render(results)).text


@pytest.mark.parametrize("width", [70, 200])
def test_the_terminal_fits_and_says_the_same(results, width):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii", newline="\n")
    summary(results, "/very/long" * 30, Console(file=file, width=width))
    file.flush()
    lines = raw.getvalue().decode().splitlines()
    assert max(map(len, lines[:-1])) <= width and lines[-1].startswith("Report: ")
    text = " ".join(" ".join(lines).split())
    assert "4 of 8 attacks" in text and "author_habits" in text and "keyed" in text
    summary({}, None, Console(file=io.StringIO()))
