"""One owner of a folder at a time, whoever else asks and however the owner ends.

The lock is the operating system's, on the file .lock: it falls with the process that holds
it. The file stays behind, since to delete it would be a race. Imports no JAX.
"""

import fcntl
import os
from pathlib import Path

from cifr_jax.errors import UserError
from cifr_jax.files import refused_by_disk

NAME = ".lock"


class FolderLock:
    """A folder that this object owns until `close`; a context manager.

    Args:
      folder: made if missing.
      mode: permissions of a folder that is made, less the umask.

    Raises:
      UserError: it cannot be made or written to, or another owner works in it.
    """

    def __init__(self, folder: str | os.PathLike[str], mode: int = 0o777):
        path = Path(folder)
        try:
            path.mkdir(parents=True, exist_ok=True, mode=mode)
            self._file = os.open(path / NAME, os.O_RDWR | os.O_CREAT, mode & 0o666)
        except OSError as error:
            raise refused_by_disk(path, error) from error
        try:
            self._take(path)
        except OSError as error:
            self.close()
            raise refused_by_disk(path, error) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the folder up; more than once is once."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _take(self, path: Path) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._file, 32, 0).decode(errors="replace").strip()
            raise UserError(
                str(path),
                f"in use by another run (process {owner or 'unknown'})",
                "wait for it to end, or give another --workdir",
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
