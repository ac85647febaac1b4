"""Schema 1 of verdict.json: the example passes, and one fault is named by its path."""

import copy
import json
import math
import re
from pathlib import Path
from runpy import run_path

import pytest

from cifr_jax.evaluation.verdict_schema import VERDICTS, validate_verdict

_EXAMPLE = Path(__file__).parents[1] / "report" / "example_verdict.py"
VERDICT = run_path(str(_EXAMPLE))["example_verdict"]()


@pytest.fixture
def verdict():
    return copy.deepcopy(VERDICT)


def _fault(verdict, path, what=""):
    with pytest.raises(ValueError, match=f"^verdict.json: {re.escape(path)}: .*{what}"):
        validate_verdict(verdict)


def _place(verdict, path):
    """The dict or list that holds what `path` names, and its last key."""
    *steps, last = [
        int(step) if step.isdecimal() else step for step in re.findall(r"[^.\[\]]+", path)
    ]
    for step in steps:
        verdict = verdict[step]
    return verdict, last


def test_example_and_its_json_round_trip_pass(verdict):
    validate_verdict(verdict)
    validate_verdict(json.loads(json.dumps(verdict, allow_nan=False)))


_ENTRY = "detectors[0].evidence[0]"
_KEYS = [
    *VERDICT,
    *(f"operating_point.{key}" for key in VERDICT["operating_point"]),
    *(f"detectors[1].{key}" for key in VERDICT["detectors"][1]),
    *(f"{_ENTRY}.{key}" for key in ("reason", "rows")),
    *(f"{_ENTRY}.counts.{key}" for key in ("rows", "columns", "cells")),
    "not_checked[0].what",
    "not_checked[0].why",
    "base_model.name",
    "base_model.parameters",
]


@pytest.mark.parametrize("path", _KEYS)
def test_every_key_is_required(verdict, path):
    place, key = _place(verdict, path)
    del place[key]
    _fault(verdict, path, "missing")


_FAULTS = [
    ("schema", 2, "not one of 1"),
    ("job", None, "not str"),
    ("n_examples", -1, "below 0"),
    ("risk", None, "together, or neither"),
    ("risk", 1.01, "outside"),
    ("p_value", math.nan, "not finite"),
    ("verdict", "Clear", "not one of 'clear'"),
    ("operating_point.fpr", 1.5, "outside"),
    ("operating_point.threshold", math.inf, "not finite"),
    ("operating_point.n_benign", 10.0, "not a whole number"),
    ("detectors[0].level", "prompt", "not one of 'dataset'"),
    ("detectors[0].statistic", "4", "not a number"),
    ("detectors[0].p_value", -0.1, "outside"),
    ("detectors[0].not_tested", False, "not str"),
    (f"{_ENTRY}.reason", None, "not str"),
    (f"{_ENTRY}.rows[0]", 0, "numbered from 1"),
    (f"{_ENTRY}.rows", [3, 135], "row 135, but the job has 134"),
    (f"{_ENTRY}.counts.cells[1][0]", -1, "below 0"),
    (f"{_ENTRY}.counts.cells[1]", [3], "1 cells, but 2 labels"),
    (f"{_ENTRY}.counts.cells", [[1, 2]], "1 rows of cells, but 2 labels"),
    (f"{_ENTRY}.counts.rows", ["option A"], "not"),
    ("not_checked[0].why", None, "not str"),
    ("timings.read", -1.0, "below 0"),
    ("limits[0]", 3, "not str"),
    ("config.seed", math.nan, "not finite"),
]


@pytest.mark.parametrize(("path", "value", "what"), _FAULTS)
def test_one_fault_is_named_by_its_path(verdict, path, value, what):
    place, key = _place(verdict, path)
    place[key] = value
    # One label less is told where the cells are counted.
    told = path.replace("counts.rows", "counts.cells")
    _fault(verdict, told, "but 1 labels" if told != path else what)


def test_what_could_not_be_computed_may_be_null(verdict):
    verdict["detectors"][0] |= {"statistic": None, "evidence": []}
    verdict["operating_point"]["threshold"] = None
    verdict |= {"p_value": None, "risk": None, "extra": {"any": [1, None]}}
    validate_verdict(verdict)


def test_counts_may_be_null_or_absent(verdict):
    entry = verdict["detectors"][0]["evidence"][0]
    entry["counts"] = None
    validate_verdict(verdict)
    del entry["counts"]
    validate_verdict(verdict)


def test_a_detector_gives_a_figure_or_the_reason_for_none(verdict):
    verdict["detectors"][1]["p_value"] = None
    _fault(verdict, "detectors[1]", "neither a figure nor the reason")
    verdict["detectors"][1]["not_tested"] = "too few rows"
    validate_verdict(verdict)
    verdict["detectors"][1]["statistic"] = 0.5
    _fault(verdict, "detectors[1].not_tested", "there is a figure too")


@pytest.mark.parametrize("word", VERDICTS)
def test_no_verdict_stands_on_detectors_that_did_not_run(verdict, word):
    verdict["verdict"] = word
    validate_verdict(verdict)
    verdict["detectors"] = verdict["detectors"][2:]  # not tested
    for detectors in (verdict["detectors"], []):
        verdict["detectors"] = detectors
        if word == "not tested":
            validate_verdict(verdict)
        else:
            _fault(verdict, "verdict", "no detector was run")


def test_clear_needs_a_p_value(verdict):
    verdict |= {"verdict": "clear", "p_value": None}
    _fault(verdict, "verdict", "'clear' without a p-value")


@pytest.mark.parametrize("whole", [None, [], "x", 1])
def test_a_whole_that_is_no_dict(whole):
    _fault(whole, "the whole", "not dict")
