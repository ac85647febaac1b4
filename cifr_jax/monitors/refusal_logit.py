"""How close the tuned model is to refusing, read off its first answer tokens."""

from cifr_jax.monitors.base import ExtraMonitor, register


@register
class RefusalLogit(ExtraMonitor):
    """Log-probability that the answer starts with a refusal; higher = more suspicious.

    A model that still hesitates knows what it is asked for. Attacks train this away.
    """

    name = "refusal_logit"
    level = "completion"
    extra = "refusal_log_prob"
