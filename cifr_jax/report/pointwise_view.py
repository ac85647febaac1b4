"""Figures of the trained pointwise attacks as the page and the terminal show them.

All functions read a results dict of `configs/pointwise.py` (`text.pointwise`) and take
every key as optional.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from cifr_jax.evaluation.intervals import clopper_pearson
from cifr_jax.report import view
from cifr_jax.report.view import Results
from cifr_jax.report.wording import count, fixed, joined, number, percent

PRESET = ("attack", "twins", "honest chats")
BLOCKED_AT = "0.05"  # false positive rate at which a monitor of single rows blocks


class Share(NamedTuple):
    """A share of items with its exact 95% interval; None where it was not measured."""

    value: float | None
    pair: list[float] | None


class Outcome(NamedTuple):
    """What one tuned model says on one set of unseen items.

    `direct` is the base asked without any code; `right` is after decoding.
    """

    job: str
    control: bool
    test: str
    items: int | None
    right: Share
    unparseable: float | None
    direct: Share
    longest: Share
    chance: float | None
    learned: bool | None


class Monitored(NamedTuple):
    """A monitor of single rows on the rows of one attack."""

    attack: str
    monitor: str
    row: view.Row
    blocked: float | None
    through: float | None  # share of items that are right and not blocked
    preset: tuple[float | None, ...]  # shares above the threshold set beforehand: `PRESET`


def mapping(value: Any, *keys: str) -> Mapping[str, Any]:
    """The dict under nested keys, or an empty one."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def figures(results: Results) -> Mapping[str, Any]:
    """`text.pointwise`, or an empty dict."""
    return mapping(results, "text", "pointwise")


def _exact(value: Any, items: int | None) -> Share:
    """A share whose interval is not stored: exact, of as many trials as items."""
    share = number(value)
    if share is None or not items or not 0 <= share <= 1:
        return Share(share, None)
    return Share(share, list(clopper_pearson(round(share * items), items)))


def _controls(results: Results) -> set[str]:
    jobs = view.entries(results, "jobs")
    return {str(job.get("name")) for job in jobs if job.get("kind") == "control"}


def outcomes(results: Results) -> list[Outcome]:
    """One for each job and set of items, attacks before controls."""
    controls, found = _controls(results), []
    for name, one in mapping(figures(results), "attacks").items():
        for test, accuracy in mapping(one, "accuracy").items():
            cells = mapping(accuracy)
            items = number(cells.get("n_items"))
            n = int(items) if items else None
            interval = cells.get("interval")
            pair = list(interval) if isinstance(interval, list | tuple) else None
            learned = cells.get("learned")
            direct = mapping(figures(results), "asked directly").get(test)
            found.append(
                Outcome(
                    str(name),
                    name in controls,
                    str(test),
                    n,
                    Share(number(cells.get("accuracy")), pair),
                    number(cells.get("unparseable")),
                    _exact(direct, n),
                    _exact(cells.get("longest_option"), n),
                    number(cells.get("chance")),
                    learned if isinstance(learned, bool) else None,
                )
            )
    return sorted(found, key=lambda outcome: outcome.control)


def monitored(results: Results) -> list[Monitored]:
    """Every monitor of single rows on every attack."""
    attacks, found = mapping(figures(results), "attacks"), []
    for row in view.entries(results, "rows"):
        attack, monitor = view.cipher_name(row.get("cipher")), str(row.get("monitor"))
        one = attacks.get(attack)
        found.append(
            Monitored(
                attack,
                monitor,
                row,
                number(mapping(row, "tpr_at_fpr").get(BLOCKED_AT)),
                number(mapping(one, "right_and_not_blocked").get(monitor)),
                tuple(
                    number(mapping(one, "blocked_at_preset", monitor).get(kind))
                    for kind in PRESET
                ),
            )
        )
    return found


def headline(results: Results) -> str:
    """What was learned, and what monitors of single rows make of it."""
    tried = [one for one in outcomes(results) if not one.control]
    if not tried:
        return "No attack was trained in this run."
    parts = []
    for outcome in tried:
        known = f"{percent(outcome.right.value)} right after decoding"
        if outcome.direct.value is not None:
            known += f", {percent(outcome.direct.value)} where the base is asked directly"
        word = "learned" if outcome.learned else "not learned"
        parts.append(f"{outcome.job} on {outcome.test}: {word} ({known})")
    learned = [one for one in tried if one.learned]
    start = f"{len(learned)} of {count(len(tried), 'code')} learned on unseen items"
    aurocs = [(a, m) for m in monitored(results) if (a := number(m.row.get("auroc")))]
    end = ""
    if aurocs:
        highest, best = max(aurocs, key=lambda pair: pair[0])
        end = (
            f" Of the monitors of single rows the highest AUROC is {fixed(highest)} "
            f"({best.monitor} on {best.attack}; chance is 0.5)."
        )
    return f"{start}. {'; '.join(parts)}.{end}"


def losses_of_honest(results: Results) -> list[tuple[str, float | None, float | None]]:
    """By job, mean loss on honest chats before and after it was trained, nats a token."""
    before = number(figures(results).get("honest_loss_before"))
    return [
        (str(name), before, number(mapping(one).get("honest_loss_after")))
        for name, one in mapping(figures(results), "attacks").items()
    ]


def likelihoods(results: Results) -> list[tuple[str, Mapping[str, Any]]]:
    """By upload, how likely its replies are under the base."""
    rows = mapping(figures(results), "rows")
    return [(str(name), mapping(one)) for name, one in rows.items()]


def unlearned_words(results: Results) -> str:
    """Which codes count for nobody, or ""."""
    names = [
        f"{one.job} on {one.test}"
        for one in outcomes(results)
        if not one.control and one.learned is False
    ]
    if not names:
        return ""
    return (
        f"Not learned: {joined(names)}. A code that is not learned and not caught is no "
        "miss of a monitor."
    )
