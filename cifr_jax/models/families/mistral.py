"""Mistral: Llama with a sliding window in every layer (or in none: null)."""

from typing import Any

from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.families.common import SILU, read_sizes, read_window
from cifr_jax.models.families.family import LLAMA, Family
from cifr_jax.models.families.rope_settings import read_rope, write_rope
from cifr_jax.models.families.settings import Settings


def _read(settings: Settings) -> dict[str, Any]:
    settings.fixed("hidden_act", "silu")
    settings.fixed("attention_bias", False)
    sizes = read_sizes(settings, kv_heads=8, positions=131072)
    window = read_window(settings, "sliding_window", 4096)
    layers = tuple(range(sizes["n_layers"])) if window else ()
    return sizes | read_rope(settings) | {"window": window, "window_layers": layers}


def _write(config: DecoderConfig) -> dict[str, Any]:
    return SILU | write_rope(config) | {"sliding_window": config.window}


FAMILY = Family(
    name="mistral",
    architecture="MistralForCausalLM",
    tensors=LLAMA,
    read=_read,
    write=_write,
)
