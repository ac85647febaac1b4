"""Headers of safetensors files: what the library writes is read, what lies is refused."""

import json
import struct
import time
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from cifr_jax.errors import UserError
from cifr_jax.models.safetensors_file import SafetensorsFile

DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16,
          "BF16": ml_dtypes.bfloat16, "I64": np.int64}  # fmt: skip


def write(path: Path, header, data: bytes = b"", claimed: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = struct.pack("<Q", len(text) if claimed is None else claimed)
    path.write_bytes(length + text + data)
    return path


def entry(start: int, stop: int, shape=None, dtype="F32") -> dict:
    shape = [(stop - start) // 4] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_rows_of_what_the_library_wrote(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "w.safetensors"
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    names = data.draw(st.lists(st.text(min_size=1, max_size=5), unique=True, max_size=5))
    tensors, kinds = {}, {}
    for name in names:
        kinds[name] = data.draw(st.sampled_from(list(DTYPES)))
        shape = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=3))
        tensors[name] = (rng.normal(size=shape) * 99).astype(DTYPES[kinds[name]])
    tensors.pop("__metadata__", None)
    save_file(tensors, path, metadata={"format": "pt"})
    file = SafetensorsFile(path)
    assert file.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert file.tensors[name][:2] == (kinds[name], tensor.shape)
        if kinds[name] == "I64":  # described, not read
            continue
        start = data.draw(st.integers(0, len(tensor) - 1))
        stop = data.draw(st.integers(start + 1, len(tensor)))
        rows = file.rows(name, start, stop)
        assert rows.dtype == tensor.dtype
        np.testing.assert_array_equal(rows, tensor[start:stop])


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_a_flipped_byte_of_the_header_is_refused_or_harmless(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("flipped") / "w.safetensors"
    save_file({"a": np.ones((3, 2), np.float32), "b": np.ones(4, np.float16)}, path)
    content = bytearray(path.read_bytes())
    header = 8 + struct.unpack("<Q", content[:8])[0]
    at = data.draw(st.integers(0, header - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        file = SafetensorsFile(path)
    except UserError as e:
        assert str(e).startswith(f"{path}: not a safetensors file (") and "\n" not in str(e)
        return
    spans = sorted(stored[2:] for stored in file.tensors.values())
    assert all(a[1] == b[0] for a, b in zip(spans, spans[1:], strict=False))
    assert all(header <= start <= stop <= len(content) for start, stop in spans)


FAULTS = {
    "overlap": ({"a": entry(0, 8), "b": entry(4, 12)}, 12, "overlaps another"),
    "the same place": ({"a": entry(0, 8), "b": entry(0, 8)}, 8, "overlaps another"),
    "gap": ({"a": entry(0, 8), "b": entry(12, 16)}, 16, "a gap before it"),
    "gap at the start": ({"a": entry(4, 8)}, 8, "a gap before it"),
    "too long": ({"a": entry(0, 80)}, 8, "8 bytes of tensors, not 80"),
    "2**60 bytes": ({"a": entry(0, 2**60)}, 8, "8 bytes of tensors"),
    "left over": ({"a": entry(0, 8)}, 12, "12 bytes of tensors, not 8"),
    "shape": ({"a": entry(0, 8, [3])}, 8, "a takes 8 bytes, not 12"),
    "shape that overflows": ({"a": entry(0, 0, [2**32, 2**32])}, 0, "takes 0 bytes"),
    "backwards": ({"a": entry(8, 0, [0])}, 8, "a takes -8 bytes"),
    "many digits": ({"a": entry(0, 0, [10**4000] * 2)}, 0, "described wrongly"),
    "many axes": ({"a": entry(0, 0, [2**62] * 3000)}, 0, "described wrongly"),
    "negative": ({"a": entry(-8, 0)}, 8, "described wrongly"),
    "negative shape": ({"a": entry(0, 8, [-1, -2])}, 8, "described wrongly"),
    "floats": ({"a": entry(0, 8, [2.0])}, 8, "described wrongly"),
    "truth for a number": ({"a": entry(0, 4, [True])}, 4, "described wrongly"),
    "no shape": ({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, 4, "not described"),
    "three offsets": ({"a": entry(0, 4) | {"data_offsets": [0, 4, 8]}}, 4, "not described"),
    "no object": ([1], 0, "the header is no object"),
    "entry of a wrong kind": ({"a": 7}, 0, "not described"),
    "twice": (b'{"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}, "a": 1}', 0,
              "'a' stands twice"),
    "nested": (b"[" * 100_000, 0, "the header: "),
    "digits": (b'{"a": ' + b"9" * 10_000 + b"}", 0, "the header: "),
    "no UTF-8": (b'{"\xff": 1}', 0, "the header: "),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_lies_is_refused(tmp_path, fault):
    header, size, what = FAULTS[fault]
    path = write(tmp_path / "w.safetensors", header, bytes(size))
    with pytest.raises(UserError) as caught:
        SafetensorsFile(path)
    assert what in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: not a safetensors file (")


@pytest.mark.parametrize("claimed", [0, 1, 3, 10**8 + 1, 2**60, 2**63, 2**64 - 1])
def test_a_header_of_any_length_costs_nothing(tmp_path, claimed):
    path = write(tmp_path / "w.safetensors", {"a": entry(0, 8)}, bytes(8), claimed)
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(UserError, match="not a safetensors file"):
        SafetensorsFile(path)
    seconds, peak = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6 and seconds < 1


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        SafetensorsFile(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="not a safetensors file"):
        SafetensorsFile(tmp_path)
