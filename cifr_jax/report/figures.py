"""The figures as inline SVG that obeys the page's colours: ROC, layer curve, losses.

A figure is a row of small panels with one legend, both laid out by the page, so that text
stays legible on a narrow screen. Colours are placeholders in the drawing and CSS variables
in the result: one SVG serves light and dark. The bytes depend on the figures alone.
"""

import io
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

from cifr_jax.report import view
from cifr_jax.report.wording import clean, fixed, number

# Tol and Okabe-Ito hues, moved until all pairs stay apart under simulated protanopia,
# deuteranopia and tritanopia and contrast with the page is at least 3:1.
LIGHT = ("#0a6fc2", "#d55e00", "#008f5d", "#a8277f", "#543800", "#1b1b66")
DARK = ("#5aa9f0", "#f07a2c", "#1fae7e", "#d08ac8", "#f3df6b", "#ececec")
DASHES = ((), (6, 2), (2, 1.5), (7, 2, 2, 2))  # in line widths; a second key beside hue
MAX_POINTS = 400  # of a drawn curve: more is not visible and only weighs
MAX_LOSS_PANELS = 24
_FPR_FLOOR = 1e-3  # left edge of the logarithmic axis

_INK, _MUTED, _GRID = "#020101", "#020102", "#020103"
_VARIABLES = {_INK: "var(--ink)", _MUTED: "var(--muted)", _GRID: "var(--line)"} | {
    f"#0300{i:02x}": f"var(--s{i})" for i in range(len(LIGHT))
}
_SIZE = (3.9, 2.75)  # inches
_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may hold "$"
    "text.usetex": False,
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "text.color": _INK,
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
    title: str
    svg: Markup


@dataclass(frozen=True)
class Drawing:
    panels: list[Panel]
    keys: list[Key]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Pen:
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


def _pen(i: int) -> _Pen:
    return _Pen(f"#0300{i % len(LIGHT):02x}", DASHES[i % len(DASHES)])


def _control_pen(i: int) -> _Pen:
    return _Pen(_MUTED, DASHES[1:][i % (len(DASHES) - 1)])


@contextmanager
def _axes(name: str, title: str) -> Iterator[tuple[Axes, list[Panel]]]:
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


