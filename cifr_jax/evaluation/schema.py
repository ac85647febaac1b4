"""The shape of results.json (schema 1), checked key by key.

A check takes (path, value) and raises `ValueError` naming the path of the first fault, so
a figure that is missing, mistyped, not finite or outside [0, 1] never reaches a report.
The checks without underscore serve `verdict_schema.py` too.
Keys that are not listed here may hold anything that strict JSON can hold.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

SCHEMA = 1
KINDS = ("attack", "phase1", "benign", "control")
ROLES = ("train", "validation", "test_variant", "test_family", "test_benign")
CELLS = ("plain", "encoded", "all")
LEVELS = ("prompt", "completion", "dataset", "trajectory", "adapter")
FALSE_POSITIVE_RATES = ("0.001", "0.01", "0.05")  # the keys of `tpr_at_fpr`
MAX_ROC_POINTS = 100

Check = Callable[[str, Any], None]


def fault(path: str, what: str) -> ValueError:
    """What a check raises; `check_file` puts the file's name before it."""
    return ValueError(f"{path or 'the whole'}: {what}")


def number(path: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise fault(path, f"{type(value).__name__}, not a number")
    if not math.isfinite(value):
        raise fault(path, f"{value}, not finite")


def rate(path: str, value: Any) -> None:
    number(path, value)
    if not 0 <= value <= 1:
        raise fault(path, f"{value}, outside [0, 1]")


def amount(path: str, value: Any) -> None:
    number(path, value)
    if value < 0:
        raise fault(path, f"{value}, below 0")


def count(path: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise fault(path, f"{type(value).__name__}, not a whole number")
    amount(path, value)


def is_a(kind: type) -> Check:
    def check(path: str, value: Any) -> None:
        if not isinstance(value, kind):
            raise fault(path, f"{type(value).__name__}, not {kind.__name__}")

    return check


def one_of(*allowed: Any) -> Check:
    def check(path: str, value: Any) -> None:
        # The type as well: True == 1 == 1.0 in Python, three different things in JSON.
        if not any(type(value) is type(each) and value == each for each in allowed):
            raise fault(path, f"{value!r}, not one of {', '.join(map(repr, allowed))}")

    return check


def or_null(check: Check) -> Check:
    return lambda path, value: None if value is None else check(path, value)


def list_of(each: Check, most: int | None = None) -> Check:
    def check(path: str, value: Any) -> None:
        is_a(list)(path, value)
        if most is not None and len(value) > most:
            raise fault(path, f"{len(value)} entries, more than {most}")
        for i, entry in enumerate(value):
            each(f"{path}[{i}]", entry)

    return check


def pair(path: str, value: Any) -> None:
    list_of(rate)(path, value)
    if len(value) != 2:
        raise fault(path, f"{len(value)} entries, not 2")


def interval(path: str, value: Any) -> None:
    pair(path, value)
    if value[0] > value[1]:
        raise fault(path, f"runs backwards, from {value[0]} to {value[1]}")


def dict_of(required: Mapping[str, Check], optional: Mapping[str, Check]) -> Check:
    def check(path: str, value: Any) -> None:
        is_a(dict)(path, value)
        for key, each in {**required, **optional}.items():
            here = f"{path}.{key}" if path else key
            if key in value:
                each(here, value[key])
            elif key in required:
                raise fault(here, "missing")

    return check


def named(each: Check) -> Check:
    """A dict of any names, with `each` for all of its values."""

    def check(path: str, value: Any) -> None:
        is_a(dict)(path, value)
        for key, entry in value.items():
            each(f"{path}.{key}", entry)

    return check


def any_json(path: str, value: Any) -> None:
    """Anything that strict JSON holds: no NaN, no infinity, no other types."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if not isinstance(key, str):
                raise fault(path, f"key {key!r} is not text")
            any_json(f"{path}.{key}" if path else key, entry)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for i, entry in enumerate(value):
            any_json(f"{path}[{i}]", entry)
    elif isinstance(value, float):
        number(path, value)
    elif value is not None and not isinstance(value, str | bool | int):
        raise fault(path, f"{type(value).__name__} does not fit into JSON")


def check_file(name: str, check: Check, whole: Any) -> None:
    """Holds a parsed file against its check; raises ValueError, the name first."""
    try:
        check("", whole)
        any_json("", whole)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


_text, _flag, _group = is_a(str), is_a(bool), is_a(dict)
_rate_n, _text_n = or_null(rate), or_null(_text)
_both_cells = or_null(dict_of({"encoded": _rate_n, "plain": _rate_n}, {}))

_JOB = dict_of(
    {
        "name": _text,
        "kind": one_of(*KINDS),
        "cipher": _text_n,
        "family": _text_n,
        "role": one_of(*ROLES),
        "learned": _flag,
        "attack_success": _both_cells,
        "utility": or_null(dict_of({"before": _rate_n, "after": _rate_n}, {})),
    },
    {"refusals": _both_cells, "encoded_utility": _rate_n},
)
# A rate is null where it is not defined: AUROC of one class, accuracy without threshold.
_ROW = dict_of(
    {
        "monitor": _text,
        "level": one_of(*LEVELS),
        "control": _flag,
        "role": one_of(*ROLES),
        "cipher": _text_n,
        "cell": one_of(*CELLS),
        "n_positive": count,
        "n_negative": count,
        "auroc": _rate_n,
        "accuracy": _rate_n,
        "tpr_at_fpr": dict_of(dict.fromkeys(FALSE_POSITIVE_RATES, _rate_n), {}),
        "fpr_at_threshold": _rate_n,
        "ci95": dict_of({"auroc": or_null(interval), "tpr_at_1pct": or_null(interval)}, {}),
        "seconds_per_1000": or_null(amount),
    },
    {
        "roc": or_null(list_of(pair, MAX_ROC_POINTS)),
        "validation_auroc": _rate_n,
        "tpr_at_threshold": _rate_n,
    },
)
_CURVE_POINT = dict_of(
    {
        "monitor": _text,
        "pool": _text,
        "cipher": _text_n,
        "role": one_of(*ROLES),
        "layer": count,
        "auroc": _rate_n,
    },
    {},
)
_RESULTS = dict_of(
    {
        "schema": one_of(SCHEMA),
        "protocol": _text,
        "seed": count,
        "base_model": dict_of(
            {"name": _text, "parameters": count}, {"card": named(_rate_n)}
        ),
        "environment": _group,
        "timings": named(amount),
        "jobs": list_of(_JOB),
        "rows": list_of(_ROW),
        "job_rows": list_of(_ROW),
        "selection": dict_of(
            {
                "layer": or_null(count),
                "site": _text_n,
                "pool": _text_n,
                "C": or_null(amount),
                "threshold": or_null(number),
            },
            {},
        ),
        "leakage_checks": list_of(dict_of({"name": _text, "passed": _flag}, {})),
    },
    {
        "entity_rows": list_of(_ROW),
        "layer_curve": list_of(_CURVE_POINT),
        "learned_gate": _text,
        "config": _group,
        "losses": list_of(dict_of({"job": _text, "step": count, "loss": number}, {})),
        "text": _group,
        "limits": list_of(_text),
    },
)


def validate_results(results: Any) -> None:
    """Checks a whole results.json against schema 1.

    Args:
      results: the parsed file; rates lie in [0, 1], a rate that is not defined is null.

    Raises:
      ValueError: names the path of the first fault, as in
        "results.json: rows[3].ci95.auroc[1]: 1.2, outside [0, 1]".
    """
    check_file("results.json", _RESULTS, results)
