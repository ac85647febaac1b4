"""config.json of a Hugging Face folder, to a `DecoderConfig` and back.

Every attribute is implemented, known to leave the logits alone, or refused by name and
value: a setting that is silently ignored is a model that is silently wrong. What each
family reads stands in `models.families`.
"""

import reprlib
from collections.abc import Mapping
from typing import Any

from cifr_jax.errors import UserError
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.families.registry import ARCHITECTURES, family_of
from cifr_jax.models.families.rope_settings import check_rotations
from cifr_jax.models.families.settings import Settings


def parse_config(settings: Mapping[str, Any], where: str) -> DecoderConfig:
    """The decoder that a config.json describes.

    Args:
      settings: the parsed file.
      where: its path, for messages.

    Raises:
      UserError: an unknown architecture; an attribute, or a value of one, that the decoder
        does not implement; a number that is missing or out of range; rotary frequencies
        that are not finite.
    """
    named = settings.get("architectures")
    only = named[0] if isinstance(named, list) and len(named) == 1 else None
    family = ARCHITECTURES.get(only) if isinstance(only, str) else None
    if family is None:
        what = f"architectures is {reprlib.repr(named)}"
        raise UserError(where, what, f"supported is one of {', '.join(ARCHITECTURES)}")
    reader = Settings(settings, where)
    reader.fixed("model_type", family.name)
    fields = family.read(reader)
    reader.finish()
    try:
        config = DecoderConfig(**fields, family=family.name)
    except ValueError as e:
        raise UserError(where, str(e), "correct the config") from e
    check_rotations(reader, config)
    return config


def format_config(config: DecoderConfig) -> dict[str, Any]:
    """The config.json of a decoder, in the form that transformers 4 and 5 both read."""
    family = family_of(config)
    return {
        "architectures": [family.architecture],
        "model_type": family.name,
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.d_head,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
    } | family.write(config)
