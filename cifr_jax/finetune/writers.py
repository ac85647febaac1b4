"""Where the figures of a training run go while it trains: JSONL always, others on demand.

A writer takes `(step, {name: number})`. JSONL is kept whole over kills: a line is written
once, and a step that is told again is left out.
"""

import importlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from cifr_jax.errors import UserError
from cifr_jax.files import refused_by_disk

NAMES = ("jsonl", "tensorboard", "wandb")


class Writer(Protocol):
    """Takes figures of a step."""

    def write(self, step: int, figures: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class JsonlWriter:
    """One JSON object a line: `{"step": 50, "loss": 1.2}`.

    Args:
      path: the file; lines that an earlier process wrote stay, a torn last one is removed.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.written: set[int] = set()
        kept = b""
        if self.path.exists():
            for line in self.path.read_bytes().splitlines(keepends=True):
                try:
                    step = json.loads(line)["step"]
                except (ValueError, KeyError, TypeError):
                    break  # the process died while it wrote this line
                if not line.endswith(b"\n"):
                    break
                self.written.add(step)
                kept += line
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "r+b" if self.path.exists() else "wb")
            self._file.seek(len(kept))
            self._file.truncate()
        except OSError as error:
            raise refused_by_disk(self.path, error) from error

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Append a line, at once on disk; numbers that are not finite become null."""
        if step in self.written:
            return
        finite = {
            name: float(x) if math.isfinite(x) else None for name, x in figures.items()
        }
        try:
            self._file.write((json.dumps({"step": step} | finite) + "\n").encode())
            self._file.flush()
        except OSError as error:
            raise refused_by_disk(self.path, error) from error
        self.written.add(step)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoardWriter:
    """Scalars for TensorBoard, by tensorboardX (extra `tb`)."""

    def __init__(self, folder: str | os.PathLike[str]):
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            what = "the writer tensorboard needs tensorboardX, which is not installed"
            mend = 'run: pip install "cifr-jax[tb]"'
            raise UserError("config.writers", what, mend) from error
        self._writer: Any = SummaryWriter(os.fspath(folder))

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """One scalar a figure."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class WandbWriter:
    """Figures for Weights & Biases (extra `wandb`); its own environment sets it up."""

    def __init__(self, folder: str | os.PathLike[str], name: str):
        try:
            # By name: an account's client, which the lock of the tests leaves out.
            wandb = importlib.import_module("wandb")
        except ImportError as error:
            what = "the writer wandb needs wandb, which is not installed"
            mend = 'run: pip install "cifr-jax[wandb]"'
            raise UserError("config.writers", what, mend) from error
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._run: Any = wandb.init(
            project="cifr_jax", name=name, dir=os.fspath(folder), id=name, resume="allow"
        )

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """One record a step."""
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


def open_writers(names: Sequence[str], folder: Path, run: str) -> list[Writer]:
    """The writers of a run; JSONL is always among them.

    Args:
      names: from `NAMES`.
      folder: `rounds.jsonl` and folders of the others go there.
      run: a name that stays the same when the run goes on.

    Raises:
      UserError: for an unknown name, or one whose package is not installed.
    """
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        what = f"unknown writer {', '.join(unknown)}"
        raise UserError("config.writers", what, f"known: {', '.join(NAMES)}")
    found: list[Writer] = []
    if "tensorboard" in names:
        found.append(TensorBoardWriter(folder / "tensorboard"))
    if "wandb" in names:
        found.append(WandbWriter(folder / "wandb", run))
    return [JsonlWriter(folder / "rounds.jsonl"), *found]
