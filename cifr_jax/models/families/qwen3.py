"""Qwen3 (dense): queries and keys of each head are normalised; else as Qwen2."""

from typing import Any

from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.families.common import (
    SILU,
    read_biases,
    read_sizes,
    read_switched_window,
    write_biases,
    write_switched_window,
)
from cifr_jax.models.families.family import LLAMA, Family
from cifr_jax.models.families.rope_settings import read_rope, write_rope
from cifr_jax.models.families.settings import Settings


def _read(settings: Settings) -> dict[str, Any]:
    settings.fixed("hidden_act", "silu")
    sizes = read_sizes(settings, kv_heads=32, head=128, positions=32768)
    fields = sizes | read_rope(settings) | read_biases(settings) | {"qk_norm": "head"}
    return fields | read_switched_window(settings, sizes["n_layers"])


def _write(config: DecoderConfig) -> dict[str, Any]:
    found = SILU | write_rope(config) | write_biases(config)
    return found | write_switched_window(config)


FAMILY = Family(
    name="qwen3",
    architecture="Qwen3ForCausalLM",
    tensors=LLAMA,
    read=_read,
    write=_write,
)
