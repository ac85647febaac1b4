"""Headers of GGUF files: counts and lengths that lie cost neither memory nor time."""

import struct
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.errors import UserError
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.gguf_file import load_gguf
from cifr_jax.models.gguf_header import read_header
from cifr_jax.testing_families import random_parameters
from cifr_jax.testing_gguf import byte_vocabulary, metadata, stored_tensors, write_gguf

gguf = pytest.importorskip("gguf")

CONFIG = DecoderConfig(len(byte_vocabulary().tokens), 16, 2, 2, 1, 8, 20)
HUGE = (2**20, 2**32, 2**60, 2**64 - 1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "m.gguf"
    params = random_parameters(CONFIG, np.random.default_rng(0))
    return write_gguf(path, CONFIG, stored_tensors(CONFIG, params))


def header(n_tensors: int, n_fields: int, body: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_fields) + body


def text(content: bytes, claimed: int | None = None) -> bytes:
    return struct.pack("<Q", len(content) if claimed is None else claimed) + content


def tensor(name: bytes, shape, kind=0, offset=0) -> bytes:
    axes = struct.pack(f"<{len(shape)}Q", *shape)
    return (
        text(name) + struct.pack("<I", len(shape)) + axes + struct.pack("<IQ", kind, offset)
    )


def refused(path, content: bytes, what: str) -> None:
    """Within a second and a megabyte."""
    path.write_bytes(content)
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(UserError) as caught:
        load_gguf(path)
    seconds, peak = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert what in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert seconds < 1 and peak < 2e6


def test_what_the_package_wrote_is_read_as_the_package_reads_it(whole):
    ours, theirs = read_header(whole), gguf.GGUFReader(whole)
    wanted = {name: field.contents() for name, field in theirs.fields.items()}
    assert ours.fields == {k: v for k, v in wanted.items() if not k.startswith("GGUF.")}
    assert ours.fields["llama.block_count"] == metadata(CONFIG)["llama.block_count"] == 2
    assert list(ours.tensors) == [t.name for t in theirs.tensors]
    for found in theirs.tensors:
        mine = ours.tensors[found.name]
        assert mine.shape == tuple(int(n) for n in found.shape[::-1])
        assert (mine.kind, mine.start) == (found.tensor_type, found.data_offset)


@pytest.mark.parametrize("n", HUGE)
def test_counts_that_lie(tmp_path, n):
    path = tmp_path / "m.gguf"
    padding = bytes(10_000)
    refused(path, header(n, 0, padding), f"{n:,} entries are claimed")
    refused(path, header(0, n, padding), f"{n:,} entries are claimed")
    key = text(b"general.name")
    string = struct.pack("<I", 8) + text(b"", n)
    refused(path, header(0, 1, key + string + padding), f"{n:,} bytes are claimed")
    refused(path, header(0, 1, text(b"", n) + padding), f"{n:,} bytes are claimed")
    for kind in (0, 8):  # bytes, of which the package would make a list; strings
        array = struct.pack("<IIQ", 9, kind, n)
        refused(path, header(0, 1, key + array + padding), f"{n:,} entries are claimed")


@pytest.mark.parametrize(
    ("body", "n_tensors", "n_fields", "what"),
    [
        (text(b"a") + struct.pack("<II", 13, 0), 0, 1, "metadata of type 13"),
        (text(b"a") + struct.pack("<IIQ", 9, 9, 0), 0, 1, "metadata of type 9"),
        ((text(b"a") + struct.pack("<IB", 0, 1)) * 2, 0, 2, "a stands twice"),
        (text(b"\xff\xfe") + struct.pack("<IBQ", 0, 1, 0), 0, 1, "utf-8"),
        (tensor(b"t", [4]) * 2, 2, 0, "t stands twice"),
        (tensor(b"t", [1] * 5), 1, 0, "5 axes"),
        (tensor(b"t", [0]), 1, 0, "has shape [0]"),
        (tensor(b"t", [2**40, 2**40]), 1, 0, "has shape"),
        (text(b"general.alignment") + struct.pack("<II", 4, 0) + bytes(9), 0, 1, "of 0"),
    ],
)
def test_entries_that_cannot_be(tmp_path, body, n_tensors, n_fields, what):
    content = header(n_tensors, n_fields, body)
    refused(tmp_path / "m.gguf", content, what)


def test_other_formats_and_versions(tmp_path):
    path = tmp_path / "m.gguf"
    refused(path, b"", "not a GGUF file")
    refused(path, b"GGML" + bytes(100), "it begins with b'GGML'")
    for version in (1, 4, 3 << 24):  # the last: version 3 of a big-endian machine
        refused(path, header(0, 0, version=version), f"version {version}")


def test_tensors_that_lead_out_of_the_file_or_over_another(tmp_path, whole):
    content = whole.read_bytes()
    for name, what in ((b"blk.1.ffn_down.weight", "overlaps"), (b"output.weight", "leads")):
        at = content.index(text(name)) + 8 + len(name) + 4 + 16 + 4
        for offset in (0, 2**62) if what == "leads" else (0,):
            spoilt = content[:at] + struct.pack("<Q", offset) + content[at + 8 :]
            refused(tmp_path / "m.gguf", spoilt, "overlaps another, or leads out of it")


def test_an_unknown_quantisation(tmp_path, whole):
    content = whole.read_bytes()
    at = content.index(text(b"output.weight")) + 8 + 13 + 4 + 16
    spoilt = content[:at] + struct.pack("<I", 4711) + content[at + 4 :]
    refused(tmp_path / "m.gguf", spoilt, "output.weight: quantisation 4711 cannot be read")


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_a_flipped_byte_of_the_header_is_told_or_harmless(data, whole, tmp_path_factory):
    path = tmp_path_factory.mktemp("flipped") / "m.gguf"
    content = bytearray(whole.read_bytes())
    end = read_header(whole).tensors["token_embd.weight"].start
    at = data.draw(st.integers(0, end - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        load_gguf(path)
    except UserError as e:
        assert str(e).startswith(str(path)) and "\n" not in str(e)
