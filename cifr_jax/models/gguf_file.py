"""Weights, tokenizer and chat template out of one GGUF file: Llama, Qwen2 and Qwen3.

Dequantised with the `gguf` package: parity is with the file, not with the model that it was
quantised from. A peculiarity of architecture `llama`: the rows of query and key matrices
are permuted so that rotary pairs lie side by side.
"""

import math
import reprlib
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from cifr_jax.errors import UserError
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Params
from cifr_jax.models.gguf_header import GgufHeader, GgufTensor, read_header
from cifr_jax.models.gguf_tokenizer import read_tokenizer, read_tokens
from cifr_jax.models.hf_config import parse_config
from cifr_jax.models.rope import RopeScaling, frequencies
from cifr_jax.models.tokenizer import ChatTokenizer
from cifr_jax.models.weights import Found, check_tensors, check_vocabulary, read_parameters

# GGUF name -> Hugging Face name, from which the families' tables lead on.
_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
_CONFIG_KEYS = (
    "block_count", "context_length", "embedding_length", "feed_forward_length",
    "attention.head_count", "attention.head_count_kv", "attention.key_length",
    "attention.value_length", "attention.layer_norm_rms_epsilon", "rope.freq_base",
    "rope.dimension_count", "vocab_size",
)  # fmt: skip
QUANTISATIONS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K",
                 "Q5_K", "Q6_K")  # fmt: skip
_MEND = "give a whole GGUF file"
_ROPE_FREQS = "rope_freqs.weight"  # divisors of rotary frequencies
# Of Llama 3.1 and 3.3, and of Llama 3.2; a file holds what follows from these.
_LLAMA3 = (RopeScaling(8.0, 1.0, 4.0, 8192), RopeScaling(32.0, 1.0, 4.0, 8192))


def load_gguf(
    path: str | Path, dtype: str = "float32", mesh: Mesh | None = None
) -> tuple[DecoderConfig, Params, ChatTokenizer]:
    """Reads a GGUF file.

    Args:
      path: the file; architecture llama, qwen2 or qwen3.
      dtype: of the parameters.
      mesh: where they go; None: the default device.

    Returns:
      `(config, params, tokenizer)`; params are JAX arrays.

    Raises:
      UserError: the `gguf` package is missing, the file is broken, or it needs something
        that the decoder does not implement.
    """
    config, tokenizer, tensors = _open(path)
    return config, read_parameters(config, tensors, dtype, mesh), tokenizer


def read_settings(path: str | Path) -> tuple[DecoderConfig, ChatTokenizer]:
    """What a file holds besides its weights. Raises UserError, as `load_gguf`."""
    return _open(path)[:2]


def _open(path: str | Path) -> tuple[DecoderConfig, ChatTokenizer, "_Tensors"]:
    where = str(path)
    try:
        import gguf  # noqa: F401
    except ImportError as e:
        raise UserError(where, "needs the Python package gguf", "pip install gguf") from e
    header = read_header(path)
    config = _read_config(header, where)
    tensors = _Tensors(header, config, where)
    check_tensors(config, tensors.found, where)
    # Before the merges of a vocabulary that does not fit are made out of its scores.
    check_vocabulary(config, len(read_tokens(header.fields, where)), where)
    return config, read_tokenizer(header.fields, where), tensors


