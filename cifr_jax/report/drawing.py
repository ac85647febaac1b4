"""Small panels as inline SVG that obeys the page's colours.

A figure is a row of panels with one legend, both laid out by the page, so that text stays
legible on a narrow screen. Colours are placeholders in the drawing and CSS variables in
the result: one SVG serves light and dark. The bytes depend on what is drawn alone.
"""

import io
import math
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullFormatter

from cifr_jax.report.wording import clean

# Tol and Okabe-Ito hues, moved until all pairs stay apart under simulated protanopia,
# deuteranopia and tritanopia and contrast with the page is at least 3:1.
LIGHT = ("#0a6fc2", "#d55e00", "#008f5d", "#a8277f", "#543800", "#1b1b66")
DARK = ("#5aa9f0", "#f07a2c", "#1fae7e", "#d08ac8", "#f3df6b", "#ececec")
DASHES = ((), (6, 2), (2, 1.5), (7, 2, 2, 2))  # in line widths; a second key beside hue
MAX_POINTS = 400  # of a drawn curve: more is not visible and only weighs
FPR_FLOOR = 1e-3  # left edge of the logarithmic axis

INK, MUTED, GRID = "#020101", "#020102", "#020103"
_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--line)"} | {
    f"#0300{i:02x}": f"var(--s{i})" for i in range(len(LIGHT))
}
_SIZE = (3.9, 2.75)  # inches
_LETTER = 0.027  # width of a letter and its share of a gap, of the axis's width
_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may hold "$"
    "text.usetex": False,
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "lines.linewidth": 1.6,
}


@dataclass(frozen=True)
class Key:
    """One line of a legend; `color` is a CSS value, `dash` an SVG dash array."""

    label: str
    color: str
    dash: str


@dataclass(frozen=True)
class Panel:
    """A finished drawing and the words above it."""

    title: str
    svg: Markup


@dataclass(frozen=True)
class Drawing:
    """Panels with one legend; `notes` are sentences of the caption."""

    panels: list[Panel]
    keys: list[Key]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Pen:
    """A colour (a placeholder) and a dash, given together so that neither is alone."""

    color: str
    dashes: tuple[float, ...]

    def key(self, label: str) -> Key:
        scale = _STYLE["lines.linewidth"]
        dash = " ".join(f"{scale * length:g}" for length in self.dashes)
        return Key(label, _VARIABLES[self.color], dash)

    def draw(self, axes: Axes, xs: Iterable[float], ys: Iterable[float], **kw: Any) -> None:
        (line,) = axes.plot(list(xs), list(ys), color=self.color, **kw)
        if self.dashes:
            line.set_dashes(self.dashes)

    def band(
        self, axes: Axes, xs: list[float], lows: list[float], highs: list[float]
    ) -> None:
        """Shades what lies between two lines, such as the ends of intervals."""
        axes.fill_between(xs, lows, highs, color=self.color, alpha=0.15, linewidth=0)


def pen(i: int) -> Pen:
    """The pen of the i-th line; hue and dash give twelve that differ."""
    return Pen(f"#0300{i % len(LIGHT):02x}", DASHES[i % len(DASHES)])


def control_pen(i: int) -> Pen:
    """The muted pen of the i-th control."""
    return Pen(MUTED, DASHES[1:][i % (len(DASHES) - 1)])


@contextmanager
def axes_of_panel(name: str, title: str) -> Iterator[tuple[Axes, list[Panel]]]:
    """Yields axes to draw on and a list that holds the finished panel afterwards."""
    done: list[Panel] = []
    with warnings.catch_warnings(), matplotlib.rc_context():
        # A letter that the layout font lacks is still drawn by the reader's own font.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE | {"svg.hashsalt": name})
        figure = Figure(figsize=_SIZE)
        # Fixed margins: the lettering is the reader's, so there is nothing to fit to.
        yield figure.add_axes((0.15, 0.17, 0.8, 0.79)), done
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    done.append(Panel(clean(title), _inline(buffer.getvalue(), name, clean(title))))


def _inline(svg: bytes, name: str, title: str) -> Markup:
    """Matplotlib's SVG file as an element of a page.

    Drops what only a file needs (namespaces, metadata, a style rule that would reach the
    whole page), makes ids unique to `name`, and puts CSS variables for the colours.
    """
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        old, element.attrib = dict(element.attrib), {}
        for key, value in old.items():
            key = key.rpartition("}")[2]
            if key == "id":
                value = f"{name}-{value}"
            elif key == "href":
                value = f"#{name}-{value[1:]}"
            elif key == "clip-path":
                value = value.replace("url(#", f"url(#{name}-")
            elif key == "style":
                value = re.sub(r"#0[23]\w{4}", lambda m: _VARIABLES[m[0]], value)
            elif key == "d":
                value = re.sub(r"(\.\d\d)\d+", r"\1", value)  # a hundredth of a point
            element.set(key, value)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": title}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def thinned(points: list[Any]) -> list[Any]:
    """At most about `MAX_POINTS` of the points, the last among them."""
    step = -(-len(points) // MAX_POINTS) or 1
    return points[::step] + points[-1:] * bool((len(points) - 1) % step)


def rate_axis(axes: Axes, low: float = 0.0) -> None:
    """Makes the vertical axis that of a rate from `low` to 1."""
    axes.set_ylim(low - 0.02, 1.02)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def fpr_axis(axes: Axes) -> None:
    """A logarithmic axis of false positive rates, from 0.1%; a line at 1%."""
    axes.axvline(0.01, color=MUTED, linewidth=0.8, dashes=(2, 2))
    axes.set_xscale("log")
    axes.set_xlim(FPR_FLOOR, 1.02)
    axes.xaxis.set_major_locator(FixedLocator([0.001, 0.01, 0.1, 1]))
    axes.xaxis.set_major_formatter(FixedFormatter(["0.1%", "1%", "10%", "100%"]))
    axes.xaxis.set_minor_formatter(NullFormatter())


def log_axis(axes: Axes, ticks: list[float], labels: list[str]) -> None:
    """A logarithmic horizontal axis with ticks at what was measured, in rising order.

    Labels that would run into their neighbour are left out; the last one stays.
    """
    low, high = math.log(min(ticks)) - 0.14, math.log(max(ticks)) + 0.14
    shown, free = [""] * len(ticks), math.inf
    for i in range(len(ticks) - 1, -1, -1):
        at = (math.log(ticks[i]) - low) / (high - low)
        width = _LETTER * len(labels[i])
        if at + width / 2 <= free:
            shown[i], free = labels[i], at - width / 2
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FixedFormatter(shown))
    axes.xaxis.set_minor_locator(FixedLocator([]))
    axes.set_xlim(math.exp(low), math.exp(high))
