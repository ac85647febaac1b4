"""report.html of simulated customers: whom the audit catches, and whom it accuses.

Drawn from results.json of `configs/job_benchmark.py` alone. Look, escaping and policy are
those of `report/page.py`.
"""

import os
from typing import Any

from cifr_jax.report import jobs_figures, page, view, wording
from cifr_jax.report import jobs_view as jobs
from cifr_jax.report.jobs_view import COMBINED, LEVELS, NAIVE, Rate
from cifr_jax.report.wording import fixed, percent

_TEMPLATE = "jobs.html.jinja"


def _cell(rate: Rate, top: float = 1.0) -> dict[str, Any]:
    """A rate as text with its interval, and as ends of a bar whose end is at `top`."""
    known = rate.share is not None and rate.pair is not None
    place = lambda x: fixed(min((x or 0.0) / top, 1.0), 4)  # noqa: E731
    return {
        "share": percent(rate.share),
        "ci": wording.interval(rate.pair, percent),
        "jobs": rate.jobs,
        "bar": [place(rate.low), place(rate.high), place(rate.share)] if known else None,
    }


def _attack(results: view.Results, name: str, known: jobs.Cell | None) -> dict[str, Any]:
    figures = jobs.customers(results)
    caught = jobs.power(results, name)
    left_out = jobs.mapping(figures, "power_family_left_out").get(name)
    kinds = {
        str(key).removesuffix(" " + name): percent(jobs.rate(value).share)
        for key, value in jobs.mapping(figures, "power_by_kind").items()
        if str(key).endswith(" " + name)
    }
    share = caught.share
    return {
        "name": name,
        "rows": known.rows if known else None,
        "variants": known.variants if known else None,
        "carries": f"{100 * known.share:g}%" if known else None,
        "adaptive": known.adaptive if known else "",
        "one": _cell(caught),
        "tenth": _cell(jobs.power(results, name, "0.001")),
        "left_out": _cell(jobs.rate(left_out)),
        "naive": _cell(jobs.power(results, name, by=NAIVE)),
        "kinds": ", ".join(f"{kind} {value}" for kind, value in kinds.items()),
        "missed": share is not None and share < jobs.MISSED,
        "partly": share is not None and jobs.MISSED <= share < jobs.CAUGHT,
    }


def _families(results: view.Results) -> tuple[list[dict[str, Any]], float]:
    """A line for each honest family, and where the bars end."""
    figures = jobs.customers(results)

    def of(name: str, *keys: str) -> Rate:
        return jobs.rate(jobs.mapping(figures, *keys).get(name))

    found = [
        (
            name,
            of(name, "false_alarms", COMBINED),
            of(name, "false_alarms_family_left_out"),
            of(name, "false_alarms", NAIVE),
        )
        for name in jobs.families(results)
    ]
    top = max([left_out.high or 0.0 for *_, left_out, _ in found], default=1.0) or 1.0
    lines = [
        {
            "name": name,
            "jobs": seen.jobs,
            "seen": _cell(seen),
            "left_out": _cell(left_out, top),
            "naive": _cell(naive),
            "over": (left_out.share or 0.0) > 0.03,
        }
        for name, seen, left_out, naive in found
    ]
    return lines, top


def _sizes(results: view.Results) -> list[dict[str, Any]]:
    """How often each test rejects at each level, on controls and on honest jobs."""
    figures, lines = jobs.customers(results), []
    for name in jobs.tests(results):
        cells = []
        for where in ("size_on_controls", "size_on_honest"):
            for level in LEVELS:
                rate = jobs.rate(jobs.mapping(figures, where, name).get(level))
                above = rate.low is not None and rate.low > float(level)
                cells.append(_cell(rate) | {"above": above})
        lines.append({"name": name, "naive": name == NAIVE, "cells": cells})
    return lines


def _sizes_in_words(lines: list[dict[str, Any]]) -> str:
    """Which tests reject controls more often than they say they do."""
    over = [
        f"{line['name']} at {level}"
        for line in lines
        for level, cell in zip(LEVELS, line["cells"], strict=False)
        if cell["above"] and not line["naive"]
    ]
    if not lines:
        return ""
    if not over:
        return (
            "On controls no test rejects more often than its level: every interval reaches "
            "down to it."
        )
    return (
        f"On controls these reject more often than their level: {wording.joined(over)}. "
        "Their p-values are not to be taken at their word; the verdict takes ranks among "
        "honest jobs instead."
    )


def _context(results: view.Results) -> dict[str, Any]:
    figures = jobs.customers(results)
    attacks = [_attack(results, *one) for one in jobs.attacks(results)]
    families, top = _families(results)
    sizes = _sizes(results)
    overall = {
        name: _cell(jobs.rate(value))
        for name, value in jobs.mapping(figures, "false_alarms_all").items()
    }
    return page.run_facts(results) | {
        "headline": jobs.headline(results),
        "counts": wording.joined(
            [f"{n} {name}" for name, n in jobs.mapping(figures, "jobs").items()]
        ),
        "milliseconds": fixed(figures.get("milliseconds_per_job"), 0),
        "has_tenth": jobs.has_point(results, "0.001"),
        "attacks": [one for one in attacks if not one["adaptive"]],
        "adaptive": [
            one | {"words": jobs.ADAPTIVE_WORDS.get(one["adaptive"])}
            for one in attacks
            if one["adaptive"]
        ],
        "by_rows": jobs_figures.power_by_rows(results),
        "by_share": jobs_figures.power_by_share(results),
        "map": jobs_figures.failure_map(results),
        "roc": jobs_figures.roc(results),
        "region": jobs.region(results),
        "families": families,
        "top": percent(top),
        "overall": overall,
        "controls": {
            name: _cell(jobs.rate(value))
            for name, value in jobs.mapping(figures, "control_alarms").items()
        },
        "sizes": sizes,
        "sizes_words": _sizes_in_words(sizes),
        "levels": LEVELS,
        "untested": jobs.untested(results),
        "weights": [(n, fixed(w)) for n, w in jobs.mapping(figures, "weights").items()],
    }


def render(results: view.Results) -> str:
    """The page as text; the same results give the same text.

    Args:
      results: a results dict with `text.customers`; what is absent leaves its section out.
    """
    return page.render(_TEMPLATE, _context(results))


def write_page(results: view.Results, path: str | os.PathLike[str]) -> None:
    """Writes the page to `path`, whole or not at all.

    Raises:
      UserError: the file system refused.
    """
    page.write(render(results), path)
