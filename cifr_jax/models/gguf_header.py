"""The header of a GGUF file: metadata, and where each tensor lies.

Every count and length is compared with the bytes that are left before it is believed, so
that a broken file costs neither memory nor time.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3,
little-endian.
"""

import math
import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cifr_jax.errors import UserError

# What metadata values are stored as, by number; 8 is a string, 9 an array.
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?",
            10: "<Q", 11: "<q", 12: "<d"}  # fmt: skip
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_ALIGNMENT = 32  # bytes, where the file says nothing
_MOST_ITEMS = 5_000_000  # of an array: vocabularies have a quarter of a million
_LEAST_ENTRY, _LEAST_TENSOR = 13, 24  # bytes
_MEND = "the file is cut off or damaged: fetch it again"


class GgufTensor(NamedTuple):
    """Where a tensor lies.

    Attributes:
      shape: outermost dimension first, as NumPy has it.
      kind: number of the quantisation.
      start: its first byte in the file.
    """

    shape: tuple[int, ...]
    kind: int
    start: int


class GgufHeader(NamedTuple):
    """What stands before the tensors.

    Attributes:
      fields: metadata by key.
      tensors: by name; that they lie within the file, only `read_header`'s caller can say,
        who knows the quantisations.
      data: the whole file, mapped.
    """

    fields: dict[str, Any]
    tensors: dict[str, GgufTensor]
    data: np.ndarray


class _Cursor:
    def __init__(self, data: np.ndarray):
        self._bytes, self.at = data.data, 0

    def take(self, n: int) -> memoryview:
        if n > self.left():
            raise ValueError(f"{n:,} bytes are claimed where {self.left():,} are left")
        self.at += n
        return self._bytes[self.at - n : self.at]

    def left(self) -> int:
        return len(self._bytes) - self.at

    def scalar(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def count(self, least: int) -> int:
        """A number of things that take at least so many bytes each."""
        n = self.scalar("<Q")
        if n * least > self.left():
            raise ValueError(f"{n:,} entries are claimed in {self.left():,} bytes")
        return n

    def string(self) -> str:
        return str(self.take(self.scalar("<Q")), "utf-8")

    def value(self) -> Any:
        kind = self.scalar("<I")
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self._array()
        return self.scalar(_form(kind))

    def _array(self) -> list[Any]:
        kind = self.scalar("<I")
        form = "<Q" if kind == _STRING else _form(kind)  # a string begins with its length
        n = self.count(struct.calcsize(form))
        if n > _MOST_ITEMS:
            raise ValueError(f"an array of {n:,}")
        if kind == _STRING:
            return [self.string() for _ in range(n)]
        return np.frombuffer(self.take(n * struct.calcsize(form)), form).tolist()


def _form(kind: int) -> str:
    if kind not in _SCALARS:
        raise ValueError(f"metadata of type {kind}")
    return _SCALARS[kind]


def read_header(path: str | Path) -> GgufHeader:
    """Reads a header.

    Raises:
      UserError: no such file, not a GGUF file, cut off, or a count that cannot be true.
    """
    where = str(path)
    if not os.path.isfile(path):  # pathlib's fails on a name too long for any file
        raise UserError(where, "no such file", "give a .gguf file")
    try:
        return _read(np.memmap(path, np.uint8, "r"))
    except OSError as e:
        raise UserError(where, e.strerror or str(e), "give a file that can be read") from e
    except ValueError as e:  # also of an empty file, and of text that is not UTF-8
        raise UserError(where, f"not a GGUF file ({e})", _MEND) from e


def _read(data: np.ndarray) -> GgufHeader:
    cursor = _Cursor(data)
    if (magic := bytes(cursor.take(4))) != b"GGUF":
        raise ValueError(f"it begins with {magic!r}")
    if (version := cursor.scalar("<I")) not in _VERSIONS:
        raise ValueError(f"version {version}, where {_VERSIONS} are known")
    n_tensors, n_fields = cursor.count(_LEAST_TENSOR), cursor.count(_LEAST_ENTRY)
    fields: dict[str, Any] = {}
    for _ in range(n_fields):
        key = cursor.string()
        if key in fields:
            raise ValueError(f"{key} stands twice")
        fields[key] = cursor.value()
    found: dict[str, GgufTensor] = {}
    for _ in range(n_tensors):
        name, n_axes = cursor.string(), cursor.scalar("<I")
        if name in found or not 1 <= n_axes <= 4:
            raise ValueError(f"{name} stands twice, or has {n_axes} axes")
        shape = tuple(cursor.scalar("<Q") for _ in range(n_axes))[::-1]
        if not 0 < math.prod(shape) < 2**63:
            raise ValueError(f"{name} has shape {list(shape)}")
        found[name] = GgufTensor(shape, cursor.scalar("<I"), cursor.scalar("<Q"))
    alignment = fields.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or not 0 < alignment <= 2**20:
        raise ValueError(f"an alignment of {alignment!r}")
    begin = -(-cursor.at // alignment) * alignment
    found = {
        name: tensor._replace(start=begin + tensor.start) for name, tensor in found.items()
    }
    return GgufHeader(fields, found, data)
