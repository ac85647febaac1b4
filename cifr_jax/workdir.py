"""The work folder: finished artefacts under content keys, atomic writes, one owner.

    artefacts/<stage>-<first 16 of the key>/DONE    what made it, and its files' hashes
    manifest.json                                   every artefact's DONE in one file
    .lock                                           held while a process owns the folder

An artefact is made in a hidden temporary folder and renamed when it is complete, so a
process may be killed at any moment and nothing half-made is ever taken for finished.
Importing this module imports no JAX.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from cifr_jax import compiled_programs
from cifr_jax.files import NO_SPACE, TEMPORARY, refused_by_disk, write_json_atomic
from cifr_jax.files import load_arrays as load_arrays
from cifr_jax.files import save_arrays as save_arrays
from cifr_jax.files import write_bytes_atomic as write_bytes_atomic
from cifr_jax.folder_lock import FolderLock

DONE = "DONE"
_STAGE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_PACKAGES = (
    ("cifr_jax", "jax", "jaxlib", "flax", "optax", "numpy", "safetensors")
    + ("tokenizers", "jinja2", "ml_collections")
)  # fmt: skip


def _canonical(value: Any) -> bytes:
    """JSON with one spelling: sorted keys, no spaces, ASCII; NaN and odd types raise."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def _fingerprint(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and hash of every file under `folder`, by its path inside, in a fixed order."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise ValueError(f"{path.name}: an artefact may hold no links")
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = _fingerprint(path)
    return found


@functools.cache
def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that figures may depend on."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


@functools.cache
def git_revision() -> str | None:
    """Commit of the checkout that this code runs from, "-dirty" if changed; else None."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():  # an installed copy may lie in a stranger's checkout
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        if done.returncode == 0:
            return done.stdout.strip()
    return None


def device_name() -> str:
    """The accelerator, in words; "unknown" where the program has not imported JAX."""
    jax = sys.modules.get("jax")
    if jax is None:
        return "unknown"
    devices = jax.devices()
    return f"{len(devices)} x {devices[0].platform} ({devices[0].device_kind})"


class Workdir:
    """A work folder, owned by this process until `close` (or the end of a `with`).

    Args:
      path: the folder; made if missing.
      device: what to write down as the device; by default `device_name()`.

    Raises:
      UserError: the path is a file, cannot be written to, or another process owns it.
    """

    def __init__(self, path: str | os.PathLike[str], device: str | None = None):
        self.path = Path(path)
        self._device = device
        self._artefacts = self.path / "artefacts"
        self._checked: set[str] = set()
        self._lock = FolderLock(self.path)
        try:
            self._artefacts.mkdir(exist_ok=True)
            # Whoever made these is gone, or we would not hold the lock.
            for folder in (self.path, self._artefacts):
                for stale in folder.glob(TEMPORARY + "*"):
                    self._remove(stale)
            self._manifest = self._read_manifest()
            self._write_manifest()
        except OSError as error:
            self.close()
            raise refused_by_disk(self.path, error) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Workdir":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the folder up."""
        self._lock.close()

    @staticmethod
    def key(
        stage: str,
        config_leaves: Mapping[str, Any],
        inputs: Sequence[str],
        code_version: str,
    ) -> str:
        """SHA-256 (hex) of everything that an artefact depends on.

        Args:
          stage: name of the stage.
          config_leaves: only those config values that the stage reads.
          inputs: keys of the artefacts, or hashes of the files, that it reads; in order.
          code_version: to be raised whenever the stage's code gives another result.
        """
        parts = [stage, dict(config_leaves), list(inputs), code_version]
        return hashlib.sha256(_canonical(parts)).hexdigest()

    def finished(self, stage: str, key: str) -> bool:
        """Whether `get_or_make` would make nothing."""
        folder = self._artefacts / f"{stage}-{key[:16]}"
        return folder.exists() and self._fault(folder, key) is None

    def get_or_make(
        self,
        stage: str,
        key: str,
        make: Callable[[Path], None],
        *,
        config_leaves: Mapping[str, Any] | None = None,
        inputs: Sequence[str] = (),
        seed: int | None = None,
    ) -> Path:
        """The folder of a finished artefact, made now if there is none that is sound.

        Args:
          stage: name of the stage; letters, digits, "_", "-", ".".
          key: from `Workdir.key`.
          make: writes the artefact's files into the folder that it is given.
          config_leaves, inputs, seed: only written down, in `DONE` and the manifest.

        Raises:
          UserError: no space left. Whatever `make` raises is passed on; nothing is left.
        """
        if not _STAGE.fullmatch(stage):
            raise ValueError(f"stage name {stage!r}")
        name = f"{stage}-{key[:16]}"
        final = self._artefacts / name
        if name in self._checked:
            return final
        if final.exists():
            fault = self._fault(final, key)
            if fault is None:
                self._checked.add(name)
                return final
            logging.warning("%s: %s; it is made again", final, fault)
            self._remove(final)
            self._manifest.pop(name, None)
            self._write_manifest()
        temporary = self._artefacts / f"{TEMPORARY}{name}-{secrets.token_hex(4)}"
        started = time.perf_counter()
        try:
            temporary.mkdir()
            make(temporary)
            record = {
                "stage": stage,
                "key": key,
                "config": dict(config_leaves or {}),
                "inputs": list(inputs),
                "seed": seed,
                "packages": package_versions(),
                "git_revision": git_revision(),
                "device": self._device or device_name(),
                "wall_seconds": round(time.perf_counter() - started, 3),
                "files": _files(temporary),
            }
            write_json_atomic(temporary / DONE, record)
            os.rename(temporary, final)
        except OSError as error:
            if error.errno in NO_SPACE:
                raise refused_by_disk(self.path, error) from error
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            compiled_programs.free_if_many()
        self._checked.add(name)
        self._manifest[name] = record
        self._write_manifest()
        return final

    def _remove(self, path: Path) -> None:
        """Deletes a file or folder; a kill in the middle leaves only a stale temporary."""
        if not path.name.startswith(TEMPORARY):
            hidden = path.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
            os.rename(path, hidden)
            path = hidden
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()

    def _fault(self, folder: Path, key: str) -> str | None:
        """Why the artefact in `folder` cannot be trusted; None if it can."""
        try:
            record = json.loads((folder / DONE).read_bytes())
            if record["key"] != key:
                return "made under another key"
            for name, wanted in record["files"].items():
                path = folder / name
                if not path.is_file() or path.is_symlink():
                    return f"{name} is missing"
                if path.stat().st_size != wanted["bytes"] or _fingerprint(path) != wanted:
                    return f"{name} is not as it was written"
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            return f"{DONE} cannot be read ({type(error).__name__})"
        return None

    def _read_manifest(self) -> dict[str, Any]:
        """From the artefacts themselves: a kill just before its last write is healed."""
        records = {}
        for done in sorted(self._artefacts.glob(f"*/{DONE}")):
            with contextlib.suppress(OSError, ValueError):
                records[done.parent.name] = json.loads(done.read_bytes())
        return records

    def _write_manifest(self) -> None:
        artefacts = dict(sorted(self._manifest.items()))
        write_json_atomic(
            self.path / "manifest.json", {"schema": 1, "artefacts": artefacts}
        )
