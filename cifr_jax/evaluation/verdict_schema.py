"""The shape of verdict.json (schema 1), the answer of an audit to one fine-tuning job.

Beyond the type of every key it holds the answer to its word: a verdict rests on a detector
that ran, "clear" on a p-value; a detector says what it found or why it was not run; rows
are those of the job; a table of counts has a cell for each pair of its labels.
"""

from collections.abc import Mapping
from typing import Any

from cifr_jax.evaluation.schema import (
    SCHEMA,
    amount,
    check_file,
    count,
    dict_of,
    fault,
    is_a,
    list_of,
    named,
    number,
    one_of,
    or_null,
    rate,
)

VERDICTS = ("clear", "suspicious", "attack", "not tested")
LEVELS = ("dataset", "trajectory", "adapter", "completion")

_text, _group = is_a(str), is_a(dict)
_rate_n, _number_n = or_null(rate), or_null(number)


def _row_number(path: str, value: Any) -> None:
    count(path, value)
    if value == 0:
        raise fault(path, "0, but rows are numbered from 1")


def _counts(path: str, value: Any) -> None:
    """A contingency table: `cells` has a list for each row label."""
    labels = list_of(_text)
    dict_of({"rows": labels, "columns": labels, "cells": list_of(list_of(count))}, {})(
        path, value
    )
    if len(value["cells"]) != len(value["rows"]):
        what = f"{len(value['cells'])} rows of cells, but {len(value['rows'])} labels"
        raise fault(f"{path}.cells", what)
    for i, cells in enumerate(value["cells"]):
        if len(cells) != len(value["columns"]):
            what = f"{len(cells)} cells, but {len(value['columns'])} labels"
            raise fault(f"{path}.cells[{i}]", what)


_EVIDENCE = dict_of(
    {"reason": _text, "rows": list_of(_row_number)},
    {"counts": or_null(_counts), "rows_left_out": count},
)
_DETECTOR = dict_of(
    {
        "name": _text,
        "level": one_of(*LEVELS),
        "statistic": _number_n,
        "p_value": _rate_n,
        "evidence": list_of(_EVIDENCE),
        "not_tested": or_null(_text),
    },
    {},
)
_OPERATING_POINT = dict_of(
    {"fpr": rate, "threshold": _number_n, "calibrated_on": _text, "n_benign": count},
    {"share": or_null(rate)},
)
_PART = dict_of(
    {
        "name": _text,
        "p_value": _rate_n,
        "risk": _rate_n,
        "score": _number_n,
        "threshold": _number_n,
        "calibrated_on": _text,
        "n_benign": count,
    },
    {},
)
_ROUND = dict_of(
    {"step": count, "loss": number, "drift": amount, "weight_change": amount}, {}
)
_VERDICT = dict_of(
    {
        "schema": one_of(SCHEMA),
        "job": _text,
        "n_examples": count,
        "n_replies": count,
        "upload": _text,
        "risk": _rate_n,
        "p_value": _rate_n,
        "verdict": one_of(*VERDICTS),
        "operating_point": _OPERATING_POINT,
        "detectors": list_of(_DETECTOR),
        "rounds": list_of(_ROUND),
        "not_checked": list_of(dict_of({"what": _text, "why": _text}, {})),
        "base_model": dict_of({"name": _text, "parameters": count}, {}),
        "calibrations": named(_text),
        "seed": count,
        "git_revision": or_null(_text),
        "device": _text,
        "versions": _group,
        "timings": named(amount),
        "config": _group,
        "limits": list_of(_text),
    },
    {"parts": list_of(_PART)},
)


def _detector_keeps_its_word(
    path: str, detector: Mapping[str, Any], n_examples: int
) -> None:
    found = [detector["statistic"], detector["p_value"]]
    if detector["not_tested"] is None and found == [None] * 2:
        raise fault(path, "neither a figure nor the reason why it was not run")
    if detector["not_tested"] is not None and found != [None] * 2:
        raise fault(f"{path}.not_tested", "set, but there is a figure too")
    for i, entry in enumerate(detector["evidence"]):
        if (last := max(entry["rows"], default=0)) > n_examples:
            what = f"row {last}, but the job has {n_examples}"
            raise fault(f"{path}.evidence[{i}].rows", what)


def _whole(path: str, verdict: Any) -> None:
    _VERDICT(path, verdict)
    for i, detector in enumerate(verdict["detectors"]):
        _detector_keeps_its_word(f"detectors[{i}]", detector, verdict["n_examples"])
    tested = any(detector["not_tested"] is None for detector in verdict["detectors"])
    if verdict["verdict"] != "not tested" and not tested:
        raise fault("verdict", f"{verdict['verdict']!r}, but no detector was run")
    if verdict["verdict"] == "clear" and verdict["p_value"] is None:
        raise fault("verdict", "'clear' without a p-value")
    if (verdict["risk"] is None) != (verdict["p_value"] is None):
        raise fault("risk", "a risk and a p-value are there together, or neither")


def validate_verdict(verdict: Any) -> None:
    """Checks a whole verdict.json against schema 1.

    Args:
      verdict: the parsed file; risk and p-values lie in [0, 1], a p-value that could not
        be computed is null.

    Raises:
      ValueError: names the path of the first fault, as in
        "verdict.json: detectors[3].p_value: 1.2, outside [0, 1]".
    """
    check_file("verdict.json", _whole, verdict)
