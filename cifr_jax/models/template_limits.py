"""How large what a chat template handles may be, and what would grow beyond that.

A value is looked at before it is made, where it could not even be held, else afterwards.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2.sandbox import SecurityError

MAX_SIZE = 4_000_000  # characters or items in any value, and in the rendering
MAX_NESTED = 8_000_000  # units in a value with all that it holds
MAX_DEPTH = 32  # lists in lists
MAX_NUMBER = 1_000_000  # integers that a template may compute
MAX_INDENT = 100  # columns
MAX_ARGUMENT = 100  # characters of a separator, an attribute, a set of characters
# Where a long text costs more than it has characters: searches from the end and sets of
# characters take as long as text times argument, a separator stands between all items.
_SHORT_ARGUMENTS = frozenset(
    "join lstrip map max min rejectattr rfind rindex rpartition rsplit rstrip selectattr"
    " sort strip sum tojson trim unique".split()
)
_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # as str.splitlines has them
LISTS: tuple[Any, ...] = (
    list, tuple, set, frozenset, type({}.keys()), type({}.values()), type({}.items())
)  # fmt: skip
_SIZED: tuple[Any, ...] = (str, bytes, dict, range, *LISTS)


def length(value: Any) -> int:
    """Characters or items of a value; 0 of what has none."""
    return len(value) if isinstance(value, _SIZED) else 0


def check_size(size: int) -> None:
    """Raises SecurityError for more characters or items than any value may have."""
    if size > MAX_SIZE:
        raise SecurityError(f"a value grows beyond {MAX_SIZE:,}")


def bounded(value: Any) -> Any:
    """The value itself; raises SecurityError if no chat template needs one so large."""
    if isinstance(value, int):
        if abs(value) > MAX_NUMBER:
            raise SecurityError(f"a number beyond {MAX_NUMBER:,}")
    else:
        check_size(length(value))
    return value


def key(value: Any) -> Any:
    """A key of a mapping; raises SecurityError for a nested one, which is looked up in as
    much time as it is large."""
    if isinstance(value, tuple | frozenset):
        raise SecurityError("a key that is no text or number")
    return value


def check_growth(name: str, subject: Any, args: Sequence, kwargs: Mapping) -> None:
    """Raises SecurityError for a filter or string method whose result could not be held."""
    named = [*args, *kwargs.values()]
    texts = [*named, *(t for arg in named if isinstance(arg, tuple | list) for t in arg)]
    if name == "join" and isinstance(subject, str) and args:  # also the method, whose
        texts = [subject, *(arg for arg in texts if arg is not args[0])]  # text is between
    if name in _SHORT_ARGUMENTS and any(
        isinstance(text, str) and len(text) > MAX_ARGUMENT for text in texts
    ):
        raise SecurityError(f"an argument of {name} beyond {MAX_ARGUMENT} characters")
    if name == "replace" and len(named) >= 2:
        text, old, new = str(subject), str(named[0]), str(named[1])
        found = text.count(old)  # of no text: before, between and after the characters
        check_size(len(text) + found * max(len(new) - len(old), 0))
    if name in ("indent", "tojson"):
        if any(length(arg) > MAX_INDENT for arg in named) or any(
            arg > MAX_INDENT for arg in named if isinstance(arg, int)
        ):
            raise SecurityError("an indent grows too large")
        if name == "indent":
            lines = sum(map(str(subject).count, _LINE_ENDS))
            check_size(len(str(subject)) + lines * MAX_INDENT)
        elif indent := kwargs.get("indent", args[1] if len(args) > 1 else 0):
            width = indent if isinstance(indent, int) else len(indent)
            check_size(_lines(subject) * MAX_DEPTH * width)
    if name == "sum" and not all(isinstance(n, int | float | str | None) for n in named):
        raise SecurityError("only numbers are summed")


def _lines(value: Any) -> int:
    """Lines that the indented JSON of a value takes."""
    if not isinstance(value, dict | list | tuple):
        return 1
    return 2 + sum(map(_lines, value.values() if isinstance(value, dict) else value))
