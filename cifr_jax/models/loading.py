"""A model by name or path: the packaged tiny base, SmolLM2, a folder, a file, the hub."""

import difflib
from pathlib import Path

import jax
import jax.numpy as jnp

from cifr_jax.errors import UserError
from cifr_jax.models import hub
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Params
from cifr_jax.models.gguf_file import find_smollm2, load_gguf
from cifr_jax.models.hf_folder import load_hf_folder
from cifr_jax.models.tokenizer import ChatTokenizer

TINY = Path(__file__).parent / "tiny"
NAMES = ("tiny", "smollm2")
DTYPES = ("float32", "bfloat16", "float16")


def load(
    name_or_path: str | Path, dtype: str = "float32"
) -> tuple[DecoderConfig, Params, ChatTokenizer, str]:
    """Loads a model.

    Args:
      name_or_path: "tiny", "smollm2", a Hugging Face folder of a family that
        `models.families` knows, a .gguf file, or "owner/name@revision" on the hub. A name
        wins over a folder of that name ("./tiny" is the folder), a folder over the hub.
      dtype: of the parameters: float32, bfloat16 or float16.

    Returns:
      `(config, params, tokenizer, name)`; params are JAX arrays on the default device.

    Raises:
      UserError: an unknown name or dtype, or a model that cannot be loaded.
    """
    if dtype not in DTYPES:
        raise UserError("dtype", f"{dtype!r} is not supported", f"use {', '.join(DTYPES)}")
    path = Path(name_or_path)
    if name_or_path == "tiny":
        loaded, name = load_hf_folder(TINY, dtype), "tiny"
    elif name_or_path == "smollm2":
        loaded, name = load_gguf(find_smollm2(), dtype), "smollm2"
    elif path.is_dir():
        loaded, name = load_hf_folder(path, dtype), path.resolve().name
    elif path.suffix == ".gguf":
        loaded, name = load_gguf(path, dtype), path.stem
    elif path.is_file():
        mend = "give the folder that holds config.json, or a .gguf file"
        raise UserError(str(path), "a model is a folder or a .gguf file", mend)
    elif hub.is_hub_id(str(name_or_path)):
        folder, name = hub.fetch(str(name_or_path))
        loaded = load_hf_folder(folder, dtype)
    else:
        close = difflib.get_close_matches(str(name_or_path), NAMES, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        names = ", ".join(NAMES)
        mend = f"{hint}give {names}, a folder, a .gguf file, or owner/name on the hub"
        raise UserError(str(name_or_path), "no such model", mend)
    config, params, tokenizer = loaded
    return config, jax.tree.map(jnp.asarray, params), tokenizer, name
