"""Llama 2, 3, 3.1 and 3.2, and what shares their architecture (SmolLM2)."""

from typing import Any

from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.families.common import SILU, read_biases, read_sizes, write_biases
from cifr_jax.models.families.family import LLAMA, Family
from cifr_jax.models.families.rope_settings import read_rope, write_rope
from cifr_jax.models.families.settings import Settings


def _read(settings: Settings) -> dict[str, Any]:
    settings.fixed("hidden_act", "silu")
    fields = read_sizes(settings) | read_rope(settings)
    return fields | read_biases(settings, feed_forward=True)


def _write(config: DecoderConfig) -> dict[str, Any]:
    return SILU | write_rope(config) | write_biases(config, feed_forward=True)


FAMILY = Family(
    name="llama",
    architecture="LlamaForCausalLM",
    tensors=LLAMA,
    read=_read,
    write=_write,
)
