"""Adapters on disk: one safetensors file, bit for bit what training left."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from cifr_jax.models.decoder import Adapter
from cifr_jax.workdir import load_arrays, save_arrays


def save_adapter(path: Path, adapter: Adapter) -> None:
    """Write an adapter; parts that it does not have are left out."""
    parts = {name: part for name, part in adapter._asdict().items() if part is not None}
    save_arrays(path, {"scale": np.asarray(parts.pop("scale"))} | parts)


def load_adapter(path: Path) -> Adapter:
    """Read what `save_adapter` wrote. Raises UserError for a file that is broken."""
    parts = load_arrays(path)
    return Adapter(
        {k: {n: jnp.asarray(x) for n, x in v.items()} for k, v in parts["layers"].items()},
        *(
            {n: jnp.asarray(x) for n, x in parts[name].items()} if name in parts else None
            for name in ("embed", "head")
        ),
        jnp.asarray(parts["scale"]),
    )
