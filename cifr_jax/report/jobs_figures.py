"""Drawings of simulated customers: power curves, the map of what is caught, ROC."""

from collections.abc import Callable
from typing import NamedTuple

from cifr_jax.report import view
from cifr_jax.report.drawing import (
    GRID,
    INK,
    Drawing,
    Panel,
    axes_of_panel,
    fpr_axis,
    log_axis,
    pen,
    rate_axis,
)
from cifr_jax.report.jobs_view import (
    CAUGHT,
    COMBINED,
    MISSED,
    NAIVE,
    Cell,
    Rate,
    attacks,
    power,
)
from cifr_jax.report.wording import fixed, number

_MOST_PANELS = 12
_MOST_LINES = 6  # of a panel: more cannot be told apart
_SLACK = 1 + 1e-9  # a rate of 1% is not missed by rounding
_GRID_FPR = [0.001 * 1000 ** (k / 150) for k in range(151)]


class _Point(NamedTuple):
    x: float
    caught: Rate


def _plain(results: view.Results) -> list[tuple[Cell, Rate]]:
    """Attacks that know no detector, with what is caught of them at 1%."""
    found = [(c, power(results, name)) for name, c in attacks(results) if c is not None]
    return [(c, r) for c, r in found if not c.adaptive and r.pair and r.share is not None]


def _curves(
    results: view.Results,
    name: str,
    panel_of: Callable[[Cell], tuple[float, str]],
    x_of: Callable[[Cell], float],
    x_label: str,
    tick: Callable[[float], str],
) -> Drawing | None:
    """A panel for each value of `panel_of`, a line for each number of variants."""
    grouped: dict[tuple[float, str], dict[int, list[_Point]]] = {}
    for cell, caught in _plain(results):
        lines = grouped.setdefault(panel_of(cell), {})
        lines.setdefault(cell.variants, []).append(_Point(x_of(cell), caught))
    variants = sorted({m for lines in grouped.values() for m in lines})[:_MOST_LINES]
    pens = {m: pen(i) for i, m in enumerate(variants)}
    panels: list[Panel] = []
    drawn: set[int] = set()
    order = sorted(grouped, reverse=True)[:_MOST_PANELS]
    for i, key in enumerate(order):
        lines = {m: sorted(p) for m, p in grouped[key].items() if m in pens and len(p) > 1}
        if not lines:
            continue
        ticks = sorted({point.x for points in lines.values() for point in points})
        with axes_of_panel(f"{name}-{i}", key[1]) as (axes, done):
            axes.axhspan(-0.02, CAUGHT, color=GRID, alpha=0.35, linewidth=0)
            for m, points in lines.items():
                xs = [point.x for point in points]
                lows = [point.caught.low or 0.0 for point in points]
                highs = [point.caught.high or 0.0 for point in points]
                pens[m].band(axes, xs, lows, highs)
                shares = [point.caught.share or 0.0 for point in points]
                pens[m].draw(axes, xs, shares, marker="o", markersize=3)
            log_axis(axes, ticks, [tick(x) for x in ticks])
            rate_axis(axes)
            axes.set_xlabel(x_label)
            axes.set_ylabel("share of jobs caught")
        panels += done
        drawn |= lines.keys()
    keys = [pens[m].key(_variants(m)) for m in variants if m in drawn]
    return Drawing(panels, keys) if panels else None


def _variants(m: int) -> str:
    return "one reply a letter" if m == 1 else f"{m} replies a letter"


def power_by_rows(results: view.Results) -> Drawing | None:
    """Power at 1% against the rows of a job: a panel for each share that carries."""
    return _curves(
        results,
        "power-rows",
        lambda cell: (cell.share, f"{100 * cell.share:g}% of rows carry the code"),
        lambda cell: float(cell.rows),
        "rows of the job",
        lambda x: f"{x:.0f}",
    )


def power_by_share(results: view.Results) -> Drawing | None:
    """Power at 1% against the share of rows that carry: a panel for each size of job."""
    return _curves(
        results,
        "power-share",
        lambda cell: (float(cell.rows), f"{cell.rows} rows"),
        lambda cell: cell.share,
        "share of rows that carry the code",
        lambda x: f"{100 * x:g}%",
    )


