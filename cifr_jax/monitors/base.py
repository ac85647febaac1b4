"""The interface of every monitor, what it may look at, and the registry.

A monitor gives scores, higher = more suspicious. It sees only what a provider of
fine-tuning sees: prompts and answers as the model saw them, activations of the tuned model,
and quantities that the provider can compute with the base or the tuned model. Decoded text
is the benchmark's secret and has no place here.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, ClassVar, TypeVar

import numpy as np

from cifr_jax.errors import UserError

LEVELS = ("prompt", "completion", "dataset", "trajectory", "adapter")


@dataclass(frozen=True, eq=False)
class PromptItem:
    """One prompt as the tuned model saw it.

    Attributes:
      prompt: the rendered text.
      messages: the chat turns that it was rendered from.
      activations: `{pool: x_ld}`, one vector a layer, or None where none were captured.
      job: name of the fine-tuning job whose model it was sent to.
      extras: scalars that need a model to compute, by name (`base_nll`, ...).
    """

    prompt: str
    messages: Sequence[Any] = ()
    activations: Mapping[str, np.ndarray] | None = None
    job: str = ""
    extras: Mapping[str, float] = field(default_factory=dict)


class Monitor(ABC):
    """A defence. Subclass, set `name` and `level`, and register to enter the benchmark."""

    name: ClassVar[str]
    level: ClassVar[str]
    control: ClassVar[bool] = False  # True: a detector that must fall to chance

    def fit(
        self,
        items: Sequence[PromptItem],
        labels: Any,
        validation: Sequence[PromptItem] = (),
        validation_labels: Any = (),
    ) -> "Monitor":
        """Learns from training items (label 1: attack); chooses settings on validation.

        Monitors without anything to learn keep this default. Raises ValueError for input
        that cannot be learned from.
        """
        return self

    @abstractmethod
    def score_many(self, items: Sequence[PromptItem]) -> np.ndarray:
        """Scores `[n]`, float64, higher = more suspicious."""

    def score(self, item: PromptItem) -> float:
        """Score of one item."""
        return float(self.score_many([item])[0])


class ExtraMonitor(Monitor):
    """A monitor whose score is one of the item's extras, nothing learned."""

    extra: ClassVar[str]

    def score_many(self, items: Sequence[PromptItem]) -> np.ndarray:
        """The extra of each item; ValueError where the benchmark did not compute it."""
        missing = sum(self.extra not in item.extras for item in items)
        if missing:
            raise ValueError(
                f"monitor {self.name!r} needs extras[{self.extra!r}], "
                f"missing in {missing} of {len(items)} items"
            )
        return np.array([item.extras[self.extra] for item in items], np.float64)


MonitorClass = TypeVar("MonitorClass", bound=type[Monitor])
_REGISTRY: dict[str, Callable[..., Monitor]] = {}


def register(cls: MonitorClass) -> MonitorClass:
    """Class decorator: makes the monitor available under its `name`."""
    name, level = getattr(cls, "name", None), getattr(cls, "level", None)
    if not isinstance(name, str) or not name:
        raise ValueError(f"{cls.__name__} needs a name")
    if level not in LEVELS:
        raise ValueError(f"{cls.__name__}.level must be one of {LEVELS}, got {level!r}")
    if name in _REGISTRY:
        raise ValueError(f"a monitor named {name!r} is already registered")
    _REGISTRY[name] = cls
    return cls


def names() -> tuple[str, ...]:
    """Names of all registered monitors, sorted."""
    return tuple(sorted(_REGISTRY))


def get(name: str, **options: Any) -> Monitor:
    """A fresh monitor by name; UserError with the nearest name for an unknown one."""
    if name not in _REGISTRY:
        near = get_close_matches(name, _REGISTRY, n=1)
        mend = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names())}"
        raise UserError("monitors", f"unknown monitor {name!r}", mend)
    return _REGISTRY[name](**options)
