"""The state of an unfinished training run, as one safetensors file."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cifr_jax.errors import UserError
from cifr_jax.files import write_bytes_atomic


def _names(tree: Any) -> list[str]:
    return [
        jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    ]


def save_state(path: Path, state: Any, losses: np.ndarray, step: int) -> None:
    """Write the state after `step` steps; the file that was there survives a crash."""
    # Not ascontiguousarray, which gives scalars (an optimiser's count) an axis.
    leaves = [np.asarray(leaf, order="C") for leaf in jax.tree.leaves(state)]
    arrays = dict(zip(_names(state), leaves, strict=True)) | {"losses": losses}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(path, save(arrays, metadata={"run": json.dumps({"step": step})}))


def restore_state(
    path: Path, state: Any, losses: np.ndarray
) -> tuple[Any, np.ndarray, int]:
    """Read a state of the structure of `state`.

    Returns:
      `(state, losses, steps done)`.

    Raises:
      UserError: for a truncated file, or one of another model or configuration.
    """
    try:
        with safe_open(str(path), framework="numpy") as file:
            step = int(json.loads(file.metadata()["run"])["step"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            str(path), f"not a readable checkpoint ({error})", "delete it"
        ) from error
    wanted = dict(zip(_names(state), jax.tree.leaves(state), strict=True)) | {
        "losses": losses
    }
    for name in sorted(wanted.keys() | arrays.keys()):
        have, want = arrays.get(name), wanted.get(name)
        if (
            have is None
            or want is None
            or have.shape != want.shape
            or have.dtype != want.dtype
        ):
            raise UserError(
                str(path),
                f"a checkpoint of another model or config ({name} differs)",
                "delete it",
            )
    leaves = [arrays[name] for name in _names(state)]
    return jax.tree.unflatten(jax.tree.structure(state), leaves), arrays["losses"], step
