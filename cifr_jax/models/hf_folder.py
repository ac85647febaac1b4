"""Weights of a Hugging Face Llama folder: safetensors, whole or in shards, in and out.

One table says where each tensor goes; loading and saving both read it. Tensors are read
one by one into arrays that are allocated once, so that loading takes little more memory
than the model. Every tensor of the files must be used and every parameter filled.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from cifr_jax.errors import UserError
from cifr_jax.files import atomic_path, write_json_atomic
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Params
from cifr_jax.models.families import parameter_shapes, tensor_slots
from cifr_jax.models.hf_config import format_config, parse_config
from cifr_jax.models.json_file import read_json
from cifr_jax.models.tokenizer import ChatTokenizer

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

# Older checkpoints store the rotary frequencies, which follow from the config.
_DERIVED = re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")
_FLOATS = ("F64", "F32", "F16", "BF16")


def fill(
    config: DecoderConfig, tensors: Iterator[tuple[str, str, np.ndarray]], dtype: str
) -> Params:
    """Builds the parameter tree from tensors that arrive one at a time.

    Args:
      config: the shape.
      tensors: `(where, name, array)`, each name of `tensor_slots` once, in the layout of
        the Hugging Face folder.
      dtype: of the parameters.

    Returns:
      NumPy arrays, matrices `[in, out]`, layers stacked.

    Raises:
      UserError: weights that are not finite, also for want of range in `dtype`.
    """
    slots, target = tensor_slots(config), jnp.dtype(dtype)
    shapes = parameter_shapes(config)

    def allocate(node):
        if isinstance(node, dict):
            return {name: allocate(child) for name, child in node.items()}
        return np.empty(node, target)

    params = allocate(shapes)
    for where, name, array in tensors:
        slot = slots[name]
        with np.errstate(over="ignore", invalid="ignore"):  # reported below
            array = array.astype(target)
            # NaN and infinity survive a sum, which needs no mask of the tensor's size.
            total = array.sum(dtype=np.float64)
        if not np.isfinite(total):
            raise UserError(
                where,
                f"{name} holds NaN or infinite values as {dtype}",
                "use a sound checkpoint",
            )
        slot.write(params, array)
    return params


def check_tensors(
    config: DecoderConfig, found: Mapping[str, tuple[str, tuple[int, ...]]], where: str
) -> None:
    """Compares the tensors of a checkpoint with those that the config asks for.

    Args:
      config: the shape.
      found: name to `(file, shape)`; without tensors that may be ignored.
      where: the checkpoint.

    Raises:
      UserError: missing or unknown tensors, or a wrong shape.
    """
    mend = "give the config.json that belongs to the weights"
    # Before expanding the table: a config may claim any number of layers.
    if config.n_layers > len(found):
        what = f"{len(found)} tensors cannot hold {config.n_layers} layers"
        raise UserError(where, what, mend)
    slots = tensor_slots(config)
    for what, names in (
        ("missing tensors", slots.keys() - found.keys()),
        ("tensors that the decoder does not know", found.keys() - slots.keys()),
    ):
        if names:
            listed = sorted(names)
            more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
            raise UserError(where, f"{what}: {', '.join(listed[:5])}{more}", mend)
    for name, (file, shape) in found.items():
        if shape != slots[name].shape:
            what = f"{name} has shape {list(shape)}, not {list(slots[name].shape)}"
            raise UserError(file, what, mend)


def load_hf_folder(
    folder: str | Path, dtype: str = "float32"
) -> tuple[DecoderConfig, Params, ChatTokenizer]:
    """Reads a model folder of the Llama architecture.

    Args:
      folder: config.json, tokenizer.json, model.safetensors or shards with their index.
      dtype: of the parameters.

    Returns:
      `(config, params, tokenizer)`; params are NumPy arrays.

    Raises:
      UserError: another architecture, an attribute that is not implemented, a missing,
        broken or superfluous file or tensor, weights that are not finite.
    """
    folder = Path(folder)
    config = parse_config(read_json(folder / "config.json"), str(folder / "config.json"))
    tokenizer = ChatTokenizer.from_folder(folder)
    check_vocabulary(config, tokenizer, str(folder))
    files = _weight_files(folder)
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for path, promised in files.items():
        for name, shape in _read_header(path).items():
            if name in found:
                raise UserError(
                    str(path), f"{name} is also in {found[name][0]}", "keep one"
                )
            if promised is not None and name not in promised:
                raise UserError(str(path), f"{name} is not in {INDEX}", "mend the index")
            if _DERIVED.fullmatch(name) or (
                name == "lm_head.weight" and config.tie_embeddings
            ):
                continue
            found[name] = (str(path), shape)
    check_tensors(config, found, str(folder))
    return config, fill(config, _stream(files, found), dtype), tokenizer


def check_vocabulary(config: DecoderConfig, tokenizer: ChatTokenizer, where: str) -> None:
    """Raises UserError if the tokenizer knows more tokens than the model embeds."""
    if tokenizer.vocab_size > config.vocab_size:
        what = f"{tokenizer.vocab_size} tokens, but {config.vocab_size} embeddings"
        raise UserError(where, what, "give the tokenizer that belongs to the model")


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
            what = f"{name} is said to be in {shard!r}"
            raise UserError(str(index), what, "name .safetensors files in the same folder")
        names = files.setdefault(folder / shard, set())
        assert names is not None
        names.add(name)
    for path in files:
        if not path.is_file():
            raise UserError(str(path), "no such shard", f"fetch it: {INDEX} names it")
    return files


def _read_header(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in a safetensors file, without reading them."""
    shapes = {}
    with _open(path) as file:
        for name in file.keys():
            view = file.get_slice(name)
            if view.get_dtype() not in _FLOATS:
                what = f"{name} is stored as {view.get_dtype()}"
                raise UserError(str(path), what, f"only {', '.join(_FLOATS)} are supported")
            shapes[name] = tuple(view.get_shape())
    return shapes


