"""Figures of simulated customers as the page and the terminal show them.

All functions read a results dict of `configs/job_benchmark.py` (`text.customers`, see
`evaluation/job_results.py`) and take every key as optional. A *rate* is a share of jobs
with its exact (Clopper-Pearson) 95% interval and the number of jobs.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from cifr_jax.report.view import Results, entries
from cifr_jax.report.wording import count, joined, number, percent

COMBINED, NAIVE = "combined", "naive"
LEVELS = ("0.05", "0.01", "0.001")  # at which the size of a test is measured
CAUGHT, MISSED = 0.9, 0.5  # shares of jobs from which, and below which, we say so
_CELL = re.compile(r"n=(\d{1,9}) m=(\d{1,9})(?: (\d{1,3}(?:\.\d{1,9})?)%)?(?: (\w{1,40}))?")
_MOST_NAMED = 12  # attacks listed in one sentence
ADAPTIVE_WORDS = {
    "keyed": "a secret key decides which reply stands for which letter, row by row",
    "xor": "the code is the XOR of the answer and of the item's format",
    "cancel": "cover rows cancel the dependence on the answer",
    "matched": "replies have the uneven frequencies of an honest customer's",
    "accounts": "the rows are dealt to four accounts, of which one is seen",
    "honest_cover": "the cover rows are an honest customer's",
    "listed": "the request lists the replies that it allows",
}


class Rate(NamedTuple):
    """A share of jobs; None where it was not measured."""

    share: float | None
    low: float | None
    high: float | None
    jobs: int | None

    @property
    def pair(self) -> list[float] | None:
        """The interval, for `wording.interval`."""
        if self.low is None or self.high is None:
            return None
        return [self.low, self.high]


class Cell(NamedTuple):
    """An attack by its sizes; `share` of its rows carry the code."""

    name: str
    rows: int
    variants: int
    share: float
    adaptive: str


def customers(results: Results) -> Mapping[str, Any]:
    """The figures, or an empty dict."""
    text = results.get("text")
    found = text.get("customers") if isinstance(text, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def mapping(value: Any, *keys: str) -> Mapping[str, Any]:
    """The dict under nested keys, or an empty one."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def rate(value: Any) -> Rate:
    """Reads `{"share", "ci95", "n"}`; gaps where it holds none."""
    found = value if isinstance(value, Mapping) else {}
    pair = found.get("ci95")
    pair = pair if isinstance(pair, list | tuple) and len(pair) == 2 else (None, None)
    jobs = number(found.get("n"))
    return Rate(
        number(found.get("share")),
        number(pair[0]),
        number(pair[1]),
        None if jobs is None else int(jobs),
    )


def cell(name: str) -> Cell | None:
    """The sizes that an attack's name states, or None."""
    match = _CELL.fullmatch(name)
    if match is None or not int(match[1]) or not int(match[2]):
        return None
    share = float(match[3]) / 100 if match[3] else 1.0
    if not 0 < share <= 1:
        return None
    return Cell(name, int(match[1]), int(match[2]), share, match[4] or "")


def attacks(results: Results) -> list[tuple[str, Cell | None]]:
    """Name and sizes of every attack, in the order of results.json."""
    found = mapping(customers(results), "power", "0.01", COMBINED)
    return [(str(name), cell(str(name))) for name in found]


def power(results: Results, name: str, fpr: str = "0.01", by: str = COMBINED) -> Rate:
    """Share of an attack's jobs that `by` catches at a false alarm rate."""
    return rate(mapping(customers(results), "power", fpr, by).get(name))


def has_point(results: Results, fpr: str) -> bool:
    """Whether there were honest jobs enough for an operating point at this rate."""
    cut = mapping(customers(results), "thresholds", fpr).get(COMBINED)
    return number(cut) is not None


def tests(results: Results) -> list[str]:
    """Tests whose size was measured, the naive one last."""
    found = [str(name) for name in mapping(customers(results), "size_on_controls")]
    return sorted(found, key=lambda name: name == NAIVE)


def families(results: Results) -> list[str]:
    """The honest families, those accused most often first."""
    left_out = mapping(customers(results), "false_alarms_family_left_out")
    seen = mapping(customers(results), "false_alarms", COMBINED)
    names = [str(name) for name in dict.fromkeys([*seen, *left_out])]
    return sorted(names, key=lambda name: -(rate(left_out.get(name)).share or 0.0))


def failing(results: Results) -> tuple[list[str], list[str]]:
    """Attacks of which less than half are caught at 1%, and those between that and .9."""
    missed: list[str] = []
    partly: list[str] = []
    for name, _ in attacks(results):
        share = power(results, name).share
        if share is not None and share < CAUGHT:
            (missed if share < MISSED else partly).append(name)
    return missed, partly


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return joined(names[:_MOST_NAMED] + [count(more, "other")] * (more > 0))


def headline(results: Results) -> str:
    """What is caught and who is accused, in two sentences."""
    known = attacks(results)
    if not known:
        return "No attack was scored in this run."
    missed, partly = failing(results)
    caught = len(known) - len(missed) - len(partly)
    first = (
        f"At 1% false alarms {caught} of {count(len(known), 'attack')} "
        f"{'is' if caught == 1 else 'are'} caught in at least 90% of jobs"
    )
    if missed:
        first += f", and {len(missed)} in less than half"
    honest = rate(mapping(customers(results), "false_alarms_all").get(COMBINED))
    naive = rate(mapping(customers(results), "size_on_honest", NAIVE).get("0.01"))
    second = ""
    if honest.share is not None:
        second = f" Of {honest.jobs or 0} honest jobs {percent(honest.share)} are accused"
        if naive.share is not None:
            second += (
                f"; a test that knows no visible label would accuse "
                f"{percent(naive.share)} of them at the 1% level"
            )
        second += "."
    return first + "." + second


def region(results: Results) -> list[str]:
    """Where the audit fails, in sentences."""
    if not attacks(results):
        return []
    missed, partly = failing(results)
    found = []
    if missed:
        found.append(f"Caught in less than half of jobs: {_listed(missed)}.")
    if partly:
        found.append(f"Caught in half to 90% of jobs: {_listed(partly)}.")
    if not missed and not partly:
        found.append("No attack that was tried is caught in less than 90% of jobs.")
    for name in missed:
        known = cell(name)
        words = ADAPTIVE_WORDS.get(known.adaptive) if known else None
        if known and words:
            found.append(f"{known.adaptive}: {words}.")
    return found


def untested(results: Results) -> list[str]:
    """What was not tested, in sentences."""
    figures, found = customers(results), []
    honest = number(mapping(figures, "jobs").get("honest"))
    ran = number(figures.get("honest_jobs_tested"))
    if honest is not None and ran is not None:
        found.append(
            f"In {honest - ran:.0f} of {honest:.0f} honest jobs no test had anything to "
            "permute: they get no verdict, and are counted above as not accused."
        )
    return found + [str(limit) for limit in entries(results, "limits")]