def failure_map(results: view.Results) -> Drawing | None:
    """What is caught and what is not, over rows and shares: a panel for each number of
    variants. A disc: at least 90% of jobs; a ring: at least half; a cross: fewer."""
    grouped: dict[int, list[tuple[Cell, Rate]]] = {}
    for cell, caught in _plain(results):
        grouped.setdefault(cell.variants, []).append((cell, caught))
    rows = sorted({cell.rows for found in grouped.values() for cell, _ in found})
    shares = sorted({cell.share for found in grouped.values() for cell, _ in found})
    panels: list[Panel] = []
    for i, m in enumerate(sorted(grouped)[:_MOST_PANELS]):
        with axes_of_panel(f"map-{i}", _variants(m)) as (axes, done):
            for cell, caught in grouped[m]:
                share = caught.share or 0.0
                sure = share >= CAUGHT
                axes.plot(
                    [cell.rows],
                    [cell.share],
                    color=INK,
                    marker="x" if share < MISSED else "o",
                    markersize=9,
                    markeredgewidth=1.6,
                    fillstyle="full" if sure else "none",
                )
            log_axis(axes, [float(n) for n in rows], [str(n) for n in rows])
            axes.set_yscale("log")
            axes.set_yticks(shares, [f"{100 * s:g}%" for s in shares])
            axes.set_yticks([], minor=True)
            axes.set_ylim(min(shares) / 1.4, max(shares) * 1.4)
            axes.set_xlabel("rows of the job")
            axes.set_ylabel("share that carries")
        panels += done
    return Drawing(panels, []) if panels else None


def _steps(row: view.Row) -> list[float] | None:
    """True positive rates of a row on `_GRID_FPR`, read off as steps; None without any."""
    points = []
    for pair in row.get("roc") or []:
        if isinstance(pair, list | tuple) and len(pair) == 2:
            x, y = number(pair[0]), number(pair[1])
            if x is not None and y is not None:
                points.append((x, y))
    if not points:
        return None
    return [
        max((y for x, y in points if x <= fpr * _SLACK), default=0.0) for fpr in _GRID_FPR
    ]


def roc(results: view.Results) -> Drawing | None:
    """The combined score, beside the naive test where that was run: all attacks, then each
    that the combination misses in part, most jobs first.

    All attacks are held against the same honest jobs, so that the curve of all is the mean
    of theirs by jobs.
    """
    of: dict[str, dict[str, tuple[list[float], float]]] = {}
    for row in view.entries(results, "rows") or view.entries(results, "job_rows"):
        steps, jobs = _steps(row), number(row.get("n_positive"))
        if row.get("monitor") in (COMBINED, NAIVE) and steps and jobs:
            found = of.setdefault(view.cipher_name(row.get("cipher")), {})
            found[str(row.get("monitor"))] = (steps, jobs)
    if not of:
        return None
    pens = {COMBINED: pen(0), NAIVE: pen(1)}
    shown: dict[str, dict[str, list[float]]] = {"all attacks": {}}
    for monitor in pens:
        parts = [found[monitor] for found in of.values() if monitor in found]
        total = sum(jobs for _, jobs in parts)
        if total:
            shown["all attacks"][monitor] = [
                sum(steps[k] * jobs for steps, jobs in parts) / total
                for k in range(len(_GRID_FPR))
            ]
    missed = [name for name in of if (power(results, name).share or 0.0) < 1.0]
    missed.sort(key=lambda name: -max(jobs for _, jobs in of[name].values()))
    for name in missed[: _MOST_PANELS - 1]:
        shown[name] = {monitor: steps for monitor, (steps, _) in of[name].items()}
    panels: list[Panel] = []
    for i, (title, curves) in enumerate(shown.items()):
        with axes_of_panel(f"roc-{i}", title) as (axes, done):
            axes.plot(_GRID_FPR, _GRID_FPR, color=GRID, linewidth=1.2)
            for monitor, steps in curves.items():
                pens[monitor].draw(axes, _GRID_FPR, steps, drawstyle="steps-post")
            rate_axis(axes)
            fpr_axis(axes)
            axes.set_xlabel("false alarms among honest jobs")
            axes.set_ylabel("share of attacks caught")
        panels += done
    at = next(k for k, fpr in enumerate(_GRID_FPR) if fpr >= 0.01 - 1e-12)
    notes = [
        f"{monitor} over all attacks at 1%: {fixed(steps[at])}."
        for monitor, steps in shown["all attacks"].items()
    ]
    keys = [p.key(name) for name, p in pens.items() if name in shown["all attacks"]]
    return Drawing(panels, keys, notes)
