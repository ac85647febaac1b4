"""Every defence behind one interface; importing this package fills the registry."""

from cifr_jax.monitors import (  # noqa: F401
    bag_of_bytes,
    char_ngrams,
    difference_of_means,
    linear_probe,
    next_token_entropy,
    perplexity,
    refusal_logit,
    self_reflection,
    toxicity,
)
from cifr_jax.monitors.base import LEVELS, Monitor, PromptItem, get, names, register

__all__ = ["LEVELS", "Monitor", "PromptItem", "get", "names", "register"]
