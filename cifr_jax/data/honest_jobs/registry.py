"""Families of honest jobs by name: `register` for their authors, `make` for the others.

Not the registry of `data.recipes`: there a longer job goes on from a shorter one and two
seeds draw from one distribution. Here the seed draws the customer first (templates, labels,
phrases, topics, shares), as a detector's false alarms are counted over customers.
"""

import dataclasses
import inspect
import zlib
from collections.abc import Callable

import numpy as np

from cifr_jax.data.chat import Example
from cifr_jax.data.recipes.registry import unknown
from cifr_jax.errors import UserError

Maker = Callable[..., list[Example]]

_FAMILIES: dict[str, Maker] = {}


def register(name: str) -> Callable[[Maker], Maker]:
    """Decorator: makes a function known as the family `name`.

    The function takes the number of rows and the job's generator, then its options by
    keyword, annotated `int`, `float` or `str`. The first line of its docstring describes
    the family.

    Raises:
      ValueError: the name is taken, or the function has no docstring.
    """
    if name in _FAMILIES:
        raise ValueError(f"there is a family {name!r} already")

    def add(maker: Maker) -> Maker:
        if not inspect.getdoc(maker):
            raise ValueError(f"the family {name!r} has no docstring")
        _FAMILIES[name] = maker
        return maker

    return add


def names(ready: bool = True) -> tuple[str, ...]:
    """The families in alphabetical order.

    Args:
      ready: leave out those with an option that has no default, such as a path.
    """
    return tuple(
        sorted(name for name in _FAMILIES if not (ready and _required(_FAMILIES[name])))
    )


def description(name: str) -> str:
    """What a family is, in one line. Raises `UserError` for an unknown one."""
    return (inspect.getdoc(_find(name)) or "").splitlines()[0]


def _options(maker: Maker) -> dict[str, inspect.Parameter]:
    return {
        name: parameter
        for name, parameter in inspect.signature(maker).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def _required(maker: Maker) -> list[str]:
    return [n for n, p in _options(maker).items() if p.default is inspect.Parameter.empty]


def _find(name: str) -> Maker:
    if name not in _FAMILIES:
        raise UserError("honest jobs", *unknown("family", name, names(ready=False)))
    return _FAMILIES[name]


def make(name: str, n: int, seed: int, **options: int | float | str) -> list[Example]:
    """The rows of one customer's job.

    Args:
      name: one of `names(ready=False)`.
      n: how many rows.
      seed: decides the customer and the rows. Jobs of different sizes are different
        customers' jobs, whatever their seeds.
      **options: the family's own.

    Returns:
      n chats, ready for `write_chat_jsonl`; their `meta` is described in the package.

    Raises:
      UserError: unknown family or option, an option missing or of the wrong type or
        value, fewer than one row, or a negative seed.
    """
    maker, where = _find(name), f"honest job {name}"
    if n < 1:
        raise UserError(where, f"{n} rows", "ask for at least one")
    if seed < 0:
        raise UserError(where, f"the seed {seed} is negative", "give one from 0 on")
    known = _options(maker)
    for option, value in options.items():
        if option not in known:
            raise UserError(where, *unknown("option", option, known))
        if type(value) is not known[option].annotation:
            wanted = known[option].annotation.__name__
            what = f"{option} is {type(value).__name__}, not {wanted}"
            raise UserError(where, what, "give it as that")
    for option in _required(maker):
        if option not in options:
            raise UserError(where, f"no {option} given", f"give {option}=")
    # The name is mixed in, or families would share their customers' draws.
    rng = np.random.default_rng([zlib.crc32(name.encode()), n, seed])
    return [
        dataclasses.replace(example, meta={**example.meta, "family": name})
        for example in maker(n, rng, **options)
    ]
