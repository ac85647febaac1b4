"""alarms.html: which accounts stand accused, on one page, from alarms.json alone.

Look, escaping and policy are those of `report/page.py`. Of the traffic the page shows
names of accounts, numbers of lines and counts, never text.
"""

import os
from collections.abc import Mapping
from typing import Any

from cifr_jax.report import page, wording
from cifr_jax.report.verdict_wording import p_value
from cifr_jax.report.wording import fixed, number, percent

_TEMPLATE = "stream.html.jinja"
_MOST = 50  # accounts of a list: the others are in alarms.json

Alarms = Mapping[str, Any]


def entries(value: Any, key: str) -> list[Any]:
    """The list under `key`, or an empty one."""
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, list) else []


def e_value(one: Mapping[str, Any]) -> str:
    """An e-value, as a power of ten from a million on."""
    log10_e = number(one.get("log10_e"))
    if log10_e is None:
        return wording.MISSING
    if log10_e >= 6:
        return f"10^{log10_e:.1f}"
    return f"{10**log10_e:.3g}" if log10_e > -6 else "below 1e-6"


def _account(one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": one.get("name"),
        "kind": one.get("kind"),
        "rows": one.get("rows"),
        "bet": one.get("rows_bet_on"),
        "e": e_value(one),
        "p": p_value(one.get("any_time_p")),
        "wording": one.get("wording"),
    }


def _alarm(one: Mapping[str, Any]) -> dict[str, Any]:
    now = one.get("now")
    now = now if isinstance(now, Mapping) else {}
    bar = number(one.get("bar"))
    return {
        "name": one.get("name"),
        "kind": one.get("kind"),
        "line": one.get("line"),
        "row": one.get("row"),
        "e": e_value(one),
        "bar": None if bar is None else f"{bar:.4g}",
        "accounts": one.get("accounts_then"),
        "stands": bool(one.get("stands")),
        "e_now": e_value(now),
        "wording": now.get("wording"),
    }


def _totals(alarms: Alarms) -> list[dict[str, Any]]:
    totals = alarms.get("accounts")
    totals = totals if isinstance(totals, Mapping) else {}
    return [
        {"kind": kind, **{name: one.get(name) for name in _COUNTS}}
        for kind, one in totals.items()
        if isinstance(one, Mapping)
    ]


_COUNTS = ("seen", "tested", "rows", "items", "repeated", "unanswered", "bet")


def _context(alarms: Alarms) -> dict[str, Any]:
    bad = alarms.get("bad_lines") or {}
    untested = alarms.get("not_tested") or {}
    base = alarms.get("base_model") or {}
    highest = [_account(one) for one in entries(alarms, "highest")]
    first_untested = entries(untested, "first")
    return {
        "title": f"cifr_jax: {wording.clean(alarms.get('traffic') or 'traffic')}",
        "traffic": alarms.get("traffic"),
        "verdict": alarms.get("verdict"),
        "accused": any(one.get("stands") for one in entries(alarms, "alarms")),
        "alpha": percent(alarms.get("alpha")),
        "one_bar": fixed(1 / a, 0) if (a := number(alarms.get("alpha"))) else None,
        "rule": alarms.get("rule"),
        "lines": alarms.get("lines"),
        "base_name": base.get("name"),
        "base_parameters": number(base.get("parameters")),
        "alarms": [_alarm(one) for one in entries(alarms, "alarms")],
        "totals": _totals(alarms),
        "highest": highest[:_MOST],
        "more_highest": max(len(highest) - _MOST, 0),
        "untested": first_untested[:_MOST],
        "n_untested": number(untested.get("count")) or 0,
        "bad": entries(bad, "first"),
        "n_bad": number(bad.get("count")) or 0,
        "unended": alarms.get("unended_line"),
        "limits": entries(alarms, "limits"),
        "environment": list(wording.flattened(alarms.get("environment") or {})),
        "config": list(wording.flattened(alarms.get("config") or {})),
        "schema": alarms.get("schema"),
    }


def render(alarms: Alarms) -> str:
    """The page as text; the same alarms give the same text.

    Args:
      alarms: alarms.json (schema 1); what is absent leaves a gap.
    """
    return page.render(_TEMPLATE, _context(alarms))


def write_page(alarms: Alarms, path: str | os.PathLike[str]) -> None:
    """Writes the page to `path`, whole or not at all.

    Raises:
      UserError: the file system refused.
    """
    page.write(render(alarms), path)
