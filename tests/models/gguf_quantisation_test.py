"""Dequantisation, element by element as the format describes it."""

import jax
import numpy as np
import pytest

from cifr_jax.errors import UserError
from cifr_jax.models import weights
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.gguf_file import QUANTISATIONS, load_gguf
from cifr_jax.testing_families import random_parameters
from cifr_jax.testing_gguf import byte_vocabulary, permute, stored_tensors, write_gguf

gguf = pytest.importorskip("gguf")

VOCABULARY = len(byte_vocabulary().tokens)
# Rows of one block of the K kinds, and of eight of the others.
CONFIG = DecoderConfig(VOCABULARY, 256, 1, 4, 2, 8, 256, tie_embeddings=True)
HALVES = {"Q8_0": (0,), "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2),
          "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}  # fmt: skip


def half(block: bytes, at: int) -> float:
    return float(np.frombuffer(block[at : at + 2], "<f2")[0])


def signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def q8_0(block):
    return [half(block, 0) * signed(byte) for byte in block[2:]]


def fours(block, start):
    low = [byte & 15 for byte in block[start : start + 16]]
    return low + [byte >> 4 for byte in block[start : start + 16]]


def q4_0(block):
    return [half(block, 0) * (q - 8) for q in fours(block, 2)]


def q4_1(block):
    return [half(block, 0) * q + half(block, 2) for q in fours(block, 4)]


def fives(block, start):
    fifth = int.from_bytes(block[start : start + 4], "little")
    found = fours(block, start + 4)
    return [q + 16 * (fifth >> j & 1) for j, q in enumerate(found)]


def q5_0(block):
    return [half(block, 0) * (q - 16) for q in fives(block, 2)]


def q5_1(block):
    return [half(block, 0) * q + half(block, 2) for q in fives(block, 4)]


def six_bits(packed):
    """Scales and minima of eight groups, in twelve bytes."""
    scales, minima = [], []
    for j in range(8):
        if j < 4:
            scales.append(packed[j] & 63)
            minima.append(packed[j + 4] & 63)
        else:
            scales.append(packed[j + 4] & 15 | packed[j - 4] >> 6 << 4)
            minima.append(packed[j + 4] >> 4 | packed[j] >> 6 << 4)
    return scales, minima


def q4_k(block, high=None, codes_at=16):
    d, least = half(block, 0), half(block, 2)
    scales, minima = six_bits(block[4:16])
    out = []
    for group in range(8):
        codes = block[codes_at + group // 2 * 32 :][:32]
        for j, byte in enumerate(codes):
            q = byte >> 4 if group % 2 else byte & 15
            q += 16 * (high[j] >> group & 1) if high else 0
            out.append(d * scales[group] * q - least * minima[group])
    return out


def q5_k(block):
    return q4_k(block, high=block[16:48], codes_at=48)


def q6_k(block):
    lower, upper, scales, d = block[:128], block[128:192], block[192:208], half(block, 208)
    out = [0.0] * 256
    for part in range(2):
        for j in range(32):
            for quarter in range(4):
                byte = lower[64 * part + 32 * (quarter % 2) + j]
                q = byte >> 4 if quarter > 1 else byte & 15
                q |= (upper[32 * part + j] >> 2 * quarter & 3) << 4
                scale = signed(scales[8 * part + 2 * quarter + j // 16])
                out[128 * part + 32 * quarter + j] = d * scale * (q - 32)
    return out


BY_HAND = {"Q8_0": q8_0, "Q4_0": q4_0, "Q4_1": q4_1, "Q5_0": q5_0, "Q5_1": q5_1,
           "Q4_K": q4_k, "Q5_K": q5_k, "Q6_K": q6_k}  # fmt: skip


def by_hand(kind: str, rows: np.ndarray) -> np.ndarray:
    size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][1]
    blocks = rows.reshape(len(rows), -1, size)
    return np.array([[BY_HAND[kind](b.tobytes()) for b in row] for row in blocks]).reshape(
        len(rows), -1
    )


def random_bytes(kind: str, n_rows: int, seed: int = 0) -> np.ndarray:
    """Random codes and scales that are numbers."""
    rng = np.random.default_rng(seed)
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    found = rng.integers(0, 256, (n_rows, 256 // block, size), np.uint8)
    for at in HALVES[kind]:
        halves = rng.normal(size=found.shape[:2]).astype("<f2")
        found[..., at : at + 2] = halves[..., None].view(np.uint8)
    return found.reshape(n_rows, -1)


def test_every_kind_is_tested():
    assert {*BY_HAND, "F32", "F16", "BF16"} == set(QUANTISATIONS)


@pytest.mark.parametrize("kind", BY_HAND)
def test_quantised_tensors_are_what_the_format_says(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(weights, "_AT_ONCE", 700)  # two rows at a time
    params = random_parameters(CONFIG, np.random.default_rng(0))
    tensors = stored_tensors(CONFIG, params)
    raw = {name: random_bytes(kind, len(tensors[name]), seed) for seed, name in enumerate(
        ("blk.0.attn_q.weight", "blk.0.ffn_down.weight"))}  # fmt: skip
    stored = {name: (content, kind) for name, content in raw.items()}
    path = write_gguf(tmp_path / "m.gguf", CONFIG, tensors, raw=stored)
    _, read, _ = load_gguf(path)
    q, down = (by_hand(kind, content) for content in raw.values())
    np.testing.assert_allclose(read["layers"]["down"][0].T, down, rtol=1e-5, atol=1e-3)
    # The file's rows are permuted: permuting ours gives them.
    ours = permute(np.asarray(read["layers"]["q"][0]).T, CONFIG.n_heads)
    np.testing.assert_allclose(ours, q, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(read["embed"], params["embed"])


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_short_floats_are_exact(tmp_path, kind):
    params = random_parameters(CONFIG, np.random.default_rng(0))
    dtype = {"F16": "float16", "BF16": "bfloat16"}[kind]
    params = jax.tree.map(lambda x: np.asarray(jax.numpy.asarray(x, dtype), "f4"), params)
    tensors = stored_tensors(CONFIG, params)
    path = write_gguf(tmp_path / "m.gguf", CONFIG, tensors, quantised=kind)
    jax.tree.map(np.testing.assert_array_equal, load_gguf(path)[1], params)


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "IQ4_NL", "TQ1_0", "MXFP4", "I8"])
def test_other_kinds_are_refused_by_name(tmp_path, kind):
    tensors = stored_tensors(CONFIG, random_parameters(CONFIG, np.random.default_rng(0)))
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    name = "blk.0.ffn_up.weight"
    content = np.zeros((256, 256 // block * size), np.int8 if kind == "I8" else np.uint8)
    path = write_gguf(tmp_path / "m.gguf", CONFIG, tensors, raw={name: (content, kind)})
    what = rf"{name}: quantisation {kind} cannot be read; supported is one of F32, F16"
    with pytest.raises(UserError, match=what):
        load_gguf(path)
