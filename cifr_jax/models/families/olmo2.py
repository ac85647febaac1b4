"""OLMo 2: norms after attention and feed-forward alone, and of all queries and keys of a
token together."""

from typing import Any

from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.families.common import SILU, read_biases, read_sizes, write_biases
from cifr_jax.models.families.family import COMMON, Family
from cifr_jax.models.families.rope_settings import read_rope, write_rope
from cifr_jax.models.families.settings import Settings


def _read(settings: Settings) -> dict[str, Any]:
    settings.fixed("hidden_act", "silu")
    sizes = read_sizes(settings, eps=1e-5)
    return (
        sizes
        | read_rope(settings)
        | read_biases(settings)
        | {
            "norm": "olmo",
            "pre_norm": False,
            "post_norm": True,
            "qk_norm": "width",
        }
    )


def _write(config: DecoderConfig) -> dict[str, Any]:
    return SILU | write_rope(config) | write_biases(config)


FAMILY = Family(
    name="olmo2",
    architecture="Olmo2ForCausalLM",
    tensors={
        **COMMON,
        "model.layers.{l}.post_attention_layernorm.weight": ("attn_post_norm",),
        "model.layers.{l}.post_feedforward_layernorm.weight": ("mlp_post_norm",),
    },
    read=_read,
    write=_write,
)
