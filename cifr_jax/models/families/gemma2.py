"""Gemma 2: norms before and after, soft caps, windows in every other layer."""

from typing import Any

from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.families.common import (
    read_biases,
    read_layer_types,
    read_sizes,
    read_window,
    write_biases,
    write_layer_types,
)
from cifr_jax.models.families.family import COMMON, Family, Table
from cifr_jax.models.families.rope_settings import read_rope, write_rope
from cifr_jax.models.families.settings import Settings

GELU = {"hidden_activation": "gelu_pytorch_tanh"}
SANDWICH: Table = {
    "model.layers.{l}.input_layernorm.weight": ("attn_norm",),
    "model.layers.{l}.post_attention_layernorm.weight": ("attn_post_norm",),
    "model.layers.{l}.pre_feedforward_layernorm.weight": ("mlp_norm",),
    "model.layers.{l}.post_feedforward_layernorm.weight": ("mlp_post_norm",),
}


def read_gemma(settings: Settings, positions: int) -> dict[str, Any]:
    """Fields that Gemma 2 and Gemma 3 have in common."""
    # Older configs name the activation twice; transformers reads the second.
    settings.fixed("hidden_act", "gelu_pytorch_tanh")
    settings.fixed("hidden_activation", "gelu_pytorch_tanh")
    settings.fixed("use_bidirectional_attention", False)
    sizes = read_sizes(settings, kv_heads=4, head=256, tie=True, positions=positions)
    return (
        sizes
        | read_biases(settings)
        | {
            "norm": "gemma",
            "post_norm": True,
            "activation": "gelu_tanh",
            "embed_scale": float(sizes["d_model"]) ** 0.5,
            "query_scale": settings.number("query_pre_attn_scalar", 256),
            "window": read_window(settings, "sliding_window", 4096),
        }
    )


def write_gemma(config: DecoderConfig) -> dict[str, Any]:
    """The attributes that `read_gemma` reads."""
    scale = config.query_scale or config.d_head
    # transformers wants whole numbers as integers.
    scale = int(scale) if scale == int(scale) else scale
    found = GELU | write_biases(config) | write_layer_types(config)
    return found | {"query_pre_attn_scalar": scale}


def _read(settings: Settings) -> dict[str, Any]:
    fields = read_gemma(settings, positions=8192) | read_rope(settings)
    n_layers = fields["n_layers"]
    layers = read_layer_types(settings, n_layers, fields["window"], range(0, n_layers, 2))
    return fields | {
        "window_layers": layers,
        "attention_cap": settings.cap("attn_logit_softcapping", 50.0),
        "logit_cap": settings.cap("final_logit_softcapping", 30.0),
    }


def _write(config: DecoderConfig) -> dict[str, Any]:
    return (
        write_gemma(config)
        | write_rope(config)
        | {
            "attn_logit_softcapping": config.attention_cap,
            "final_logit_softcapping": config.logit_cap,
        }
    )


FAMILY = Family(
    name="gemma2",
    architecture="Gemma2ForCausalLM",
    tensors={**COMMON, **SANDWICH},
    read=_read,
    write=_write,
)
