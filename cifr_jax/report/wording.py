"""How the report writes values: names made harmless, figures rounded, gaps as a dash."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

MISSING = "–"


def clean(value: Any) -> str:
    """`value` on one line, with everything that a terminal or a page would obey shown.

    Control characters, lone surrogates and marks that turn the direction of text become
    their escapes, as in `\\x1b`.
    """
    text = " ".join(str(value).split())
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def number(value: Any) -> float | None:
    """`value` as a finite float, or None where it is none (None, NaN, text, a bool)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def fixed(value: Any, digits: int = 3) -> str:
    """A figure with a fixed number of digits, or a dash."""
    known = number(value)
    return MISSING if known is None else f"{known:.{digits}f}"


def percent(value: Any) -> str:
    """A rate as a percentage with one digit, or a dash. Only 1 itself reads 100%."""
    known = number(value)
    if known is None:
        return MISSING
    if known in (0.0, 1.0):
        return f"{known:.0%}"
    # A rate short of certain must not be rounded up to certain.
    return f"{min(known, 0.999):.1%}" if known < 1 else f"{known:.1%}"


def interval(pair: Any, write: Any = fixed) -> str:
    """A 95% interval in brackets, or nothing where there is none."""
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return ""
    low, high = map(number, pair)
    if low is None or high is None:
        return ""
    return f"[{write(low)}, {write(high)}]"


def count(n: int, thing: str, things: str = "") -> str:
    """ "1 cipher", "2 ciphers"."""
    return f"{n} {thing if n == 1 else things or thing + 's'}"


def seconds(value: Any) -> str:
    """A duration in seconds, with minutes beside it from two minutes on."""
    known = number(value)
    if known is None:
        return MISSING
    return f"{known:.1f} s" if known < 120 else f"{known:.0f} s ({known / 60:.1f} min)"


def joined(parts: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(parts[:-1])] * bool(parts[:-1]) + parts[-1:])


def flattened(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of nested dicts and lists of dicts as (dotted name, text or a dash)."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from flattened(entry, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(e, Mapping) for e in value):
        for i, entry in enumerate(value):
            yield from flattened(entry, f"{prefix}[{i}]")
    else:
        gap = value is None or (isinstance(value, float) and not math.isfinite(value))
        told = f"{value:.6g}" if isinstance(value, float) else value
        yield prefix, MISSING if gap else clean(told)
