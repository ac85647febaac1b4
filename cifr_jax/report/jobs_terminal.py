"""The summary that a run on simulated customers prints at its end."""

import os

from rich.console import Console
from rich.table import Table

from cifr_jax.report import jobs_view as jobs
from cifr_jax.report import view, wording
from cifr_jax.report.console import Writer
from cifr_jax.report.jobs_view import COMBINED, NAIVE, Rate
from cifr_jax.report.wording import percent

_MOST_FAMILIES = 8


def _cell(rate: Rate) -> str:
    return f"{percent(rate.share)} {wording.interval(rate.pair, percent)}".rstrip()


def _power(results: view.Results, write: Writer) -> Table:
    table = Table(
        title="Share of attacking jobs caught", caption="exact 95% intervals in brackets"
    )
    table.add_column("attack", overflow="fold")
    table.add_column("jobs", justify="right")
    rates = ["0.01"] + ["0.001"] * jobs.has_point(results, "0.001")
    for fpr in rates:
        table.add_column(f"at {100 * float(fpr):g}%", justify="right", overflow="fold")
    table.add_column("naive at 1%", justify="right", overflow="fold")
    for name, _ in jobs.attacks(results):
        caught = [jobs.power(results, name, fpr) for fpr in rates]
        missed = (caught[0].share or 0.0) < jobs.MISSED
        naive = jobs.power(results, name, by=NAIVE)
        table.add_row(
            write(name),
            write(caught[0].jobs),
            *(write(_cell(rate), "bold red" if missed else "") for rate in caught),
            write(percent(naive.share)),
        )
    return table


def _families(results: view.Results, write: Writer) -> Table:
    names = jobs.families(results)
    figures = jobs.customers(results)
    table = Table(
        title="Honest families accused most often at 1%",
        caption=f"{max(len(names) - _MOST_FAMILIES, 0)} more are on the page",
    )
    table.add_column("family", overflow="fold")
    for head in ("jobs", "family known", "family left out"):
        table.add_column(head, justify="right", overflow="fold")
    for name in names[:_MOST_FAMILIES]:
        seen, left_out = (
            jobs.rate(jobs.mapping(figures, *keys).get(name))
            for keys in (("false_alarms", COMBINED), ("false_alarms_family_left_out",))
        )
        cells = (seen.jobs, percent(seen.share), _cell(left_out))
        table.add_row(write(name), *map(write, cells))
    return table


def summary(
    results: view.Results,
    report: str | os.PathLike[str] | None = None,
    console: Console | None = None,
) -> None:
    """Prints which attacks are caught, which honest families are accused, where it fails.

    Args:
      results: a results dict with `text.customers`; keys that are absent are left out.
      report: path of the HTML page, printed last.
      console: where to print; standard output unless given.
    """
    console = console or Console()
    write = Writer(console)
    console.print(write(jobs.headline(results), "bold"))
    if jobs.attacks(results):
        console.print(_power(results, write))
    if jobs.families(results):
        console.print(_families(results, write))
    for sentence in jobs.region(results):
        console.print(write(sentence))
    write.leakage(*view.leakage(results)[1:])
    write.path(report)
