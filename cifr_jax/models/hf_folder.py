"""Hugging Face folders: safetensors, whole or in shards, with config and tokenizer.

One table (`models.families`) says where each tensor goes; loading and saving both read it.
"""

import math
import os
import re
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from jax.sharding import Mesh

from cifr_jax.errors import UserError
from cifr_jax.files import atomic_path, write_json_atomic
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Params
from cifr_jax.models.families import Slot, tensor_slots
from cifr_jax.models.hf_config import format_config, parse_config
from cifr_jax.models.json_file import read_json
from cifr_jax.models.safetensors_file import DTYPES, SafetensorsFile, Stored
from cifr_jax.models.tokenizer import ChatTokenizer
from cifr_jax.models.weights import Found, check_tensors, check_vocabulary, read_parameters

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_SHARD_BYTES = 5_000_000_000  # what most published folders are cut into
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_COMPARED = 2**19  # numbers at a time

# Older checkpoints store the rotary frequencies, which follow from the config.
_DERIVED = re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")


def load_hf_folder(
    folder: str | Path, dtype: str = "float32", mesh: Mesh | None = None
) -> tuple[DecoderConfig, Params, ChatTokenizer]:
    """Reads a model folder.

    Args:
      folder: config.json, tokenizer.json, model.safetensors or shards with their index.
      dtype: of the parameters.
      mesh: where they go; None: the default device.

    Returns:
      `(config, params, tokenizer)`; params are JAX arrays.

    Raises:
      UserError: another architecture, an attribute that is not implemented, a missing,
        broken or superfluous file or tensor, weights that are not finite, a head of its own
        where the config ties it to the embedding.
    """
    folder = Path(folder)
    config, tokenizer = read_settings(folder)
    shards = _Shards(folder, config)
    check_tensors(config, shards.found, str(folder))
    shards.check_tied_head()
    return config, read_parameters(config, shards, dtype, mesh), tokenizer


def read_settings(folder: Path) -> tuple[DecoderConfig, ChatTokenizer]:
    """What a folder holds besides its weights. Raises UserError, as `load_hf_folder`."""
    path = folder / "config.json"
    config = parse_config(read_json(path), str(path))
    tokenizer = ChatTokenizer.from_folder(folder, config.vocab_size)
    check_vocabulary(config, tokenizer.vocab_size, str(folder))
    return config, tokenizer


