"""Seeded draws that keep Python's types, so that what is drawn can be written as JSON."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def pick(rng: np.random.Generator, items: Sequence[T]) -> T:
    """One of the items, each as likely."""
    return items[int(rng.integers(len(items)))]


def sample(rng: np.random.Generator, items: Sequence[T], k: int) -> list[T]:
    """k different items in random order."""
    if k > len(items):
        raise ValueError(f"{k} of {len(items)} items")
    return [items[int(i)] for i in rng.permutation(len(items))[:k]]


def between(rng: np.random.Generator, low: int, high: int) -> int:
    """A whole number from low to high, both included."""
    return int(rng.integers(low, high + 1))
