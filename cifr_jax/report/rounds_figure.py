"""The rounds of a job's training as a figure of its verdict's page."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import MaxNLocator

from cifr_jax.report.drawing import Drawing, axes_of_panel, pen, thinned
from cifr_jax.report.wording import fixed, number

# Key of a round, title of its panel, label of its axis.
_PANELS = (
    ("loss", "training loss", "nats a token"),
    ("drift", "drift of activations", "share of the base's length"),
    ("weight_change", "weight change", "Frobenius norm"),
)


def drawing(rounds: Sequence[Mapping[str, Any]]) -> Drawing | None:
    """A panel for each figure of the rounds, over steps; None without two rounds.

    Args:
      rounds: the key "rounds" of verdict.json; what is no number is left out.
    """
    panels, notes = [], []
    for name, title, label in _PANELS:
        known = [(number(one.get("step")), number(one.get(name))) for one in rounds]
        points = sorted((x, y) for x, y in known if x is not None and y is not None)
        if len(points) < 2:
            continue
        with axes_of_panel(f"rounds-{name}", title) as (axes, done):
            xs, ys = zip(*thinned(points), strict=True)
            pen(0).draw(axes, xs, ys, marker="o", markersize=3)
            axes.set_ylim(bottom=min(0.0, *ys))
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.set_xlabel("step")
            axes.set_ylabel(label)
        panels += done
        (first, begin), (last, end) = points[0], points[-1]
        notes.append(
            f"{title}: {fixed(begin)} at step {first:.0f}, {fixed(end)} at step {last:.0f}."
        )
    return Drawing(panels, [], notes) if panels else None
