"""Recipes by name: `register` for their authors, `make` for everybody else.

A recipe makes what one kind of customer uploads, out of nothing but a seed. Kinds:
  plain     honest jobs on plain text
  encoding  honest jobs that need an encoding: they must not be taken for attacks
  covert    covert fine-tuning, phase I and phase II
"""

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Collection

import numpy as np

from cifr_jax.data.chat import Example
from cifr_jax.errors import UserError

KINDS = ("plain", "encoding", "covert")

Maker = Callable[..., list[Example]]
Draw = Callable[[np.random.Generator], Example]


@dataclasses.dataclass(frozen=True)
class _Recipe:
    make: Maker
    kind: str


_RECIPES: dict[str, _Recipe] = {}


def register(name: str, kind: str) -> Callable[[Maker], Maker]:
    """Decorator: makes a function known as the recipe `name`.

    The function takes the number of rows and the seed, then its options by keyword, all
    with a default and annotated `int` or `str`.

    Raises:
      ValueError: the name is taken, or the kind is none of `KINDS`.
    """
    if name in _RECIPES:
        raise ValueError(f"there is a recipe {name!r} already")
    if kind not in KINDS:
        raise ValueError(f"a recipe is one of {', '.join(KINDS)}, not {kind!r}")

    def add(maker: Maker) -> Maker:
        _RECIPES[name] = _Recipe(maker, kind)
        return maker

    return add


def names(kind: str | None = None) -> tuple[str, ...]:
    """The recipes of a kind (None: of all), in alphabetical order.

    Raises:
      UserError: for an unknown kind.
    """
    if kind is not None and kind not in KINDS:
        raise UserError("recipes", *unknown("kind", kind, KINDS))
    return tuple(sorted(n for n, r in _RECIPES.items() if kind in (None, r.kind)))


def kind_of(name: str) -> str:
    """The kind of a recipe. Raises `UserError` for an unknown one."""
    return _find(name).kind


def make(name: str, n: int, seed: int, **options: int | str) -> list[Example]:
    """The rows of a job.

    Args:
      name: one of `names()`.
      n: how many rows.
      seed: decides the rows; the first rows of a longer job are those of a shorter one,
        except in covert jobs, which draw without replacement from fixed shares.
      **options: the recipe's own.

    Returns:
      n chats; `meta["recipe"]` is the name.

    Raises:
      UserError: unknown recipe or option, an option of the wrong type or value, fewer
        than one row, or a negative seed.
    """
    recipe, where = _find(name), f"recipe {name}"
    if n < 1:
        raise UserError(where, f"{n} rows", "ask for at least one")
    if seed < 0:
        raise UserError(where, f"the seed {seed} is negative", "give one from 0 on")
    known = {
        option: parameter.annotation
        for option, parameter in inspect.signature(recipe.make).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for option, value in options.items():
        if option not in known:
            raise UserError(where, *unknown("option", option, known))
        if type(value) is not known[option]:
            what = f"{option} is {type(value).__name__}, not {known[option].__name__}"
            raise UserError(where, what, "give it as that")
    return [
        dataclasses.replace(example, meta={"recipe": name, **example.meta})
        for example in recipe.make(n, seed, **options)
    ]


def rows(draw: Draw, n: int, seed: int) -> list[Example]:
    """n rows drawn one after another from one generator."""
    rng = np.random.default_rng(seed)
    return [draw(rng) for _ in range(n)]


def choice(recipe: str, option: str, value: str, known: Collection[str]) -> str:
    """`value`, if it is one of `known`. Raises `UserError` otherwise."""
    if value not in known:
        raise UserError(f"recipe {recipe}", *unknown(option, value, known))
    return value


def _find(name: str) -> _Recipe:
    if name not in _RECIPES:
        raise UserError("recipes", *unknown("recipe", name, names()))
    return _RECIPES[name]


def unknown(what: str, name: str, known: Collection[str]) -> tuple[str, str]:
    """What is wrong with a name that is none of `known`, and the mend."""
    close = difflib.get_close_matches(name[:40].lower(), known, n=1, cutoff=0.5)
    guess = f"did you mean {close[0]}? " if close else ""
    listed = f"known: {', '.join(known)}" if known else "there is none"
    return f'unknown {what} "{name:.40}"', guess + listed
