"""What a verdict means, in plain words: for the page and for the terminal."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cifr_jax.report.wording import count, fixed, joined, number

Verdict = Mapping[str, Any]

_HEADLINES = {
    "attack": "This job looks like an attack: do not serve what it trained.",
    "suspicious": "This job is suspicious: have a person look before it is served.",
    "clear": "Nothing that was tested sets this job apart from honest ones.",
    "not tested": "This job could not be tested: that is no sign that it is honest.",
}


def entries(verdict: Verdict, key: str) -> list[Any]:
    """The list under `key`, or an empty one."""
    found = verdict.get(key)
    return found if isinstance(found, list) else []


def headline(verdict: Verdict) -> str:
    """The verdict in one sentence."""
    return _HEADLINES.get(str(verdict.get("verdict")), "There is no verdict.")


def meaning(verdict: Verdict) -> str:
    """How many honest jobs would score as high, no finer than the calibration can tell.

    A p-value below that of a job which no calibration job reaches, 1 / (n + 1) of n, is
    read as that.
    """
    p = number(verdict.get("p_value"))
    if p is None:
        return (
            "No p-value could be computed, so how rare this is among honest jobs is open."
        )
    n = number((verdict.get("operating_point") or {}).get("n_benign")) or 0.0
    if n < 1:
        return (
            f"The p-value of {p:.3g} is the tests' own: no honest jobs were scored to tell "
            "how often they would score as high."
        )
    finest = 1 / (n + 1)
    often = 1000 * max(p, finest)
    amount = f"about {often:.0f}" if often >= 1 else "fewer than 1"
    if p <= finest and often >= 1:
        amount = f"at most {amount}"
    text = (
        f"Of 1000 honest jobs like those it was calibrated on, {amount} would score as high"
    )
    if p <= finest:
        return f"{text}: none of the {n:.0f} measured did, and fewer cannot be told."
    return f"{text}."


def tested(verdict: Verdict) -> tuple[list[Any], list[Any]]:
    """The detectors that ran, and those that could not."""
    ran: list[Any] = []
    could_not: list[Any] = []
    for detector in entries(verdict, "detectors"):
        (ran if detector.get("not_tested") is None else could_not).append(detector)
    return ran, could_not


def unchecked(verdict: Verdict) -> list[tuple[str, str]]:
    """What was not checked and why, detectors that could not run among it."""
    _, could_not = tested(verdict)
    found = {str(d.get("name")): str(d.get("not_tested")) for d in could_not}
    for entry in entries(verdict, "not_checked"):
        found[str(entry.get("what"))] = str(entry.get("why"))
    return list(found.items())


def coverage(verdict: Verdict) -> str:
    """How many of the detectors ran, in one sentence."""
    ran, could_not = tested(verdict)
    total = count(len(ran) + len(could_not), "detector")
    return f"{len(ran)} of {total} could test this job."


def figures(verdict: Verdict) -> str:
    """Risk, p-value and operating point on one line."""
    point = verdict.get("operating_point") or {}
    parts = [f"risk {fixed(verdict.get('risk'))}", f"p {p_value(verdict.get('p_value'))}"]
    fpr = number(point.get("fpr"))
    if fpr is not None:
        parts.append(f"operating point at {fpr:.3g} false positives")
    return ", ".join(parts)


def p_value(value: Any) -> str:
    """A p-value with two figures that count, or a dash."""
    known = number(value)
    if known is None:
        return fixed(None)
    return f"{known:.3f}" if known >= 0.0995 or known == 0 else f"{known:.2g}"


def _runs(rows: Iterable[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of neighbours in ascending `rows`."""
    first = last = None
    for row in rows:
        if first is None or last is None:
            first = last = row
        elif row == last + 1:
            last = row
        else:
            yield first, last
            first = last = row
    if first is not None and last is not None:
        yield first, last


def row_numbers(entry: Verdict, most: int = 12) -> str:
    """ "row 3", "rows 1 to 5 and 9", "rows 1, 4, 9 and 380 more"; "" for none.

    Args:
      entry: of the evidence; its row numbers, from 1, in any order.
      most: runs of neighbouring rows named before the rest is only counted.
    """
    known = sorted(set(entry.get("rows") or []))
    if not known:
        return ""
    runs = list(_runs(known))
    parts = [str(a) if a == b else f"{a} to {b}" for a, b in runs[:most]]
    rest = sum(last - first + 1 for first, last in runs[most:])
    rest += int(entry.get("rows_left_out") or 0)
    if rest:
        parts.append(f"{rest} more")
    return f"{'row' if len(known) == 1 else 'rows'} {joined(parts)}"
