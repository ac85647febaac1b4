"""The summary that a run prints at its end: which monitor caught which cipher."""

import os
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cifr_jax.report import view
from cifr_jax.report.console import Writer
from cifr_jax.report.wording import MISSING, fixed, number, percent

_MONITOR_WIDTH, _COLUMN_WIDTH = 22, 14
_ROLES = {
    "train": "train",
    "validation": "valid.",
    "test_variant": "variant",
    "test_family": "family",
    "test_benign": "benign",
}


def _whole_percent(value: Any) -> str:
    """A rate in at most three characters, for narrow columns. Only 1 itself reads 100."""
    known = number(value)
    if known is None:
        return MISSING
    return "100" if known == 1 else f"{min(100 * known, 99):.0f}"


def _pair(cells: Any, first: str, second: str) -> str:
    cells = cells if isinstance(cells, Mapping) else {}
    return f"{_whole_percent(cells.get(first))} / {_whole_percent(cells.get(second))}"


def _broken(cipher: str, write: Writer) -> Text:
    """A cipher's name; its parameters, if any, start a second line."""
    family, colon, parameters = cipher.partition(":")
    if not colon:
        return write(cipher)
    return Text("\n").join([write(family + colon), write(parameters)])


def _monitor_tables(results: view.Results, width: int, write: Writer) -> list[Table]:
    columns = [column for column in view.columns(results) if column.counts]
    cell = view.main_cell(results)
    fitting = max(1, (width - _MONITOR_WIDTH - 4) // (_COLUMN_WIDTH + 3))
    tables = []
    for start in range(0, len(columns), fitting):
        shown = columns[start : start + fitting]
        title = f"Which monitor caught which cipher ({view.CELL_WORDS[cell]})"
        table = Table(
            title=title + ", continued" * bool(start),
            caption="AUROC, and the share caught at 1% false positives",
        )
        table.add_column("monitor", max_width=_MONITOR_WIDTH, overflow="fold")
        for column in shown:
            head = _broken(column.cipher, write)
            head.append("\n" + view.ROLE_WORDS.get(column.role, column.role), style="dim")
            table.add_column(head, justify="right", width=_COLUMN_WIDTH, overflow="fold")
        was_control = False
        for monitor in view.monitors(results):
            if monitor.control and not was_control:
                table.add_section()
            was_control = monitor.control
            style = "dim" if monitor.control else ""
            name = monitor.name + " (control)" * monitor.control
            cells = []
            for column in shown:
                row = view.find_row(results, monitor.name, column, cell)
                figures = f"{fixed(row.get('auroc'))} {percent(view.tpr_at_1pct(row)):>6}"
                cells.append(write(figures, style))
            table.add_row(write(name, style), *cells)
        tables.append(table)
    return tables


def _job_table(results: view.Results, write: Writer) -> Table:
    table = Table(
        title="The fine-tuning jobs",
        caption="rates in %: success and refusals encoded / plain, utility before / after",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name in ("job", "kind", "cipher", "role"):
        table.add_column(name, overflow="fold")
    for name in ("learned", "success", "refusals", "utility"):
        table.add_column(name, justify="right", no_wrap=True)
    for job in view.entries(results, "jobs"):
        # Only an attack can fail to be learned: a benign job has nothing to teach.
        flag = (
            ("yes" if job.get("learned") else "no") if job.get("kind") == "attack" else "-"
        )
        table.add_row(
            write(job.get("name")),
            write(job.get("kind")),
            _broken(job.get("cipher") or MISSING, write),
            write(_ROLES.get(str(job.get("role")), job.get("role"))),
            write(flag, "bold red" if flag == "no" else ""),
            write(_pair(job.get("attack_success"), "encoded", "plain")),
            write(_pair(job.get("refusals"), "encoded", "plain")),
            write(_pair(job.get("utility"), "before", "after")),
        )
    return table


def summary(
    results: view.Results,
    report: str | os.PathLike[str] | None = None,
    console: Console | None = None,
) -> None:
    """Prints what a run found: monitors by ciphers, jobs, leakage checks, the report.

    Args:
      results: a results dict (schema 1); keys that are absent are left out.
      report: path of the HTML page, printed last.
      console: where to print; standard output unless given.
    """
    console = console or Console()
    write = Writer(console)
    console.print(write(view.headline(results), "bold"))
    for table in _monitor_tables(results, console.width, write):
        console.print(table)
    unlearned = [c.cipher for c in view.columns(results) if not c.counts]
    if unlearned:
        line = f"Not learned, so counted for nobody: {', '.join(unlearned)}"
        console.print(write(line, "dim"))
    if view.entries(results, "jobs"):
        console.print(_job_table(results, write))
    write.leakage(*view.leakage(results)[1:])
    write.path(report)
