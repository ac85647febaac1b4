"""What every test of a whole job returns, and the checks that their arguments share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifr_jax.errors import UserError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NOTHING = "nothing to permute"  # detail["note"] of a test that had no choice to make


@dataclass(frozen=True)
class TestResult:
    """One test of one job.

    Attributes:
      name: of the test.
      statistic: observed; its unit is the test's own.
      p_value: in (0, 1]; 1 where nothing could be tested, and detail["note"] says so.
      detail: whatever explains the number.
    """

    __test__ = False  # not a class of tests, whatever pytest reads in its name

    name: str
    statistic: float
    p_value: float
    detail: Mapping[str, Any] = field(default_factory=dict)


def untested(name: str, why: str) -> TestResult:
    """Of a test that could not run."""
    return TestResult(name, 0.0, 1.0, {"note": why})


def monte_carlo_p(observed: float, draws_b: ArrayLike) -> float:
    """(1 + #{T_b >= T}) / (1 + B): never zero, and valid for exchangeable T (Phipson and
    Smyth 2010). Sums taken in another order differ in their last digits: those are ties.
    """
    draws = np.asarray(draws_b, float)
    slack = 1e-9 * max(1.0, abs(observed))
    return float((1 + np.count_nonzero(draws >= observed - slack)) / (1 + draws.size))


def integers(where: str, name: str, values: ArrayLike, n: int | None = None) -> Ints:
    """A vector of integers, of length n if given.

    Raises:
      UserError: not one-dimensional, not integral, or of another length.
    """
    array = np.asarray(values)
    if array.ndim != 1 or (n is not None and array.size != n):
        want = "a vector" if n is None else f"a vector of {n}"
        raise UserError(where, f"{name} has shape {array.shape}", f"give {want} integers")
    if array.size and array.dtype.kind not in "iub":
        raise UserError(where, f"{name} is of type {array.dtype}", "give integers")
    return array.astype(np.int64)


def codes(values_n: NDArray[Any]) -> Ints:
    """0, 1, 2, ... for the distinct values, in their order."""
    return np.unique(values_n, return_inverse=True)[1].reshape(-1).astype(np.int64)


def matrix(where: str, name: str, values: ArrayLike, n: int | None = None) -> Floats:
    """A finite float matrix, of n rows if given.

    Raises:
      UserError: not two-dimensional, of another height, or with NaN or infinities.
    """
    array = np.asarray(values, float)
    if array.ndim != 2 or (n is not None and len(array) != n):
        rows = "" if n is None else f" with {n} rows"
        raise UserError(where, f"{name} has shape {array.shape}", f"give a matrix{rows}")
    if not np.isfinite(array).all():
        raise UserError(where, f"{name} has entries that are not finite", "leave them out")
    return array


def count(where: str, name: str, value: int) -> int:
    """A positive number of permutations or draws.

    Raises:
      UserError: below one.
    """
    if value < 1:
        raise UserError(where, f"{name} is {value}", "give at least 1")
    return int(value)
