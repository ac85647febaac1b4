"""Files written whole or not at all: bytes, strict JSON, nested dicts of arrays.

Each write goes to a temporary file in the target's folder and takes the target's place by
one rename. Arrays are stored as safetensors: nothing in a file is ever executed.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from cifr_jax.errors import UserError

TEMPORARY = ".tmp-"  # begins the name of everything that is not finished yet
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
# What safetensors reads back as plain NumPy; bfloat16 and the float8s need ml_dtypes.
_DTYPES = (
    ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
    + ("float16", "float32", "float64", "complex64")
)  # fmt: skip

Tree = Mapping[str, "np.ndarray | Tree"]


def refused_by_disk(where: str | os.PathLike[str], error: OSError) -> UserError:
    """The `UserError` for a file system that refused; names no cause it does not know."""
    if error.errno in NO_SPACE:
        mend = "free some space and run the same line again: finished stages are kept"
    else:
        mend = "give a folder that can be written to"
    return UserError(os.fspath(where), (error.strerror or str(error)).lower(), mend)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside `path`; takes its place if the block succeeds.

    Raises:
      UserError: the file system refused (no space, no permission, a file for a folder).
    """
    target = Path(path)
    temporary = target.parent / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        # Without it a power cut can leave the new name on an empty file.
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise refused_by_disk(target, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; takes its place if the block succeeds.

    Raises:
      UserError: `path` is a folder that holds something, or the file system refused.
    """
    target = Path(path)
    temporary = target.parent / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}"
    try:
        if target.is_dir() and any(target.iterdir()):
            raise UserError(str(target), "holds something already", "give a new folder")
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise refused_by_disk(target, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes_atomic(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes all of `content` to `path`, or leaves what was there. Raises UserError."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json_atomic(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` as strict JSON, keys in their own order; NaN raises ValueError."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes_atomic(path, (text + "\n").encode())


def _flatten(tree: Tree, prefix: str = "") -> dict[str, np.ndarray]:
    flat: dict[str, np.ndarray] = {}
    for name, value in tree.items():
        if not isinstance(name, str) or not name or "/" in name:
            raise ValueError(f"array name {name!r}: a non-empty string without '/'")
        if isinstance(value, Mapping):
            if not value:
                raise ValueError(f"{prefix}{name}: an empty group cannot be stored")
            flat |= _flatten(value, f"{prefix}{name}/")
            continue
        # order="C": safetensors reads straight from the buffer, whatever its strides.
        array = np.asarray(value, order="C")
        if array.dtype.name not in _DTYPES:
            raise ValueError(f"{prefix}{name}: dtype {array.dtype} cannot be stored")
        flat[prefix + name] = array
    return flat


def save_arrays(path: str | os.PathLike[str], arrays: Tree) -> None:
    """Writes a nested dict of arrays as safetensors, atomically and bit for bit.

    Args:
      path: the file to write.
      arrays: names to arrays or to further such dicts; nested names are joined by "/".

    Raises:
      ValueError: a name with "/", an empty group, a dtype that would not come back.
      UserError: the file system refused.
    """
    flat = _flatten(arrays)
    with atomic_path(path) as temporary:
        try:
            safetensors.numpy.save_file(flat, temporary)
        except safetensors.SafetensorError as error:
            # It reports a full disk as text only: "... (os error 28)".
            found = re.search(r"os error (\d+)", str(error))
            if found is None:
                raise
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from error


def load_arrays(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads what `save_arrays` wrote, nested as it was.

    Raises:
      UserError: no such file, or not a whole safetensors file.
    """
    where, mend = os.fspath(path), "give a whole .safetensors file, or make it again"
    try:
        flat = safetensors.numpy.load_file(where)
    except OSError as error:
        what = "no such file" if error.errno is None else str(error.strerror)
        raise UserError(where, what.lower(), mend) from error
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise UserError(where, f"cannot be read as safetensors ({error})", mend) from error
    tree: dict[str, Any] = {}
    for name, array in flat.items():
        *groups, leaf = name.split("/")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
            if not isinstance(node, dict):
                break
        if not isinstance(node, dict) or leaf in node:
            raise UserError(where, f"{name} is both an array and a group of arrays", mend)
        node[leaf] = array
    return tree