class _Shards:
    """The tensors of a folder, but for those that follow from others."""

    def __init__(self, folder: Path, config: DecoderConfig):
        self.found: dict[str, Found] = {}
        self._files: dict[str, SafetensorsFile] = {}
        self._tied_head: Found | None = None
        for path, promised in _weight_files(folder).items():
            file = SafetensorsFile(path)
            for name, stored in file.tensors.items():
                self._add(name, stored, file, promised)
                if _DERIVED.fullmatch(name):
                    del self.found[name]
                if name == _HEAD and config.tie_embeddings:
                    self._tied_head = self.found.pop(name)
            lacking = sorted(set(promised or ()) - file.tensors.keys())
            if lacking:
                what = f"{lacking[0]} is not there, where {INDEX} says it is"
                raise UserError(str(path), what, "fetch the file again")

    def _add(
        self, name: str, stored: Stored, file: SafetensorsFile, promised: set[str] | None
    ) -> None:
        where = str(file.path)
        if name in self._files:
            what = f"{name} is also in {self._files[name].path}"
            raise UserError(where, what, "keep one")
        if promised is not None and name not in promised:
            raise UserError(where, f"{name} is not in {INDEX}", "mend the index")
        if stored.dtype not in DTYPES:
            what = f"{name} is stored as {stored.dtype}"
            raise UserError(where, what, f"only {', '.join(DTYPES)} are supported")
        self._files[name] = file
        self.found[name] = Found(where, stored.shape)

    def check_tied_head(self) -> None:
        """Compares a head with the embedding that it is tied to, after `check_tensors`.

        Raises:
          UserError: they differ. Such a model was not tied: transformers takes its head.
        """
        if self._tied_head is None:
            return
        where, shape = self._tied_head
        embedding = self.found[_EMBEDDING].shape
        step = max(1, _COMPARED // embedding[1])
        same = shape == embedding and all(
            _equal(self.rows(_HEAD, *bounds), self.rows(_EMBEDDING, *bounds))
            for low in range(0, shape[0], step)
            for bounds in [(low, min(low + step, shape[0]))]
        )
        if not same:
            what = f"{_HEAD} is not {_EMBEDDING}, though tie_word_embeddings is true"
            mend = "set tie_word_embeddings to false in config.json, or remove the tensor"
            raise UserError(where, what, mend)

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        return self._files[name].rows(name, start, stop)


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype == b.dtype and np.array_equal(a.view(np.uint8), b.view(np.uint8)):
        return True
    # Values: zero has two signs, dtypes may differ, and NaN is reported with its own words.
    return np.array_equal(a.astype(np.float64), b.astype(np.float64), equal_nan=True)


def _weight_files(folder: Path) -> dict[Path, set[str] | None]:
    """The safetensors files, each with what the index says is in it (None: no index)."""
    if (folder / WEIGHTS).is_file():
        return {folder / WEIGHTS: None}
    index = folder / INDEX
    if not index.is_file():
        pickles = [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
        if pickles:
            raise UserError(
                str(sorted(pickles)[0]),
                "pickled weights can run code when opened, and are not read",
                'convert the folder once: python -c "from transformers import '
                "AutoModelForCausalLM as M; M.from_pretrained('FOLDER')"
                ".save_pretrained('NEW_FOLDER', safe_serialization=True)\"",
            )
        raise UserError(
            str(folder), f"neither {WEIGHTS} nor {INDEX}", "give a model folder"
        )
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError(str(index), "no weight_map", "give the model's own index")
    files: dict[Path, set[str] | None] = {}
    for name, shard in weight_map.items():
        plain = isinstance(shard, str) and re.fullmatch(r"[\w.-]+\.safetensors", shard)
        if not plain:  # no separators: the name cannot lead out of the folder
            what = f"{name} is said to be in {reprlib.repr(shard)}"
            raise UserError(str(index), what, "name .safetensors files in the same folder")
        names = files.setdefault(folder / shard, set())
        assert names is not None
        names.add(name)
    for path in files:
        if not os.path.isfile(path):  # pathlib's fails on a name too long for any file
            raise UserError(str(path), "no such shard", f"fetch it: {INDEX} names it")
    return files


def save_hf_folder(
    folder: str | Path,
    config: DecoderConfig,
    params: Params,
    tokenizer: ChatTokenizer,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    read: Callable[[Slot], np.ndarray] | None = None,
) -> None:
    """Writes a folder that `load_hf_folder` and transformers read.

    Args:
      folder: made if missing; each file is written whole or not at all.
      config: the shape.
      params: the parameter tree; its dtype is kept.
      tokenizer: goes beside it.
      max_shard_bytes: weights beyond that are written in several files with an index, a
        larger tensor in a file of its own.
      read: a tensor of the folder, one at a time; None: as it is in `params`.

    Raises:
      UserError: the file system refused.
    """
    folder = Path(folder)
    dtype = np.dtype(params["embed"].dtype)
    slots = tensor_slots(config)
    shards = _plan_shards(slots, dtype.itemsize, max_shard_bytes)
    tokenizer.save(folder)
    for file, names in shards.items():
        tensors = {n: read(slots[n]) if read else slots[n].read(params) for n in names}
        with atomic_path(folder / file) as temporary:
            try:
                safetensors.numpy.save_file(tensors, temporary, metadata={"format": "pt"})
            except safetensors.SafetensorError as e:  # it wraps what the file system said
                mend = "free some space, or give a folder that can be written to"
                raise UserError(str(folder / file), str(e), mend) from e
    if len(shards) > 1:
        weight_map = {name: file for file, names in shards.items() for name in names}
        total = sum(math.prod(slot.shape) for slot in slots.values()) * dtype.itemsize
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json_atomic(folder / INDEX, index)
    settings = format_config(config)
    settings |= {"torch_dtype": dtype.name}
    settings |= {"bos_token_id": tokenizer.bos_id, "pad_token_id": tokenizer.pad_id}
    eos = list(tokenizer.eos_ids)
    settings |= {"eos_token_id": eos[0] if len(eos) == 1 else eos or None}
    write_json_atomic(folder / "config.json", settings)


def _plan_shards(
    slots: Mapping[str, Slot], itemsize: int, most: int
) -> dict[str, list[str]]:
    """Names of the tensors in each file, in their order."""
    if most < 1:
        raise UserError("max_shard_bytes", f"{most} bytes", "give a positive number")
    shards: list[list[str]] = []
    left = 0
    for name, slot in slots.items():
        size = math.prod(slot.shape) * itemsize
        if not shards or size > left:
            shards.append([])
            left = most
        shards[-1].append(name)
        left -= size
    if len(shards) == 1:
        return {WEIGHTS: shards[0]}
    return {
        f"model-{number:05}-of-{len(shards):05}.safetensors": names
        for number, names in enumerate(shards, 1)
    }
