"""Checks that what must not be shared between splits is not; run in every benchmark."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

Check = dict[str, Any]


class LeakageError(RuntimeError):
    """A benchmark's splits share what they declare apart; its figures would be void."""


def check_disjoint(name: str, a: Iterable[Hashable], b: Iterable[Hashable]) -> Check:
    """`{"name", "passed", "detail"}`: do `a` and `b` share no member?

    An empty side fails: such a check would pass whatever the splits hold.
    """
    a, b = set(a), set(b)
    if not a or not b:
        return {"name": name, "passed": False, "detail": "a side is empty"}
    shared = sorted(a & b, key=repr)
    detail = f"{len(a)} and {len(b)} distinct, {len(shared)} shared"
    if shared:
        sample = repr(shared[0])
        detail += ": " + (sample if len(sample) <= 80 else sample[:77] + "...")
    return {"name": name, "passed": not shared, "detail": detail}


def check_splits(
    splits: Mapping[str, Mapping[str, Sequence[Hashable]]],
    declared: Mapping[str, Sequence[Sequence[str]]],
) -> list[Check]:
    """One check for each field and each pair of splits that are declared apart.

    Args:
      splits: `{split: {field: values}}`, such as `{"train": {"prompt": [...]}}`; usual
        fields are prompt, group (entity, paraphrases), job and cipher (variant).
      declared: `{field: [splits, ...]}`: within each listed set, the splits share no value
        of the field, as in `{"cipher": [("train", "test_variant")]}`.

    Raises:
      ValueError: a declaration names a split or field that is not there.
    """
    checks = []
    for field, sets in declared.items():
        for names in sets:
            if isinstance(names, str) or len(names) < 2:
                raise ValueError(f"{field}: declare sets of two splits or more: {names!r}")
            for a, b in combinations(names, 2):
                for split in (a, b):
                    if field not in splits.get(split, {}):
                        raise ValueError(f"split {split!r} has no field {field!r}")
                label = f"{field}: {a} / {b}"
                checks.append(check_disjoint(label, splits[a][field], splits[b][field]))
    return checks


def assert_all(checks: Sequence[Check]) -> None:
    """Raises LeakageError naming every failed check, or saying that there was none."""
    if not checks:
        raise LeakageError("no leakage check was made")
    failed = [f"{c['name']} ({c['detail']})" for c in checks if not c["passed"]]
    if failed:
        raise LeakageError("; ".join(failed))
