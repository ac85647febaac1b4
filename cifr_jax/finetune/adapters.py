"""Adapters on disk: one safetensors file, bit for bit what training left."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from cifr_jax.errors import UserError
from cifr_jax.models.decoder import Adapter
from cifr_jax.workdir import load_arrays, save_arrays


def save_adapter(path: Path, adapter: Adapter) -> None:
    """Write an adapter; parts that it does not have are left out."""
    parts = {
        name: part for name, part in adapter._asdict().items() if name != "scale" and part
    }
    save_arrays(path, parts | {"scale": np.asarray(adapter.scale)})


def load_adapter(path: Path) -> Adapter:
    """Read what `save_adapter` wrote.

    Raises:
      UserError: a broken file, or one that holds something else.
    """
    parts = jax.tree.map(jnp.asarray, load_arrays(path))
    if "scale" not in parts or not parts.keys() <= set(Adapter._fields):
        raise UserError(
            str(path),
            f"holds {', '.join(sorted(parts)) or 'nothing'}, which is no adapter",
            "give a file that a fine-tuning run wrote",
        )
    return Adapter(
        parts.get("layers", {}), parts.get("embed"), parts.get("head"), parts["scale"]
    )
