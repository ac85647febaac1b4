"""Checkpoints of an unfinished run, by orbax: written whole, kept until the next is.

A checkpoint is a tree of arrays, sharded or not, and a small JSON record beside it. It
comes back on as many devices as the new run has.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging

from cifr_jax.errors import UserError
from cifr_jax.files import NO_SPACE, refused_by_disk

_MEND = "delete the folder: the run begins again"


def _shapes(tree: Any) -> dict[str, str]:
    """Shape and dtype of every leaf by its place in the tree."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
    }


def _cause(error: BaseException) -> OSError | None:
    """The file system's refusal behind an error, which may be told as text only."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno:
            return seen
        if found := re.search(r"os_error_code='(\d+)'", str(seen)):  # tensorstore's words
            return OSError(int(found[1]), os.strerror(int(found[1])))
        for number in NO_SPACE:
            if re.search(re.escape(os.strerror(number)), str(seen), re.IGNORECASE):
                return OSError(number, os.strerror(number))
        seen = seen.__cause__ or seen.__context__
    return None


class Checkpoints:
    """The checkpoints of one run.

    Args:
      folder: where they lie; made when the first is saved.
      run: identifies the run: another run's checkpoint is refused.
      keep: how many of the latest stay.
    """

    def __init__(self, folder: str | os.PathLike[str], run: str, keep: int = 1):
        self.folder, self.run, self.keep = Path(folder).absolute(), run, keep

    @contextlib.contextmanager
    def _manager(self) -> Iterator[ocp.CheckpointManager]:
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self.keep, enable_async_checkpointing=False, create=True
        )
        before = logging.get_verbosity()
        logging.set_verbosity(logging.WARNING)  # orbax tells every step of its own
        try:
            with ocp.CheckpointManager(self.folder, options=options) as manager:
                yield manager
        finally:
            logging.set_verbosity(before)

    def save(self, step: int, state: Any, record: Mapping[str, Any] | None = None) -> None:
        """Save the state after `step` steps; the one before it stays until this is whole.

        Args:
          step: how far the run is.
          state: a tree of arrays.
          record: what JSON can hold.

        Raises:
          UserError: the file system refused; earlier checkpoints are intact.
        """
        meta = {"run": self.run, "shapes": _shapes(state), "record": dict(record or {})}
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
        )
        try:
            with self._manager() as manager:
                manager.save(step, args=arguments, force=True)
        except (OSError, ValueError, RuntimeError) as error:
            refused = _cause(error)
            if refused is None:
                raise
            raise refused_by_disk(self.folder, refused) from error

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        """Step and record of the latest checkpoint, or None if there is none.

        Raises:
          UserError: it cannot be read, or is another run's.
        """
        if not self.folder.exists():
            return None
        try:
            with self._manager() as manager:
                step = manager.latest_step()
                if step is None:
                    return None
                restored = manager.restore(
                    step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
                )
                meta = restored["meta"]
                run, record = meta["run"], meta["record"]
        except Exception as error:  # whatever a broken file makes orbax raise
            raise self._unreadable(error) from error
        if run != self.run:
            what = "a checkpoint of another model, config or upload"
            raise UserError(str(self.folder), what, _MEND)
        return step, record

    def restore(self, step: int, like: Any) -> Any:
        """The state of one step.

        Args:
          step: of a checkpoint that is there.
          like: a tree of arrays of the same structure, shapes and dtypes; where its leaves
            have a sharding, the state comes back so sharded.

        Raises:
          UserError: it cannot be read, or holds another state.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            with self._manager() as manager:
                restored = manager.restore(
                    step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
                )
                had, wanted = restored["meta"]["shapes"], _shapes(like)
                differing = sorted(
                    n for n in had.keys() | wanted.keys() if had.get(n) != wanted.get(n)
                )
                if not differing:
                    restored = manager.restore(
                        step,
                        args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract)),
                    )
                    return restored["state"]
        except Exception as error:  # whatever a broken file makes orbax raise
            raise self._unreadable(error) from error
        what = f"a checkpoint of another model or config ({differing[0]} differs)"
        raise UserError(str(self.folder), what, _MEND)

    def _unreadable(self, error: BaseException) -> UserError:
        what = json.dumps(str(error).split("\n")[0][:200])
        return UserError(str(self.folder), f"not a readable checkpoint ({what})", _MEND)

    def delete(self) -> None:
        """Remove them all: the run's result is safe elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)
