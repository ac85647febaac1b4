"""Perplexity under the base model: near-perfect on "is it encoded", blind to harm."""

from cifr_jax.monitors.base import ExtraMonitor, register


@register
class Perplexity(ExtraMonitor):
    """Mean negative log-likelihood of the prompt's tokens under the base, in nats.

    Source: Jain et al., "Baseline defenses" (arXiv 2309.00614).
    """

    name = "perplexity"
    level = "prompt"
    extra = "base_nll"