def _thinned(points: list[Any]) -> list[Any]:
    step = -(-len(points) // MAX_POINTS) or 1
    return points[::step] + points[-1:] * bool((len(points) - 1) % step)


def _rate_axis(axes: Axes, low: float = 0.0) -> None:
    axes.set_ylim(low - 0.02, 1.02)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def _roc_points(row: view.Row) -> list[tuple[float, float]]:
    pairs = [p for p in row.get("roc") or [] if isinstance(p, list | tuple) and len(p) == 2]
    known = [(number(x), number(y)) for x, y in pairs]
    return sorted((x, y) for x, y in known if x is not None and y is not None)


def roc(results: view.Results) -> Drawing | None:
    """Two panels a learned test cipher, logarithmic and linear; None without data."""
    cell, names = view.main_cell(results), view.monitors(results)
    plain = [m for m in names if not m.control]
    controls = [m for m in names if m.control]
    pens = {m.name: _pen(i) for i, m in enumerate(plain)}
    pens |= {m.name: _control_pen(i) for i, m in enumerate(controls)}
    panels: list[Panel] = []
    used: set[str] = set()
    for i, column in enumerate(c for c in view.columns(results) if c.counts):
        rows = {m.name: view.find_row(results, m.name, column, cell) for m in names}
        curves = {n: points for n, row in rows.items() if (points := _roc_points(row))}
        for scale in ("log", "linear") if curves else ():
            title = f"{column.cipher}, {scale} axis"
            with _axes(f"roc-{i}-{scale}", title) as (axes, done):
                grid = [_FPR_FLOOR * 1000 ** (k / 60) for k in range(61)]
                axes.plot(grid, grid, color=_GRID, linewidth=1.2)
                axes.axvline(0.01, color=_MUTED, linewidth=0.8, dashes=(2, 2))
                # Controls first: what the reader compares lies on top.
                for m in controls + plain[::-1]:
                    if m.name not in curves:
                        continue
                    xs, ys = zip(*curves[m.name], strict=True)
                    if scale == "log":
                        # Straight lines between points would promise too much here.
                        floored = [max(x, _FPR_FLOOR) for x in xs]
                        pens[m.name].draw(axes, floored, ys, drawstyle="steps-post")
                    else:
                        pens[m.name].draw(axes, xs, ys)
                _rate_axis(axes)
                axes.set_xscale(scale)
                axes.set_xlim(_FPR_FLOOR if scale == "log" else -0.02, 1.02)
                if scale == "log":
                    axes.xaxis.set_major_locator(FixedLocator([0.001, 0.01, 0.1, 1]))
                    axes.xaxis.set_major_formatter(
                        FixedFormatter(["0.1%", "1%", "10%", "100%"])
                    )
                    axes.xaxis.set_minor_formatter(NullFormatter())
                axes.set_xlabel("false positive rate")
                axes.set_ylabel("true positive rate")
            panels += done
            used |= curves.keys()
    keys = [pens[m.name].key(m.name + " (control)" * m.control) for m in names]
    keys = [k for k, m in zip(keys, names, strict=True) if m.name in used]
    return Drawing(panels, keys) if panels else None


def layers(results: view.Results) -> Drawing | None:
    """AUROC against the layer: a panel per monitor and pooling, a line per cipher."""
    points = view.entries(results, "layer_curve")
    lines: dict[tuple[str, str], dict[tuple[str, str], list[tuple[float, float]]]] = {}
    for point in points:
        layer, auroc = number(point.get("layer")), number(point.get("auroc"))
        if layer is None or auroc is None:
            continue
        panel = (str(point.get("monitor")), str(point.get("pool")))
        line = (view.cipher_name(point.get("cipher")), str(point.get("role")))
        lines.setdefault(panel, {}).setdefault(line, []).append((layer, auroc))
    ciphers = list(dict.fromkeys(line for panel in lines.values() for line in panel))
    pens = {line: _pen(i) for i, line in enumerate(ciphers)}
    chosen = results.get("selection") or {}
    panels, notes = [], []
    for i, ((monitor, pool), curves) in enumerate(lines.items()):
        low = min(0.4, *(y for curve in curves.values() for _, y in curve))
        title = f"{monitor}, {pool} token" if pool == "last" else f"{monitor}, {pool}"
        with _axes(f"layers-{i}", title) as (axes, done):
            axes.axhline(0.5, color=_GRID, linewidth=1.2)
            layer = number(chosen.get("layer"))
            if layer is not None and chosen.get("pool") == pool:
                axes.axvline(layer, color=_MUTED, linewidth=0.8, dashes=(2, 2))
            for line, curve in curves.items():
                xs, ys = zip(*sorted(curve), strict=True)
                pens[line].draw(axes, xs, ys, marker="o", markersize=3)
            _rate_axis(axes, low)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_xlabel("layer")
            axes.set_ylabel("AUROC")
        panels += done
        top, at, cipher = max((y, x, c) for (c, _), xy in curves.items() for x, y in xy)
        notes.append(f"{title}: highest {fixed(top)} at layer {at:.0f} ({cipher}).")
    keys = []
    for cipher, role in ciphers:
        missed = ", not learned" * (view.learned(results, cipher, role) is False)
        words = f"{cipher} ({view.ROLE_WORDS.get(role, role)}{missed})"
        keys.append(pens[cipher, role].key(words))
    return Drawing(panels, keys, notes) if panels else None


def losses(results: view.Results) -> Drawing | None:
    """Training loss against the step, a panel per job; the first jobs if there are many."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for point in view.entries(results, "losses"):
        step, loss = number(point.get("step")), number(point.get("loss"))
        if step is not None and loss is not None:
            curves.setdefault(str(point.get("job")), []).append((step, loss))
    top = max((y for curve in curves.values() for _, y in curve), default=0.0)
    low = min((y for curve in curves.values() for _, y in curve), default=0.0)
    panels, notes = [], []
    for i, (job, curve) in enumerate(list(curves.items())[:MAX_LOSS_PANELS]):
        with _axes(f"losses-{i}", job) as (axes, done):
            xs, ys = zip(*_thinned(sorted(curve)), strict=True)
            _pen(0).draw(axes, xs, ys)
            # One scale for all jobs: their ends are what the reader compares.
            pad = 0.05 * (top - low) or 0.05
            axes.set_ylim(min(low, 0.0) - pad, top + pad)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.set_xlabel("step")
            axes.set_ylabel("loss on assistant tokens")
        panels += done
    if len(curves) > MAX_LOSS_PANELS:
        notes.append(f"{len(curves) - MAX_LOSS_PANELS} more jobs are in results.json.")
    return Drawing(panels, [], notes) if panels else None
