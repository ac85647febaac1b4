"""The few lines that an audit prints at its end."""

import os

from rich.console import Console

from cifr_jax.report import verdict_wording as words
from cifr_jax.report.console import Writer

_STYLES = {
    "attack": "bold red",
    "suspicious": "bold yellow",
    "clear": "bold green",
    "not tested": "bold magenta",
}
_MOST_REASONS = 3


def _reasons(verdict: words.Verdict) -> list[str]:
    """The first reason of each detector that gives one, smallest p-value first."""
    ran, _ = words.tested(verdict)
    giving = [d for d in ran if words.entries(d, "evidence")]

    def p(detector: words.Verdict) -> float:
        value = detector.get("p_value")
        return 1.0 if value is None else value

    lines = []
    for detector in sorted(giving, key=p)[:_MOST_REASONS]:
        entry = detector["evidence"][0]
        rows = words.row_numbers(entry, most=4)
        where = f" ({rows})" if rows else ""
        lines.append(f"{detector.get('name')}: {entry.get('reason')}{where}")
    return lines


def summary(
    verdict: words.Verdict,
    path: str | os.PathLike[str] | None = None,
    console: Console | None = None,
) -> None:
    """Prints what an audit found: verdict, its meaning, reasons, what was not checked.

    Args:
      verdict: a verdict dict (schema 1); keys that are absent are left out.
      path: of the HTML page, printed last.
      console: where to print; standard output unless given.
    """
    console = console or Console()
    write = Writer(console)
    name = str(verdict.get("verdict") or "no verdict")
    console.print(
        write(f"{name.upper()}: {words.headline(verdict)}", _STYLES.get(name, ""))
    )
    console.print(write(f"{words.figures(verdict)}. {words.meaning(verdict)}"))
    for line in _reasons(verdict):
        console.print(write(f"- {line}"))
    left = "; ".join(what for what, _ in words.unchecked(verdict)) or "nothing is named"
    console.print(write(f"{words.coverage(verdict)} Not checked: {left}.", "dim"))
    write.path(path)
