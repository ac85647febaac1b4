"""A model by name or path: the packaged tiny base, SmolLM2, a folder, a file, the hub."""

import difflib
import os
from pathlib import Path
from typing import NamedTuple

from jax.sharding import Mesh

from cifr_jax.errors import UserError
from cifr_jax.models import gguf_file, hf_folder, hub, quantised
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Params
from cifr_jax.models.smollm2 import find_smollm2
from cifr_jax.models.tokenizer import ChatTokenizer

TINY = Path(__file__).parent / "tiny"
NAMES = ("tiny", "smollm2")
DTYPES = ("float32", "bfloat16", "float16")


class Source(NamedTuple):
    """Where a model lies on this machine.

    Attributes:
      path: a Hugging Face folder or a .gguf file.
      name: what to call the model.
    """

    path: Path
    name: str

    def read_settings(self) -> tuple[DecoderConfig, ChatTokenizer]:
        """Shape and tokenizer, at no cost of weights. Raises UserError."""
        if self.path.suffix == ".gguf":
            return gguf_file.read_settings(self.path)
        return hf_folder.read_settings(self.path)


def find(name_or_path: str | Path, weights: bool = True) -> Source:
    """Where the model of a name is; what is not on this machine yet is fetched.

    Args:
      name_or_path: as in `load`.
      weights: False: those of the hub are not fetched.

    Raises:
      UserError: no such model.
    """
    path = Path(name_or_path)
    if name_or_path == "tiny":
        return Source(TINY, "tiny")
    if name_or_path == "smollm2":
        return Source(find_smollm2(), "smollm2")
    # Unlike pathlib's, these do not fail on a name too long for any file.
    if os.path.isdir(path):
        return Source(path, path.resolve().name)
    if path.suffix == ".gguf":
        return Source(path, path.stem)
    if os.path.isfile(path):
        mend = "give the folder that holds config.json, or a .gguf file"
        raise UserError(str(path), "a model is a folder or a .gguf file", mend)
    if hub.is_name(str(name_or_path)):
        return Source(*hub.fetch(str(name_or_path), weights))
    close = difflib.get_close_matches(str(name_or_path), NAMES, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    mend = f"{hint}give {' or '.join(NAMES)}, a Hugging Face folder, a .gguf file or the "
    mend += "hub's owner/name"
    raise UserError(str(name_or_path), "no such model", mend)


def load(
    name_or_path: str | Path,
    dtype: str = "float32",
    mesh: Mesh | None = None,
    quantise: str = "",
) -> tuple[DecoderConfig, Params, ChatTokenizer, str]:
    """Loads a model.

    Args:
      name_or_path: "tiny", "smollm2", a Hugging Face folder, a .gguf file, or a model of
        the hub as "owner/name" or "owner/name@revision". "tiny" and "smollm2" win over
        folders of that name ("./tiny" is the folder), folders over the hub.
      dtype: of the parameters: float32, bfloat16 or float16.
      mesh: where they go, as `sharding.parameter_shardings` says; None: the default device.
      quantise: int8 or nf4, of the matrices of blocks; empty: as they are.

    Returns:
      `(config, params, tokenizer, name)`; params are JAX arrays, and quantised matrices.

    Raises:
      UserError: an unknown name or dtype, or a model that cannot be loaded.
    """
    if dtype not in DTYPES:
        raise UserError("dtype", f"{dtype!r} is not supported", f"use {', '.join(DTYPES)}")
    if mesh is not None and quantise:
        what, mend = "a quantised base lies on one device", "give no mesh, or no kind"
        raise UserError("quantise", what, mend)
    path, name = find(name_or_path)
    read = gguf_file.load_gguf if path.suffix == ".gguf" else hf_folder.load_hf_folder
    config, params, tokenizer = read(path, dtype, mesh)
    if quantise:
        params = quantised.quantise(params, quantise)
    return config, params, tokenizer, name
