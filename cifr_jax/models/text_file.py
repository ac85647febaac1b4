"""Text files of model folders, which anybody may have made: bounded before reading."""

import io
import os
from pathlib import Path

from cifr_jax.errors import UserError

# The largest index of shards in use has some 10 MB; parsed, JSON takes several times that.
MOST_BYTES = 2**24


def read_text(path: str | Path, most: int = MOST_BYTES) -> str:
    """The text of a file, with newlines as Python's text mode has them.

    Args:
      path: of the file.
      most: bytes that it may have.

    Raises:
      FileNotFoundError: there is none, for callers that can do without.
      UserError: no plain file (a pipe would never end), too large, not UTF-8, not readable.
    """
    path = Path(path)
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise UserError(str(path), "cannot be read (no plain file)", "give a file")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > most:
                what = f"{size:,} bytes, more than the {most:,} of any such file"
                raise UserError(str(path), what, "give the model's own")
            content = file.read(size)
        return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8").read()
    except FileNotFoundError:
        raise
    except UnicodeDecodeError as e:
        raise UserError(str(path), f"not UTF-8 (byte {e.start})", "save it as UTF-8") from e
    except (OSError, ValueError) as e:  # a NUL in the path
        why = getattr(e, "strerror", None) or str(e)
        raise UserError(str(path), f"cannot be read ({why})", "give a file") from e
