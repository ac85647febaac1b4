"""The summary that a run of the trained pointwise attacks prints at its end."""

import os

from rich.console import Console
from rich.table import Table

from cifr_jax.report import pointwise_view as pointwise
from cifr_jax.report import view, wording
from cifr_jax.report.console import Writer
from cifr_jax.report.pointwise_view import Share
from cifr_jax.report.wording import fixed, percent


def _cell(share: Share) -> str:
    return f"{percent(share.value)} {wording.interval(share.pair, percent)}".rstrip()


def _accuracy(results: view.Results, write: Writer) -> Table:
    table = Table(
        title="Unseen items right after decoding", caption="exact 95% intervals in brackets"
    )
    table.add_column("job, items", overflow="fold")
    for head in ("decoded", "asked directly", "longest", "chance", "learned"):
        table.add_column(head, justify="right", overflow="fold")
    for one in pointwise.outcomes(results):
        learned = "-" if one.learned is None else "yes" if one.learned else "no"
        cells = [_cell(one.right), _cell(one.direct), percent(one.longest.value)]
        cells += [percent(one.chance), learned]
        style = "dim" if one.control else ""
        table.add_row(
            write(f"{one.job}, {one.test}", style), *(write(c, style) for c in cells)
        )
    return table


def _monitors(results: view.Results, write: Writer) -> Table:
    table = Table(
        title="Monitors of single rows",
        caption="AUROC 0.5 and 5% blocked are chance; threshold of honest chats: preset",
    )
    for head in ("monitor", "attack"):
        table.add_column(head, overflow="fold")
    for head in ("AUROC", "blocked at 5%", "right, not blocked", "honest chats"):
        table.add_column(head, justify="right", overflow="fold")
    for one in pointwise.monitored(results):
        auroc = (
            f"{fixed(one.row.get('auroc'))} {wording.interval(view.ci(one.row, 'auroc'))}"
        )
        cells = [one.monitor, one.attack, auroc.rstrip()]
        cells += map(percent, (one.blocked, one.through, one.preset[-1]))
        table.add_row(*map(write, cells))
    return table


def summary(
    results: view.Results,
    report: str | os.PathLike[str] | None = None,
    console: Console | None = None,
) -> None:
    """Prints what was learned, and what monitors of single rows make of it.

    Args:
      results: a results dict with `text.pointwise`; keys that are absent are left out.
      report: path of the HTML page, printed last.
      console: where to print; standard output unless given.
    """
    console = console or Console()
    write = Writer(console)
    console.print(write(pointwise.headline(results), "bold"))
    if pointwise.outcomes(results):
        console.print(_accuracy(results, write))
    if pointwise.monitored(results):
        console.print(_monitors(results, write))
    unlearned = pointwise.unlearned_words(results)
    if unlearned:
        console.print(write(unlearned, "dim"))
    write.leakage(*view.leakage(results)[1:])
    write.path(report)
