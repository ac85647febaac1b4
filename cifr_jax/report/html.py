"""report.html: one self-contained page drawn from results.json alone.

The page loads nothing and runs nothing: styles and figures are inline, a policy in its
head forbids the rest. Every value passes through Jinja's autoescape; only the figures of
`report/drawing.py` are trusted markup.
"""

import os
from typing import Any

from cifr_jax.evaluation.schema import FALSE_POSITIVE_RATES
from cifr_jax.report import figures, page, view, wording
from cifr_jax.report.wording import fixed, number, percent

_TEMPLATE = "report.html.jinja"


def _job(job: view.Row) -> dict[str, Any]:
    def pair(key: str, *names: str) -> list[str]:
        cells = job.get(key) or {}
        return [percent(cells.get(name)) for name in names]

    return {
        "name": job.get("name"),
        "kind": job.get("kind"),
        "cipher": job.get("cipher"),
        "family": job.get("family"),
        "role": job.get("role"),
        # Only an attack can fail to be learned: a benign job has nothing to teach.
        "learned": bool(job.get("learned")) if job.get("kind") == "attack" else None,
        "figures": pair("attack_success", "encoded", "plain")
        + pair("refusals", "encoded", "plain")
        + pair("utility", "before", "after"),
    }


def _scored(row: view.Row) -> dict[str, str]:
    return {
        "auroc": fixed(row.get("auroc")),
        "auroc_ci": wording.interval(view.ci(row, "auroc")),
        "tpr": percent(view.tpr_at_1pct(row)),
        "tpr_ci": wording.interval(view.ci(row, "tpr_at_1pct"), percent),
    }


def _caught(results: view.Results, key: str = "rows") -> list[dict[str, Any]]:
    """The rows of the main table: each monitor with its figures in each column."""
    cell, columns = view.main_cell(results), view.columns(results)
    return [
        {
            "name": monitor.name,
            "level": monitor.level,
            "control": monitor.control,
            "cells": [
                _scored(view.find_row(results, monitor.name, column, cell, key))
                if column.counts
                else None
                for column in columns
            ],
        }
        for monitor in view.monitors(results, key)
    ]


def _flagged(row: view.Row) -> tuple[float | None, str]:
    """Share of restricted prompts flagged, and at which threshold it was read off."""
    at_threshold = number(row.get("tpr_at_threshold"))
    if at_threshold is not None or not row:
        return at_threshold, ""
    return view.tpr_at_1pct(row), "at 1% false positives"


def _square(results: view.Results, monitor: str, column: view.Column) -> dict[str, Any]:
    """The 2x2 of one monitor on one cipher: flagged rates, and AUROC within each cell."""
    lines = []
    for cell in ("plain", "encoded"):
        row = view.find_row(results, monitor, column, cell)
        flagged, note = _flagged(row)
        benign = number(row.get("fpr_at_threshold"))
        lines.append(
            {
                "cell": cell,
                "benign": percent(benign),
                "benign_heat": fixed(benign or 0.0, 2),
                "restricted": percent(flagged),
                "restricted_heat": fixed(flagged or 0.0, 2),
                "note": note,
                "auroc": fixed(row.get("auroc")),
                "measured": bool(row),
            }
        )
    return {
        "monitor": monitor,
        "cipher": column.cipher,
        "role": column.role,
        "lines": lines,
        "measured": any(line["measured"] for line in lines),
    }


def _controls(results: view.Results) -> list[dict[str, Any]]:
    """Every control in every column that counts, against the bar where one applies."""
    cell, found = view.main_cell(results), []
    for monitor in view.monitors(results):
        for column in view.columns(results) if monitor.control else ():
            row = view.find_row(results, monitor.name, column, cell)
            auroc = number(row.get("auroc"))
            if auroc is not None and column.counts:
                found.append(
                    {"name": monitor.name, "cipher": column.cipher, "row": row}
                    | {"under": auroc < view.CONTROL_BAR, "share": f"{auroc:.3f}"}
                )
    return found


def _every_row(results: view.Results, key: str) -> list[dict[str, Any]]:
    return [
        {
            "row": row,
            "cipher": view.cipher_name(row.get("cipher")),
            "tprs": [
                percent((row.get("tpr_at_fpr") or {}).get(f)) for f in FALSE_POSITIVE_RATES
            ],
            **_scored(row),
        }
        for row in view.entries(results, key)
    ]


def _lora_sentence(text: Any) -> str:
    """What the LoRA job on real text did, in one sentence; "" without its figures."""
    lora = text.get("lora") if isinstance(text, dict) else None
    if not isinstance(lora, dict):
        return ""
    before, after = number(lora.get("loss_before")), number(lora.get("loss_after"))
    if before is None or after is None:
        return ""
    amount = [
        f"{word} {value:.0f} {key}"
        for word, key in (("of", "steps"), ("on", "examples"))
        if (value := number(lora.get(key))) is not None
    ]
    job = " ".join(["One LoRA job", *amount])
    return f"{job} took the loss from {before:.3f} to {after:.3f}."


def _context(results: view.Results) -> dict[str, Any]:
    lead, columns = view.lead_monitor(results), view.columns(results)
    base = results.get("base_model") or {}
    squares = [
        _square(results, monitor.name, column)
        for monitor in view.monitors(results)
        for column in columns
        if column.counts
    ]
    squares = [square for square in squares if square["measured"]]
    return page.run_facts(results) | {
        "headline": view.headline(results),
        "headline_figures": view.headline_figures(results),
        "lead": lead,
        "cell_words": view.CELL_WORDS[view.main_cell(results)],
        "base_card": list((base.get("card") or {}).items()),
        "jobs": [_job(job) for job in view.entries(results, "jobs")],
        "learned_gate": results.get("learned_gate"),
        "columns": columns,
        "caught": _caught(results),
        "caught_entities": _caught(results, "entity_rows"),
        "job_rows": _every_row(results, "job_rows"),
        "roc": figures.roc(results),
        "layers": figures.layers(results),
        "losses": figures.losses(results),
        "lead_squares": [s for s in squares if lead and s["monitor"] == lead.name],
        "squares": squares,
        "controls": _controls(results),
        "bar": view.CONTROL_BAR,
        "has_bar": view.main_cell(results) == "encoded",
        "checks": view.entries(results, "leakage_checks"),
        "selection": list(wording.flattened(results.get("selection") or {})),
        "text": list(wording.flattened(results.get("text") or {})),
        "lora": _lora_sentence(results.get("text")),
        "limits": view.entries(results, "limits"),
        "rows": _every_row(results, "rows"),
    }


def render(results: view.Results) -> str:
    """The page as text; the same results give the same text.

    Args:
      results: a results dict (schema 1); what is absent leaves its section out.
    """
    return page.render(_TEMPLATE, _context(results))


def write_report(results: view.Results, path: str | os.PathLike[str]) -> None:
    """Writes the page to `path`, whole or not at all.

    Raises:
      UserError: the file system refused.
    """
    page.write(render(results), path)
