"""verdict.html: the answer of an audit on one self-contained page, from verdict.json alone.

Look, escaping and policy are those of `report/page.py`. Of the upload the page shows row
numbers, counts and their labels, never text.
"""

import math
import os
from collections.abc import Mapping
from typing import Any

from cifr_jax.report import page, rounds_figure, wording
from cifr_jax.report import verdict_wording as words
from cifr_jax.report.wording import fixed, number

_TEMPLATE = "verdict.html.jinja"
_FULL_BAR = 1e-4  # p-value at which a bar is full: fewer benign jobs tell no smaller one
_MOST_ENTRIES = 10  # pieces of evidence shown of one detector
_MOST_LABELS = 12  # rows or columns of a table of counts that still reads at a glance


def _share(p: Any) -> str | None:
    """How long the bar of a p-value is, from 0 to 1, or None without one."""
    known = number(p)
    if known is None:
        return None
    return f"{math.log(max(known, _FULL_BAR)) / math.log(_FULL_BAR) + 0.0:.3f}"


def _detector(detector: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": detector.get("name"),
        "level": detector.get("level"),
        "statistic": fixed(detector.get("statistic"), 4),
        "p_value": words.p_value(detector.get("p_value")),
        "share": _share(detector.get("p_value")),
        "not_tested": detector.get("not_tested"),
    }


def _table(counts: Mapping[str, Any]) -> dict[str, Any]:
    """A table of counts; a cell's heat is its share of its row."""
    lines = []
    for label, cells in zip(counts["rows"], counts["cells"], strict=True):
        total = sum(cells) or 1
        shares = [{"count": cell, "share": fixed(cell / total, 2)} for cell in cells]
        lines.append({"label": label, "cells": shares})
    return {"title": "rows counted", "columns": counts["columns"], "lines": lines}


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    counts = entry.get("counts") or {}
    n_rows, n_columns = len(counts.get("rows", ())), len(counts.get("columns", ()))
    small = 0 < min(n_rows, n_columns) and max(n_rows, n_columns) <= _MOST_LABELS
    return {
        "reason": entry.get("reason"),
        "rows": words.row_numbers(entry),
        "table": _table(counts) if small else None,
        "too_large": f"{n_rows} by {n_columns}" if counts and not small else None,
    }


def _evidence(verdict: words.Verdict) -> list[dict[str, Any]]:
    groups = []
    for detector in words.entries(verdict, "detectors"):
        found = words.entries(detector, "evidence")
        if found:
            group = {
                "name": detector.get("name"),
                "entries": [_entry(entry) for entry in found[:_MOST_ENTRIES]],
                "more": max(0, len(found) - _MOST_ENTRIES),
            }
            groups.append(group)
    return groups


def _operating_point(point: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("false alarms allowed", wording.percent(point.get("fpr"))),
        ("threshold", fixed(point.get("threshold"), 4)),
        ("calibrated on", wording.clean(point.get("calibrated_on") or wording.MISSING)),
        ("honest jobs in it", fixed(point.get("n_benign"), 0)),
    ]


def _rows(verdict: words.Verdict) -> str:
    chats, replies = (int(verdict.get(k) or 0) for k in ("n_examples", "n_replies"))
    told = wording.count(chats, "row")
    if replies > chats:
        told += f" with {wording.count(replies, 'trained reply', 'trained replies')}"
    return told


def _identity(verdict: words.Verdict) -> list[tuple[str, str]]:
    """What tells this verdict from another: digests, revision, device."""
    found = [
        ("upload (digest of its chats)", verdict.get("upload")),
        ("git revision", verdict.get("git_revision")),
        ("device", verdict.get("device")),
    ]
    calibrations = verdict.get("calibrations") or {}
    found += [(f"calibration of {name}", one) for name, one in calibrations.items()]
    return [(key, wording.clean(value)) for key, value in found if value]


def _context(verdict: words.Verdict) -> dict[str, Any]:
    base = verdict.get("base_model") or {}
    point = verdict.get("operating_point") or {}
    timings = verdict.get("timings") or {}
    parameters = number(base.get("parameters"))
    known = verdict.get("verdict") != "not tested"
    return {
        "title": f"cifr_jax: audit of {wording.clean(verdict.get('job') or 'a job')}",
        "job": verdict.get("job"),
        "n_examples": _rows(verdict),
        "base_name": base.get("name"),
        "base_parameters": f"{parameters:,.0f}" if parameters else None,
        "seed": verdict.get("seed"),
        "schema": verdict.get("schema"),
        "verdict": verdict.get("verdict"),
        "alarm": verdict.get("verdict") in ("attack", "suspicious"),
        "headline": words.headline(verdict),
        "meaning": words.meaning(verdict),
        "coverage": words.coverage(verdict),
        # A number beside "not tested" would be read as one that was measured.
        "risk": fixed(verdict.get("risk") if known else None),
        "p_value": words.p_value(verdict.get("p_value")),
        "fpr": wording.percent(point.get("fpr")),
        "detectors": [_detector(each) for each in words.entries(verdict, "detectors")],
        "full_bar": f"{_FULL_BAR:g}",
        "mark": _share(point.get("fpr")),
        "mark_p": words.p_value(point.get("fpr")),
        "evidence": _evidence(verdict),
        "rounds": rounds_figure.drawing(words.entries(verdict, "rounds")),
        "operating_point": _operating_point(point),
        "unchecked": words.unchecked(verdict),
        "limits": words.entries(verdict, "limits"),
        "identity": _identity(verdict),
        "versions": list(wording.flattened(verdict.get("versions") or {})),
        "timings": [(key, wording.seconds(value)) for key, value in timings.items()],
        "total_time": sum(number(value) or 0.0 for value in timings.values()),
        "config": list(wording.flattened(verdict.get("config") or {})),
    }


def render(verdict: words.Verdict) -> str:
    """The page as text; the same verdict gives the same text.

    Args:
      verdict: a verdict dict (schema 1); what is absent leaves a gap.
    """
    return page.render(_TEMPLATE, _context(verdict))


def write_page(verdict: words.Verdict, path: str | os.PathLike[str]) -> None:
    """Writes the page to `path`, whole or not at all.

    Raises:
      UserError: the file system refused.
    """
    page.write(render(verdict), path)
