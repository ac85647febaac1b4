"""The few lines that a stream prints: who stands accused, what was not tested."""

import os

from rich.console import Console
from rich.table import Table

from cifr_jax.report.console import Writer
from cifr_jax.report.stream_page import Alarms, e_value, entries
from cifr_jax.report.wording import count, number, percent

_MOST = 20


def summary(
    alarms: Alarms,
    path: str | os.PathLike[str] | None = None,
    console: Console | None = None,
) -> None:
    """Prints the alarms, the counts, lines at fault and what could not be tested.

    Args:
      alarms: alarms.json (schema 1); keys that are absent are left out.
      path: of the HTML page, printed last.
      console: where to print; standard output unless given.
    """
    console = console or Console()
    write = Writer(console)
    accused = [one for one in entries(alarms, "alarms") if one.get("stands")]
    line = f"{alarms.get('verdict') or 'no verdict'} (false discovery rate "
    line += f"{percent(alarms.get('alpha'))})."
    console.print(write(line[:1].upper() + line[1:], "bold red" if accused else "bold"))
    found = entries(alarms, "alarms")
    if found:
        table = Table(title="Alarms", caption="line of the file, row of the account")
        for head in ("account", "kind"):
            table.add_column(head, overflow="fold")
        for head in ("line", "row", "e-value", "stands"):
            table.add_column(head, justify="right")
        for one in found[:_MOST]:
            stands = "yes" if one.get("stands") else "no more"
            cells = [one.get(key) for key in ("name", "kind", "line", "row")]
            table.add_row(*map(write, [*cells, e_value(one), stands]))
        console.print(table)
        if len(found) > _MOST:
            console.print(write(f"{len(found) - _MOST} more alarms are in alarms.json"))
    untested = alarms.get("not_tested") or {}
    n = int(number(untested.get("count")) or 0)
    if n:
        first = entries(untested, "first")[:1]
        why = f", such as {first[0].get('name')}: {first[0].get('why')}" if first else ""
        text = f"Not tested: {count(n, 'account or cluster', 'accounts or clusters')}{why}."
        console.print(write(text, "bold magenta"))
    bad = alarms.get("bad_lines") or {}
    n = int(number(bad.get("count")) or 0)
    if n:
        named = [
            f"{one.get('line')} ({one.get('what')})" for one in entries(bad, "first")[:5]
        ]
        console.print(write(f"{count(n, 'line')} at fault: {', '.join(named)}", "red"))
    if alarms.get("unended_line") is not None:
        text = f"Line {alarms.get('unended_line')} has no end yet: left for the next run."
        console.print(write(text))
    write.path(path)
