"""What a family of models is described by.

Legend of tables: a name of Hugging Face, with {l} for the number of a layer, to our names.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.families.settings import Settings

Table = Mapping[str, tuple[str, ...]]

ENDS: Table = {
    "model.embed_tokens.weight": ("embed",),
    "model.norm.weight": ("final_norm",),
    "lm_head.weight": ("head",),
}
NORMS: Table = {
    "model.layers.{l}.input_layernorm.weight": ("attn_norm",),
    "model.layers.{l}.post_attention_layernorm.weight": ("mlp_norm",),
}
# Biases and norms of queries and keys are there where the config has them.
COMMON: Table = {
    **ENDS,
    "model.layers.{l}.self_attn.q_proj.weight": ("q",),
    "model.layers.{l}.self_attn.q_proj.bias": ("q_bias",),
    "model.layers.{l}.self_attn.k_proj.weight": ("k",),
    "model.layers.{l}.self_attn.k_proj.bias": ("k_bias",),
    "model.layers.{l}.self_attn.v_proj.weight": ("v",),
    "model.layers.{l}.self_attn.v_proj.bias": ("v_bias",),
    "model.layers.{l}.self_attn.o_proj.weight": ("o",),
    "model.layers.{l}.self_attn.o_proj.bias": ("o_bias",),
    "model.layers.{l}.mlp.gate_proj.weight": ("gate",),
    "model.layers.{l}.mlp.gate_proj.bias": ("gate_bias",),
    "model.layers.{l}.mlp.up_proj.weight": ("up",),
    "model.layers.{l}.mlp.up_proj.bias": ("up_bias",),
    "model.layers.{l}.mlp.down_proj.weight": ("down",),
    "model.layers.{l}.mlp.down_proj.bias": ("down_bias",),
    "model.layers.{l}.self_attn.q_norm.weight": ("q_norm",),
    "model.layers.{l}.self_attn.k_norm.weight": ("k_norm",),
}
LLAMA: Table = {**COMMON, **NORMS}


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
      name: `model_type` in config.json.
      architecture: the class in transformers.
      tensors: names in checkpoints to arrays of our tree: several where the tensor holds
        them one after the other. A row counts where the config has its arrays.
      read: fields of a `DecoderConfig` out of config.json, those of `sizes` included; what
        it does not ask for is refused.
      write: attributes of config.json beyond those that all families share.
    """

    name: str
    architecture: str
    tensors: Table
    read: Callable[[Settings], dict[str, Any]]
    write: Callable[[DecoderConfig], dict[str, Any]]
