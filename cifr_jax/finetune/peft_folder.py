"""The files of a PEFT adapter's folder: settings, weights and card, read and written."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from cifr_jax.errors import UserError
from cifr_jax.files import load_arrays, whole_folder
from cifr_jax.models.json_file import read_json

SETTINGS, WEIGHTS, CARD = "adapter_config.json", "adapter_model.safetensors", "README.md"
_PICKLE = "adapter_model.bin"
_FLOATS = ("float16", "bfloat16", "float32", "float64")

_CARD = """---
base_model: {base}
library_name: peft
tags:
- lora
---

# A LoRA adapter

Low-rank updates (rank {r}, alpha {alpha}) of {targets}, trained with cifr_jax, a benchmark
of defences of fine-tuning services. The base, and how the adapter was made:

```json
{facts}
```

In Python: `peft.PeftModel.from_pretrained(base, FOLDER)`. In vLLM: `--enable-lora` with
`--max-lora-rank` of at least {r}. In cifr_jax: `cifr_jax.finetune.peft.load_peft`.
"""


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The object in `adapter_config.json`, and every tensor of the weights.

    Raises:
      UserError: a missing or broken file, pickled weights, or tensors that are not floats.
    """
    path = folder / WEIGHTS
    if not os.path.isfile(folder / SETTINGS):  # pathlib's fails on a name that is too long
        raise UserError(str(folder), f"no {SETTINGS}", "give the folder of a PEFT adapter")
    settings = read_json(folder / SETTINGS)
    if (folder / _PICKLE).exists() and not path.exists():
        raise UserError(
            str(folder / _PICKLE),
            "pickled weights can run code when opened, and are not read",
            "load the adapter in PEFT, where you trust it, and save it again with "
            "save_pretrained(FOLDER), which writes safetensors",
        )
    tensors = load_arrays(path)
    for name, array in tensors.items():
        kind = array.dtype.name if isinstance(array, np.ndarray) else "a group of tensors"
        if kind not in _FLOATS:
            mend = f"only {', '.join(_FLOATS)} are supported"
            raise UserError(str(path), f"{name} is {kind}", mend)
    return settings, tensors


def write_folder(
    folder: Path,
    settings: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    provenance: Mapping[str, Any],
) -> None:
    """Writes the three files, or nothing.

    Args:
      folder: a new or an empty one.
      settings: for `adapter_config.json`.
      tensors: for the weights, C-ordered.
      provenance: JSON values for the card.

    Raises:
      UserError: a folder that holds something, or a file system that refuses.
      ValueError: `provenance` holds what is no JSON.
    """
    card = _card(settings, provenance)
    with whole_folder(folder) as temporary:
        for name, content in (
            (SETTINGS, (json.dumps(settings, indent=1) + "\n").encode()),
            # The mark of tensors that torch can read; some readers insist on it.
            (WEIGHTS, safetensors.numpy.save(dict(tensors), metadata={"format": "pt"})),
            (CARD, card.encode()),
        ):
            with open(temporary / name, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())


def _card(settings: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    base = settings["base_model_name_or_path"]
    return _CARD.format(
        base=_inert_json(base),  # JSON's strings are YAML's, too
        r=settings["r"],
        alpha=settings["lora_alpha"],
        targets=", ".join(f"`{name}`" for name in settings["target_modules"]),
        facts=_inert_json({"base_model": base, **provenance}, indent=2),
    )


def _inert_json(value: Any, indent: int | None = None) -> str:
    """JSON in ASCII that neither ends a code block nor begins a tag."""
    try:
        text = json.dumps(value, indent=indent, allow_nan=False)
    except TypeError as error:
        raise ValueError(f"provenance: {error}") from error
    for character in "`<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