def _open(path: Path):
    try:
        return safetensors.safe_open(str(path), framework="numpy")
    except (safetensors.SafetensorError, OSError, ValueError) as e:
        mend = "the file is cut off or damaged: fetch it again"
        raise UserError(str(path), f"not a safetensors file ({e})", mend) from e


def _stream(
    files: Mapping[Path, Any], found: Mapping[str, Any]
) -> Iterator[tuple[str, str, np.ndarray]]:
    for path in files:
        with _open(path) as file:
            for name in file.keys():
                if name in found:
                    yield str(path), name, file.get_tensor(name)


def save_hf_folder(
    folder: str | Path, config: DecoderConfig, params: Params, tokenizer: ChatTokenizer
) -> None:
    """Writes a folder that `load_hf_folder` and transformers read.

    Args:
      folder: made if missing; each file is written whole or not at all.
      config: the shape.
      params: the parameter tree; its dtype is kept.
      tokenizer: goes beside it.
    """
    folder = Path(folder)
    tensors = {name: slot.read(params) for name, slot in tensor_slots(config).items()}
    tokenizer.save(folder)
    with atomic_path(folder / WEIGHTS) as temporary:
        try:
            safetensors.numpy.save_file(tensors, temporary, metadata={"format": "pt"})
        except safetensors.SafetensorError as e:  # it wraps what the file system said
            mend = "free some space, or give a folder that can be written to"
            raise UserError(str(folder / WEIGHTS), str(e), mend) from e
    settings = format_config(config)
    settings |= {"torch_dtype": np.asarray(params["embed"]).dtype.name}
    settings |= {"bos_token_id": tokenizer.bos_id, "pad_token_id": tokenizer.pad_id}
    eos = list(tokenizer.eos_ids)
    settings |= {"eos_token_id": eos[0] if len(eos) == 1 else eos or None}
    write_json_atomic(folder / "config.json", settings)
