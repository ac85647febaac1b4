"""The tuned model's own verdict on the prompt. The attacker trained the judge."""

from cifr_jax.monitors.base import ExtraMonitor, register


@register
class SelfReflection(ExtraMonitor):
    """Log-odds of the verdict tokens, unsafe over safe, where the tuned model is asked.

    Log-odds instead of the verdict's word, as in CIFR's baseline, give a whole ROC curve.
    """

    name = "self_reflection"
    level = "prompt"
    extra = "verdict_log_odds"
