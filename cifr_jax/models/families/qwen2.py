"""Qwen2 and Qwen2.5: biases on queries, keys and values; a window that is mostly off."""

from typing import Any

from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.families.common import (
    SILU,
    read_sizes,
    read_switched_window,
    write_switched_window,
)
from cifr_jax.models.families.family import LLAMA, Family
from cifr_jax.models.families.rope_settings import read_rope, write_rope
from cifr_jax.models.families.settings import Settings


def _read(settings: Settings) -> dict[str, Any]:
    settings.fixed("hidden_act", "silu")
    settings.fixed("use_mrope", False)
    sizes = read_sizes(settings, kv_heads=32, positions=32768)
    window = read_switched_window(settings, sizes["n_layers"])
    return sizes | read_rope(settings) | window | {"biases": ("q", "k", "v")}


def _write(config: DecoderConfig) -> dict[str, Any]:
    return SILU | write_rope(config) | write_switched_window(config)


FAMILY = Family(
    name="qwen2",
    architecture="Qwen2ForCausalLM",
    tensors=LLAMA,
    read=_read,
    write=_write,
)
