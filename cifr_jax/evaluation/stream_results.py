"""alarms.json: who stands accused in a stream, and what could not be tested.

{"schema": 1, "alpha", "lines", "bad_lines": {"count", "first"}, "unended_line",
 "accounts": {"account": {"seen", "tested", ...}, "cluster": {...}},
 "alarms": [{"kind", "name", "line", "row", "log10_e", "e_value", "bar", ...}],
 "highest": [...], "not_tested": {"count", "first"}, "verdict", "limits", ...}
"""

import math
from collections.abc import Sequence
from typing import Any

from cifr_jax.monitors.stream.discoveries import Discoveries
from cifr_jax.monitors.stream.state import Standing, StreamState

SCHEMA = 1
MOST = 200  # accounts of each list
_TOP_E = 1e300  # larger e-values do not fit into a float

LIMITS = [
    "Tested is one thing: whether the wording of replies depends on where the base model's "
    "own answer to an embedded multiple-choice item stands, given the label of the reply, "
    "the kind of item and the customer's template. Keyed codes, codes on other latents, "
    "codes in the label itself, requests without such an item, and all but the most "
    "plausible of several items in one request go unseen.",
    "Evidence holds if replies to different items are exchangeable given those. Broken by "
    "prompts chosen in view of replies of the same block of four; by one item whose "
    "options are slightly reworded, with the same reply each time (equal options are bet "
    "on once); and by several authors behind one account, each with wordings and answer "
    "positions of their own: in simulation most of the latter are accused, all honest.",
    "The stated rate is that of honest accounts among those that stand accused at one "
    "time; alarms that have fallen stay on the list and are marked.",
    "Clusters are taken as given: whether accounts belong together is not tested.",
]


def _e(log_e: float) -> dict[str, float]:
    # + 0.0 makes no evidence 0 and not -0.
    return {
        "log10_e": round(log_e / math.log(10), 6) + 0.0,
        "e_value": math.exp(log_e) if log_e < math.log(_TOP_E) else _TOP_E,
    }


def untested_because(one: Standing, block: int) -> str:
    """Why nothing was bet on."""
    if not one.items:
        return f"no multiple-choice item in any of {one.rows} rows"
    left = one.items - one.repeated - one.unanswered
    if not left:
        return (
            f"of {one.items} rows with an item {one.repeated} repeat one, and to "
            f"{one.unanswered} the base has no answer"
        )
    return f"{left} rows to bet on, but never {block} of one label, kind and template"


def _line(one: Standing) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "name": one.name,
        "rows": one.rows,
        "rows_with_item": one.items,
        "rows_repeated": one.repeated,
        "rows_bet_on": one.bet,
        **_e(one.log_e),
        "any_time_p": min(1.0, math.exp(-one.log_peak)),
        "wording": one.wording,
    }


def _verdict(accused: int, tested: int, seen: int) -> str:
    if not seen:
        return "nothing was read"
    if not tested:
        return "nothing could be tested: that is no sign that the traffic is honest"
    if accused:
        return f"{accused} of {tested} tested accounts and clusters stand accused"
    return f"none of {tested} tested accounts and clusters stands accused"


def assemble(
    state: StreamState,
    discoveries: Discoveries,
    lines: int,
    bad: tuple[int, Sequence[tuple[int, str]]],
    unended: bool,
    block: int,
) -> dict[str, Any]:
    """Everything but the environment.

    Args:
      state: of the stream.
      discoveries: who was accused.
      lines: read so far.
      bad: how many lines could not be read; number and fault of the first of them.
      unended: whether a line without an end was left for the next call.
      block: exchanges bet on together.
    """
    standing = discoveries.standing()
    totals = state.totals()
    alarms = []
    for alarm in discoveries.alarms.values():
        own = state.standing(alarm.account)
        alarms.append(
            {
                "kind": own.kind,
                "name": own.name,
                "line": alarm.line,
                "row": alarm.row,
                **_e(alarm.log_e),
                "bar": _e(alarm.log_bar)["e_value"],
                "accounts_then": alarm.accounts,
                "stands": alarm.account in standing,
                "now": _line(own),
            }
        )
    untested = state.standings(MOST, tested=False)
    seen = sum(one["seen"] for one in totals.values())
    tested = sum(one["tested"] for one in totals.values())
    return {
        "schema": SCHEMA,
        "verdict": _verdict(len(standing), tested, seen),
        "alpha": discoveries.alpha,
        "rule": "e-BH over all accounts and clusters seen",
        "lines": lines,
        "bad_lines": {
            "count": bad[0],
            "first": [{"line": line, "what": what} for line, what in bad[1]],
        },
        "unended_line": lines + 1 if unended else None,
        "accounts": totals,
        "alarms": alarms,
        "highest": [_line(one) for one in state.standings(MOST)],
        "not_tested": {
            "count": seen - tested,
            "first": [
                {"kind": one.kind, "name": one.name, "why": untested_because(one, block)}
                for one in untested
            ],
        },
        "limits": LIMITS,
    }
