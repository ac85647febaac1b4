"""report.html of the trained pointwise attacks: what was learned, and what no row betrays.

Drawn from results.json of `configs/pointwise.py` alone. Look, escaping and policy are those
of `report/page.py`.
"""

import math
import os
from typing import Any

from cifr_jax.report import drawing, figures, page, view, wording
from cifr_jax.report import pointwise_view as pointwise
from cifr_jax.report.drawing import GRID, INK, MUTED, Drawing, Panel, axes_of_panel, pen
from cifr_jax.report.pointwise_view import Monitored, Outcome, Share
from cifr_jax.report.wording import clean, fixed, number, percent

_TEMPLATE = "pointwise.html.jinja"
_MOST_PANELS = 12
_MOST_NAME = 16  # letters of a job's name under an axis


def _share(share: Share) -> dict[str, Any]:
    return {
        "value": percent(share.value),
        "ci": wording.interval(share.pair, percent),
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    pair = outcome.right.pair or []
    ends = [number(end) for end in pair]
    bar = None
    if outcome.right.value is not None and len(ends) == 2 and None not in ends:
        bar = [fixed(x, 4) for x in (*ends, outcome.right.value)]
    return {
        "job": outcome.job,
        "control": outcome.control,
        "test": outcome.test,
        "items": outcome.items,
        "right": _share(outcome.right),
        "bar": bar,
        "unparseable": percent(outcome.unparseable),
        "direct": _share(outcome.direct),
        "longest": _share(outcome.longest),
        "chance": percent(outcome.chance),
        "learned": outcome.learned,
    }


def _monitored(one: Monitored) -> dict[str, Any]:
    row = one.row
    rates = pointwise.mapping(row, "tpr_at_fpr")
    return {
        "attack": one.attack,
        "monitor": one.monitor,
        "rows": (row.get("n_positive"), row.get("n_negative")),
        "auroc": fixed(row.get("auroc")),
        "auroc_ci": wording.interval(view.ci(row, "auroc")),
        "tpr": percent(rates.get("0.01")),
        "tpr_ci": wording.interval(view.ci(row, "tpr_at_1pct"), percent),
        "blocked": percent(one.blocked),
        "through": percent(one.through),
        "preset": [percent(share) for share in one.preset],
        "cost": row.get("seconds_per_1000"),
    }


def _likelihood(name: str, one: Any) -> dict[str, Any]:
    def chance(key: str) -> str:
        log_p = number(one.get(key))
        if log_p is None:
            return wording.MISSING
        return f"{math.exp(log_p):.2g}" if log_p > -700 else "below 1e-304"

    return {
        "name": name,
        "least": fixed(one.get("least_log_prob"), 2),
        "least_p": chance("least_log_prob"),
        "median": fixed(one.get("median_log_prob"), 2),
        "median_p": chance("median_log_prob"),
        "above": percent(one.get("share_above_threshold")),
    }


def accuracies(results: view.Results) -> Drawing | None:
    """A panel for each set of items: every job after decoding, beside the baselines."""
    tests: dict[str, list[Outcome]] = {}
    for outcome in pointwise.outcomes(results):
        if outcome.right.value is not None:
            tests.setdefault(outcome.test, []).append(outcome)
    panels: list[Panel] = []
    for i, (test, found) in enumerate(list(tests.items())[:_MOST_PANELS]):
        with axes_of_panel(f"accuracy-{i}", test) as (axes, done):
            chance = found[0].chance
            if chance is not None:
                axes.axhline(chance, color=GRID, linewidth=1.6)
            for x, outcome in enumerate(found):
                if outcome.right.pair:
                    pen(0).draw(axes, [x, x], outcome.right.pair)
                pen(0).draw(axes, [x], [outcome.right.value or 0.0], marker="o")
                for share, marker, shift in (
                    (outcome.direct, "s", 0.16),
                    (outcome.longest, "^", 0.3),
                ):
                    if share.value is not None:
                        axes.plot(
                            [x + shift], [share.value], color=MUTED, marker=marker,
                            markersize=5, fillstyle="none",
                        )  # fmt: skip
            drawing.rate_axis(axes)
            names = [clean(outcome.job) for outcome in found]
            cut = [n if len(n) <= _MOST_NAME else n[:_MOST_NAME] + "…" for n in names]
            axes.set_xticks(range(len(found)), cut, color=INK)
            axes.set_xlim(-0.5, len(found) - 0.2)
            axes.set_ylabel("share of items right")
        panels += done
    return Drawing(panels, []) if panels else None


def _context(results: view.Results) -> dict[str, Any]:
    found = pointwise.figures(results)
    outcomes = pointwise.outcomes(results)
    after = {
        str(name): pointwise.mapping(one).get("asked_directly_after")
        for name, one in pointwise.mapping(found, "attacks").items()
    }
    return page.run_facts(results) | {
        "headline": pointwise.headline(results),
        "gate": results.get("learned_gate"),
        "unlearned": pointwise.unlearned_words(results),
        "outcomes": [_outcome(outcome) for outcome in outcomes],
        "accuracies": accuracies(results),
        "threshold": number(found.get("threshold")),
        "likelihoods": [_likelihood(*one) for one in pointwise.likelihoods(results)],
        "kept": [
            {
                "name": name,
                "before": fixed(before),
                "after": fixed(after_loss),
                "direct": percent(after.get(name)),
            }
            for name, before, after_loss in pointwise.losses_of_honest(results)
        ],
        "monitored": [_monitored(one) for one in pointwise.monitored(results)],
        "losses": figures.losses(results),
        "limits": view.entries(results, "limits"),
    }


def render(results: view.Results) -> str:
    """The page as text; the same results give the same text.

    Args:
      results: a results dict with `text.pointwise`; what is absent leaves its section out.
    """
    return page.render(_TEMPLATE, _context(results))


def write_page(results: view.Results, path: str | os.PathLike[str]) -> None:
    """Writes the page to `path`, whole or not at all.

    Raises:
      UserError: the file system refused.
    """
    page.write(render(results), path)
