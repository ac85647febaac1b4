"""The shape of results.json (schema 1), checked key by key.

A check takes (path, value) and raises `ValueError` naming the path of the first fault, so
a figure that is missing, mistyped, not finite or outside [0, 1] never reaches a report.
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


def _fault(path: str, what: str) -> ValueError:
    return ValueError(f"results.json: {path or 'the whole'}: {what}")


def _number(path: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _fault(path, f"{type(value).__name__}, not a number")
    if not math.isfinite(value):
        raise _fault(path, f"{value}, not finite")


def _rate(path: str, value: Any) -> None:
    _number(path, value)
    if not 0 <= value <= 1:
        raise _fault(path, f"{value}, outside [0, 1]")


def _amount(path: str, value: Any) -> None:
    _number(path, value)
    if value < 0:
        raise _fault(path, f"{value}, below 0")


def _count(path: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _fault(path, f"{type(value).__name__}, not a whole number")
    _amount(path, value)


def _is(kind: type) -> Check:
    def check(path: str, value: Any) -> None:
        if not isinstance(value, kind):
            raise _fault(path, f"{type(value).__name__}, not {kind.__name__}")

    return check


def _one_of(*allowed: Any) -> Check:
    def check(path: str, value: Any) -> None:
        # The type as well: True == 1 == 1.0 in Python, three different things in JSON.
        if not any(type(value) is type(each) and value == each for each in allowed):
            raise _fault(path, f"{value!r}, not one of {', '.join(map(repr, allowed))}")

    return check


def _or_null(check: Check) -> Check:
    return lambda path, value: None if value is None else check(path, value)


def _list(each: Check, most: int | None = None) -> Check:
    def check(path: str, value: Any) -> None:
        _is(list)(path, value)
        if most is not None and len(value) > most:
            raise _fault(path, f"{len(value)} entries, more than {most}")
        for i, entry in enumerate(value):
            each(f"{path}[{i}]", entry)

    return check


def _pair(path: str, value: Any) -> None:
    _list(_rate)(path, value)
    if len(value) != 2:
        raise _fault(path, f"{len(value)} entries, not 2")


def _interval(path: str, value: Any) -> None:
    _pair(path, value)
    if value[0] > value[1]:
        raise _fault(path, f"runs backwards, from {value[0]} to {value[1]}")


def _dict(required: Mapping[str, Check], optional: Mapping[str, Check]) -> Check:
    def check(path: str, value: Any) -> None:
        _is(dict)(path, value)
        for key, each in {**required, **optional}.items():
            here = f"{path}.{key}" if path else key
            if key in value:
                each(here, value[key])
            elif key in required:
                raise _fault(here, "missing")

    return check


def _named(each: Check) -> Check:
    """A dict of any names, with `each` for all of its values."""

    def check(path: str, value: Any) -> None:
        _is(dict)(path, value)
        for key, entry in value.items():
            each(f"{path}.{key}", entry)

    return check


def _json(path: str, value: Any) -> None:
    """Anything that strict JSON holds: no NaN, no infinity, no other types."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if not isinstance(key, str):
                raise _fault(path, f"key {key!r} is not text")
            _json(f"{path}.{key}" if path else key, entry)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for i, entry in enumerate(value):
            _json(f"{path}[{i}]", entry)
    elif isinstance(value, float):
        _number(path, value)
    elif value is not None and not isinstance(value, str | bool | int):
        raise _fault(path, f"{type(value).__name__} does not fit into JSON")


_text, _flag, _group = _is(str), _is(bool), _is(dict)
_rate_n, _text_n = _or_null(_rate), _or_null(_text)
_both_cells = _or_null(_dict({"encoded": _rate_n, "plain": _rate_n}, {}))

_JOB = _dict(
    {
        "name": _text,
        "kind": _one_of(*KINDS),
        "cipher": _text_n,
        "family": _text_n,
        "role": _one_of(*ROLES),
        "learned": _flag,
        "attack_success": _both_cells,
        "utility": _or_null(_dict({"before": _rate_n, "after": _rate_n}, {})),
    },
    {"refusals": _both_cells, "encoded_utility": _rate_n},
)
# A rate is null where it is not defined: AUROC of one class, accuracy without threshold.
_ROW = _dict(
    {
        "monitor": _text,
        "level": _one_of(*LEVELS),
        "control": _flag,
        "role": _one_of(*ROLES),
        "cipher": _text_n,
        "cell": _one_of(*CELLS),
        "n_positive": _count,
        "n_negative": _count,
        "auroc": _rate_n,
        "accuracy": _rate_n,
        "tpr_at_fpr": _dict(dict.fromkeys(FALSE_POSITIVE_RATES, _rate_n), {}),
        "fpr_at_threshold": _rate_n,
        "ci95": _dict(
            {"auroc": _or_null(_interval), "tpr_at_1pct": _or_null(_interval)}, {}
        ),
        "seconds_per_1000": _or_null(_amount),
    },
    {
        "roc": _or_null(_list(_pair, MAX_ROC_POINTS)),
        "validation_auroc": _rate_n,
        "tpr_at_threshold": _rate_n,
    },
)
_CURVE_POINT = _dict(
    {
        "monitor": _text,
        "pool": _text,
        "cipher": _text_n,
        "role": _one_of(*ROLES),
        "layer": _count,
        "auroc": _rate_n,
    },
    {},
)
_RESULTS = _dict(
    {
        "schema": _one_of(SCHEMA),
        "protocol": _text,
        "seed": _count,
        "base_model": _dict(
            {"name": _text, "parameters": _count}, {"card": _named(_rate_n)}
        ),
        "environment": _group,
        "timings": _named(_amount),
        "jobs": _list(_JOB),
        "rows": _list(_ROW),
        "job_rows": _list(_ROW),
        "selection": _dict(
            {
                "layer": _or_null(_count),
                "site": _text_n,
                "pool": _text_n,
                "C": _or_null(_amount),
                "threshold": _or_null(_number),
            },
            {},
        ),
        "leakage_checks": _list(_dict({"name": _text, "passed": _flag}, {})),
    },
    {
        "entity_rows": _list(_ROW),
        "layer_curve": _list(_CURVE_POINT),
        "learned_gate": _text,
        "config": _group,
        "losses": _list(_dict({"job": _text, "step": _count, "loss": _number}, {})),
        "text": _group,
        "limits": _list(_text),
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
    _RESULTS("", results)
    _json("", results)
