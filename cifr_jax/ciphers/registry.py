"""Ciphers by name: `register` for their authors, `parse` for everybody else.

A specification is `family`, or `family:name=value,name=value`, or several of those
joined by bars and applied from left to right: `rot13|walnut:seed=3`.
"""

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Collection
from typing import TypeVar

from cifr_jax.ciphers.base import Cipher
from cifr_jax.ciphers.compose import Composition
from cifr_jax.errors import UserError

_MAKERS: dict[str, Callable[..., Cipher]] = {}
_MAX_INT = 2**63 - 1

M = TypeVar("M", bound=Callable[..., Cipher])


def register(name: str) -> Callable[[M], M]:
    """Class decorator: makes a family known as `name` (also for a function: a short name).

    The parameters are those of the constructor, all with a default and annotated `int`,
    `int | None` or `str`.

    Raises:
      ValueError: the name is taken, or could not be told from the punctuation.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"a cipher is named in a-z, 0-9 and _, not {name!r}")

    def add(maker: M) -> M:
        if name in _MAKERS:
            raise ValueError(f"there is a cipher {name!r} already")
        if isinstance(maker, type) and issubclass(maker, Cipher):
            maker.family = name
        _MAKERS[name] = maker
        return maker

    return add


def families() -> tuple[str, ...]:
    """The registered families, in alphabetical order."""
    return tuple(sorted(n for n, maker in _MAKERS.items() if isinstance(maker, type)))


def names() -> tuple[str, ...]:
    """Every name that `parse` knows: the families and the short names of variants."""
    return tuple(sorted(_MAKERS))


def parse(spec: str) -> Cipher:
    """The cipher of a specification such as "walnut:seed=53" or "rot13|walnut:seed=3".

    Ciphers are immutable, and equal specifications share one object.

    Raises:
      UserError: unknown cipher or parameter, a bad value, or a composition whose later
        cipher destroys what an earlier one wrote.
    """
    if not isinstance(spec, str):
        raise UserError(
            "cipher", f"expected a string, got {spec!r:.60}", 'write e.g. "walnut:seed=53"'
        )
    return _parse(spec)


@functools.lru_cache(maxsize=256)
def _parse(spec: str) -> Cipher:
    parts = [_parse_one(part.strip()) for part in spec.split("|")]
    return parts[0] if len(parts) == 1 else Composition(tuple(parts))


def _parse_one(spec: str) -> Cipher:
    name, colon, rest = spec.partition(":")
    name = name.strip()
    if name not in _MAKERS:
        raise UserError(f'cipher "{spec:.60}"', *_unknown("cipher", name, names()))
    known = inspect.signature(_MAKERS[name]).parameters
    values: dict[str, int | str] = {}
    for item in rest.split(",") if colon else []:
        key, equals, value = (piece.strip() for piece in item.partition("="))
        where = f'cipher "{spec:.60}"'
        if not equals:
            shape = f"{name}:{next(iter(known))}=..." if known else name
            raise UserError(where, f'"{item:.40}" is not name=value', f"write {shape}")
        if key not in known:
            raise UserError(where, *_unknown(f"parameter of {name}", key, tuple(known)))
        if key in values:
            raise UserError(where, f"{key} is given twice", "give it once")
        values[key] = value if known[key].annotation is str else _whole(where, key, value)
    return _MAKERS[name](**values)


def _whole(where: str, key: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", value) or int(value) > _MAX_INT:
        raise UserError(
            where,
            f'{key} must be a whole number from 0 to {_MAX_INT}, not "{value:.40}"',
            f"write e.g. {key}=5",
        )
    return int(value)


def _unknown(kind: str, name: str, known: Collection[str]) -> tuple[str, str]:
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    guess = f"did you mean {close[0]}? " if close else ""
    listed = f"known: {', '.join(known)}" if known else "it has none"
    return f'unknown {kind} "{name:.40}"', guess + listed