def file_rows(n_rows: int, n_heads: int) -> np.ndarray:
    """Which row of a permuted query or key matrix each row of Hugging Face's is.

    In the file the rows of a head go pair by pair (rotary pairs adjacent); in the Hugging
    Face layout the first members of all pairs come first.
    """
    width = n_rows // n_heads
    return np.arange(n_rows).reshape(n_heads, width // 2, 2).swapaxes(1, 2).ravel()


def _hf_name(name: str) -> str:
    """The Hugging Face name of a tensor; unknown names are marked, to be reported."""
    if name in _NAMES:
        return _NAMES[name]
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[3] in ("weight", "bias"):
        block = _BLOCK_NAMES.get(parts[2])
        if block is not None:
            return f"model.layers.{parts[1]}.{block}.{parts[3]}"
    # As it stands it might be a name of Hugging Face's, and pass for another tensor.
    return f"{name} (of the file)"


class _Tensors:
    """The tensors of a file, under Hugging Face's names."""

    def __init__(self, header: GgufHeader, config: DecoderConfig, where: str):
        self._data = header.data
        self._stored: dict[str, tuple[GgufTensor, int]] = {}  # the second: where it ends
        self.found: dict[str, Found] = {}
        end = 0
        for name, tensor in sorted(header.tensors.items(), key=lambda item: item[1].start):
            start, begun = tensor.start, end
            end = start + _n_bytes(name, tensor, where)
            if start < begun or end > len(self._data):
                what = f"not a GGUF file ({name} overlaps another, or leads out of it)"
                mend = "the file is cut off or damaged: fetch it again"
                raise UserError(where, what, mend)
            if name != _ROPE_FREQS:
                self._stored[_hf_name(name)] = tensor, end
                self.found[_hf_name(name)] = Found(where, tensor.shape)
        heads = {"q_proj": config.n_heads, "k_proj": config.n_kv_heads}
        self._heads = heads if config.family == "llama" else {}

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows of a tensor, dequantised."""
        from gguf import GGMLQuantizationType, dequantize

        tensor, end = self._stored[name]
        kind = GGMLQuantizationType(tensor.kind)
        stored = self._data[tensor.start : end]
        if len(tensor.shape) == 1:
            return dequantize(stored, kind)[start:stop]
        stored = stored.reshape(tensor.shape[0], -1)
        heads = self._heads.get(name.split(".")[-2])
        if heads is None:
            return dequantize(stored[start:stop], kind)
        # Each row is quantised by itself.
        return dequantize(stored[file_rows(len(stored), heads)[start:stop]], kind)


def _n_bytes(name: str, tensor: GgufTensor, where: str) -> int:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    names = {int(kind): kind.name for kind in GGMLQuantizationType}
    kind = names.get(tensor.kind, str(tensor.kind))
    if kind not in QUANTISATIONS:
        what = f"{name}: quantisation {kind} cannot be read"
        raise UserError(where, what, f"supported is one of {', '.join(QUANTISATIONS)}")
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.kind)]
    if tensor.shape[-1] % block:
        what = f"{name}: rows of {tensor.shape[-1]} are no multiple of {kind}'s {block}"
        raise UserError(where, what, _MEND)
    return math.prod(tensor.shape) // block * size


def _read_config(header: GgufHeader, where: str) -> DecoderConfig:
    fields, tensors = header.fields, header.tensors
    architecture = fields.get("general.architecture")
    if not isinstance(architecture, str) or architecture not in _ARCHITECTURES:
        mend = f"supported is one of {', '.join(_ARCHITECTURES)}"
        raise UserError(where, f"architecture {reprlib.repr(architecture)}", mend)
    prefix = architecture + "."
    for key, value in fields.items():
        if key.startswith(prefix) and key.removeprefix(prefix) not in _CONFIG_KEYS:
            what = f"{key} = {reprlib.repr(value)}"
            raise UserError(where, what, "the decoder does not know it")

    def number(key: str, kind: type[int | float], default: Any = None) -> Any:
        value = fields.get(prefix + key, default)
        if type(value) is not kind or not 0 < value < 2**31:  # a truth value is no number
            raise UserError(where, f"{prefix}{key} is {reprlib.repr(value)}", _MEND)
        return value

    heads, width = number("attention.head_count", int), number("embedding_length", int)
    d_head = number("attention.key_length", int, width // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if number(key, int, d_head) != d_head:
            what = f"{prefix}{key} = {fields[prefix + key]} differs from the head size"
            raise UserError(where, what, "the decoder has one size for both")
    embed = tensors.get("token_embd.weight")
    rows = embed.shape[0] if embed else 0
    if embed and (claimed := number("vocab_size", int, rows)) != rows:
        what = f"{prefix}vocab_size = {claimed}, but {rows} embeddings"
        raise UserError(where, what, _MEND)
    settings = {
        "architectures": [_ARCHITECTURES[architecture]],
        "vocab_size": rows,
        "hidden_size": width,
        "num_hidden_layers": number("block_count", int),
        "num_attention_heads": heads,
        "num_key_value_heads": number("attention.head_count_kv", int, heads),
        "head_dim": d_head,
        "intermediate_size": number("feed_forward_length", int),
        "rope_theta": number("rope.freq_base", float, 10000.0),
        "rms_norm_eps": number("attention.layer_norm_rms_epsilon", float),
        "tie_word_embeddings": "output.weight" not in tensors,
        "max_position_embeddings": number("context_length", int),
    }
    if _ROPE_FREQS in tensors:
        settings["rope_scaling"] = _rope_scaling(header, settings["rope_theta"], where)
    return parse_config(settings, where)


def _rope_scaling(header: GgufHeader, theta: float, where: str) -> dict[str, Any]:
    """The published rescaling that the file's divisors of rotary frequencies are of."""
    tensor = header.tensors[_ROPE_FREQS]
    stop = tensor.start + 4 * tensor.shape[0]
    if len(tensor.shape) == 1 and tensor.kind == 0 and stop <= len(header.data):
        divisor_r = np.ascontiguousarray(header.data[tensor.start : stop]).view("<f4")
        for scaling in _LLAMA3:
            with np.errstate(all="ignore"):  # of an odd base `parse_config` tells
                plain_r, scaled_r = (
                    frequencies(theta, one, 2 * tensor.shape[0]) for one in (None, scaling)
                )
                expected_r = plain_r / scaled_r
            if divisor_r.shape == plain_r.shape and np.allclose(
                expected_r, divisor_r, rtol=1e-4
            ):
                return {
                    "rope_type": "llama3",
                    "factor": scaling.factor,
                    "low_freq_factor": scaling.low_freq_factor,
                    "high_freq_factor": scaling.high_freq_factor,
                    "original_max_position_embeddings": scaling.original_max_positions,
                }
    what = f"rotary frequencies are rescaled as in no known model ({_ROPE_FREQS})"
    raise UserError(where, what, "give the Hugging Face folder of the model")
