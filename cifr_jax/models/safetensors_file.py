"""One safetensors file: its header checked before anything is allocated, parts read alone.

The library maps a whole file, which then counts as resident as far as it was touched. Here
only the rows asked for are mapped, while they are copied.

Format: https://huggingface.co/docs/safetensors (eight bytes with the header's length, the
header as JSON, then the tensors without gaps).
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax.numpy as jnp
import numpy as np

from cifr_jax.errors import UserError
from cifr_jax.models.json_file import unique_names

DTYPES: Mapping[str, Any] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16,
}  # fmt: skip
_MOST_HEADER = 100_000_000  # bytes: the format's own limit
_LARGEST, _MOST_AXES = 2**63, 8  # of numbers and axes: products stay small
_MEND = "the file is cut off or damaged: fetch it again"


class Stored(NamedTuple):
    """Where a tensor lies.

    Attributes:
      dtype: the format's name for it.
      shape: of the tensor.
      start, stop: bytes in the file.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class SafetensorsFile:
    """The header of a file, and reads of parts of its tensors.

    Args:
      path: of the file.

    Attributes:
      path: of the file.
      tensors: what is in it, by name.

    Raises:
      UserError: cut off, not of this format, a header that claims more than there is,
        tensors that overlap, have gaps between them or a size that is not their shape's.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            size = os.path.getsize(path)
            with open(path, "rb") as file:
                claimed = int.from_bytes(file.read(8), "little")
                # Compared before it is believed: a header may claim any length.
                if size < 8 or not 2 <= claimed <= min(size - 8, _MOST_HEADER):
                    self._refuse(f"{size:,} bytes, and a header of {claimed:,}")
                header = json.loads(file.read(claimed), object_pairs_hook=unique_names)
        except OSError as e:
            self._refuse(e.strerror or str(e))
        except (ValueError, RecursionError) as e:
            self._refuse(f"the header: {e or type(e).__name__}")
        if not isinstance(header, dict):
            self._refuse("the header is no object")
        header.pop("__metadata__", None)
        begin = 8 + claimed
        self.tensors = {name: self._parse(name, entry) for name, entry in header.items()}
        end = 0
        for name, stored in sorted(self.tensors.items(), key=lambda item: item[1][2:]):
            if stored.start != end:
                self._refuse(f"{name} overlaps another tensor, or leaves a gap before it")
            end = stored.stop
        if begin + end != size:
            self._refuse(f"{size - begin:,} bytes of tensors, not {end:,}")
        self.tensors = {
            name: stored._replace(start=begin + stored.start, stop=begin + stored.stop)
            for name, stored in self.tensors.items()
        }

    def _refuse(self, what: str) -> NoReturn:
        raise UserError(str(self.path), f"not a safetensors file ({what})", _MEND)

    def _parse(self, name: str, entry: Any) -> Stored:
        try:
            dtype, shape = entry["dtype"], entry["shape"]
            start, stop = entry["data_offsets"]
        except (TypeError, KeyError, ValueError):
            self._refuse(f"{name} is not described")
        numbers = [start, stop, *shape] if isinstance(shape, list) else [None]
        if (
            not isinstance(dtype, str)
            or not all(
                type(n) is int and 0 <= n < _LARGEST for n in numbers[: 2 + _MOST_AXES]
            )
            or len(numbers) > 2 + _MOST_AXES
        ):
            self._refuse(f"{name} is described wrongly")
        n_bytes = stop - start
        if dtype in DTYPES:  # of others nothing is read
            n_bytes = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
        if stop < start or stop - start != n_bytes:
            self._refuse(f"{name} takes {stop - start:,} bytes, not {n_bytes:,}")
        return Stored(dtype, tuple(shape), start, stop)

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows of a tensor as stored, mapped: nothing is read before it is looked at."""
        stored = self.tensors[name]
        n_bytes = (stored.stop - stored.start) // stored.shape[0]
        return np.memmap(
            self.path,
            DTYPES[stored.dtype],
            "r",
            stored.start + start * n_bytes,
            (stop - start, *stored.shape[1:]),
        )
