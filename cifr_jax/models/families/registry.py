"""The families of models that are read, by the name in their config.json."""

from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.families import (
    gemma2,
    gemma3,
    llama,
    mistral,
    olmo2,
    phi3,
    qwen2,
    qwen3,
    smollm3,
)
from cifr_jax.models.families.family import Family

_MODULES = (llama, mistral, qwen2, qwen3, gemma2, gemma3, smollm3, phi3, olmo2)
FAMILIES: dict[str, Family] = {module.FAMILY.name: module.FAMILY for module in _MODULES}
ARCHITECTURES: dict[str, Family] = {
    family.architecture: family for family in FAMILIES.values()
}


def family_of(config: DecoderConfig) -> Family:
    """The family of a config."""
    return FAMILIES[config.family]
