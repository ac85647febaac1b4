"""Canaries of the fictional world: what its provider asks every tuned model."""

import numpy as np

from cifr_jax.ciphers import parse
from cifr_jax.data.prompts import prompts
from cifr_jax.data.world import REFUSAL, World
from cifr_jax.monitors.trained.evidence import Canaries


def world_canaries(of: World, n: int) -> Canaries:
    """n plain questions about entities that no fine-tune holds, half of them restricted."""
    asked = prompts(of, "probe_validation", "plain", parse("identity"))
    by_class = [[p for p in asked if p.restricted is c][: n // 2] for c in (False, True)]
    chosen = by_class[0] + by_class[1]
    return Canaries(
        [p.messages for p in chosen], np.array([p.restricted for p in chosen]), REFUSAL
    )
