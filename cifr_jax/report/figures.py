"""The figures of a benchmark: ROC, layer curve, losses (`drawing.py` draws them)."""

from matplotlib.ticker import MaxNLocator

from cifr_jax.report import view
from cifr_jax.report.drawing import (
    FPR_FLOOR,
    GRID,
    MUTED,
    Drawing,
    Panel,
    axes_of_panel,
    control_pen,
    fpr_axis,
    pen,
    rate_axis,
    thinned,
)
from cifr_jax.report.wording import fixed, number

MAX_LOSS_PANELS = 24


def _roc_points(row: view.Row) -> list[tuple[float, float]]:
    pairs = [p for p in row.get("roc") or [] if isinstance(p, list | tuple) and len(p) == 2]
    known = [(number(x), number(y)) for x, y in pairs]
    return sorted((x, y) for x, y in known if x is not None and y is not None)


def roc(results: view.Results) -> Drawing | None:
    """Two panels a learned test cipher, logarithmic and linear; None without data."""
    cell, names = view.main_cell(results), view.monitors(results)
    plain = [m for m in names if not m.control]
    controls = [m for m in names if m.control]
    pens = {m.name: pen(i) for i, m in enumerate(plain)}
    pens |= {m.name: control_pen(i) for i, m in enumerate(controls)}
    panels: list[Panel] = []
    used: set[str] = set()
    for i, column in enumerate(c for c in view.columns(results) if c.counts):
        rows = {m.name: view.find_row(results, m.name, column, cell) for m in names}
        curves = {n: points for n, row in rows.items() if (points := _roc_points(row))}
        for scale in ("log", "linear") if curves else ():
            title = f"{column.cipher}, {scale} axis"
            with axes_of_panel(f"roc-{i}-{scale}", title) as (axes, done):
                grid = [FPR_FLOOR * 1000 ** (k / 60) for k in range(61)]
                axes.plot(grid, grid, color=GRID, linewidth=1.2)
                # Controls first: what the reader compares lies on top.
                for m in controls + plain[::-1]:
                    if m.name not in curves:
                        continue
                    xs, ys = zip(*curves[m.name], strict=True)
                    if scale == "log":
                        # Straight lines between points would promise too much here.
                        floored = [max(x, FPR_FLOOR) for x in xs]
                        pens[m.name].draw(axes, floored, ys, drawstyle="steps-post")
                    else:
                        pens[m.name].draw(axes, xs, ys)
                rate_axis(axes)
                if scale == "log":
                    fpr_axis(axes)
                else:
                    axes.axvline(0.01, color=MUTED, linewidth=0.8, dashes=(2, 2))
                    axes.set_xlim(-0.02, 1.02)
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
    pens = {line: pen(i) for i, line in enumerate(ciphers)}
    chosen = results.get("selection") or {}
    panels, notes = [], []
    for i, ((monitor, pool), curves) in enumerate(lines.items()):
        low = min(0.4, *(y for curve in curves.values() for _, y in curve))
        title = f"{monitor}, {pool} token" if pool == "last" else f"{monitor}, {pool}"
        with axes_of_panel(f"layers-{i}", title) as (axes, done):
            axes.axhline(0.5, color=GRID, linewidth=1.2)
            layer = number(chosen.get("layer"))
            if layer is not None and chosen.get("pool") == pool:
                axes.axvline(layer, color=MUTED, linewidth=0.8, dashes=(2, 2))
            for line, curve in curves.items():
                xs, ys = zip(*sorted(curve), strict=True)
                pens[line].draw(axes, xs, ys, marker="o", markersize=3)
            rate_axis(axes, low)
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
        with axes_of_panel(f"losses-{i}", job) as (axes, done):
            xs, ys = zip(*thinned(sorted(curve)), strict=True)
            pen(0).draw(axes, xs, ys)
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
