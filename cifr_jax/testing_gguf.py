"""GGUF files for tests, written by the `gguf` package out of our parameters."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import pre_tokenizers

from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Params

_NAMES = {
    "q": "attn_q.weight", "k": "attn_k.weight", "v": "attn_v.weight",
    "o": "attn_output.weight", "gate": "ffn_gate.weight", "up": "ffn_up.weight",
    "down": "ffn_down.weight", "attn_norm": "attn_norm.weight",
    "mlp_norm": "ffn_norm.weight", "q_norm": "attn_q_norm.weight",
    "k_norm": "attn_k_norm.weight", "q_bias": "attn_q.bias", "k_bias": "attn_k.bias",
    "v_bias": "attn_v.bias",
}  # fmt: skip
_CONTROL, _NORMAL = 3, 1


class Vocabulary(NamedTuple):
    """Tokens in the order of their ids, merges, and types of the tokens."""

    tokens: Sequence[str]
    merges: Sequence[str]
    types: Sequence[int]


def byte_vocabulary(merges: Sequence[str] = ("t h", "th e", "Ġ the", "i n")) -> Vocabulary:
    """Three special tokens, all bytes, and what the merges make."""
    made = [merge.replace(" ", "") for merge in merges]
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens = [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet()), *made]
    types = [_CONTROL] * 3 + [_NORMAL] * (len(tokens) - 3)
    return Vocabulary(tokens, list(merges), types)


def permute(matrix: np.ndarray, n_heads: int) -> np.ndarray:
    """Row by row, as the format is described: member m of pair i goes to row 2 i + m."""
    width = matrix.shape[0] // n_heads
    out = np.empty_like(matrix)
    for head in range(n_heads):
        for i in range(width // 2):
            for m in range(2):
                source = head * width + m * (width // 2) + i
                out[head * width + 2 * i + m] = matrix[source]
    return out


def stored_tensors(config: DecoderConfig, params: Params) -> dict[str, np.ndarray]:
    """The tensors of the file; those of family `llama` are permuted."""
    tensors = {
        "token_embd.weight": params["embed"],
        "output_norm.weight": params["final_norm"],
    }
    permuted = config.family == "llama"
    heads = {"q": config.n_heads, "k": config.n_kv_heads} if permuted else {}
    for ours, stacked in params["layers"].items():
        for layer, value in enumerate(stacked):
            value = permute(value.T, heads[ours]) if ours in heads else value.T
            tensors[f"blk.{layer}.{_NAMES[ours]}"] = np.ascontiguousarray(value)
    if "head" in params:
        tensors["output.weight"] = np.ascontiguousarray(params["head"].T)
    return tensors


def metadata(config: DecoderConfig) -> dict[str, Any]:
    """The shape, and a tokenizer of `byte_vocabulary`'s special tokens."""
    sizes = {
        "block_count": config.n_layers,
        "context_length": config.max_positions,
        "embedding_length": config.d_model,
        "feed_forward_length": config.d_ff,
        "attention.head_count": config.n_heads,
        "attention.head_count_kv": config.n_kv_heads,
        "attention.key_length": config.d_head,
        "attention.value_length": config.d_head,
        "rope.freq_base": config.rope_theta,
        "attention.layer_norm_rms_epsilon": config.norm_eps,
        "vocab_size": config.vocab_size,
    }
    special = {"bos_token_id": 1, "eos_token_id": 2, "padding_token_id": 0}
    return {f"{config.family}.{key}": value for key, value in sizes.items()} | {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm" if config.family == "llama" else "qwen2",
        **{f"tokenizer.ggml.{key}": value for key, value in special.items()},
    }


def write_gguf(
    path: Path,
    config: DecoderConfig,
    tensors: Mapping[str, np.ndarray],
    vocabulary: Vocabulary | None = None,
    quantised: str | None = None,
    raw: Mapping[str, tuple[np.ndarray, str]] | None = None,
    **changes: Any,
) -> Path:
    """Writes a file; returns its path.

    Args:
      path: of the file.
      config: the shape.
      tensors: by their names in the file.
      vocabulary: of the tokenizer.
      quantised: what matrices are quantised to.
      raw: bytes as stored `[rows, bytes]` and their quantisation, in place of tensors.
      changes: of metadata: None removes, "__" stands for "."; `architecture` names another.
    """
    import gguf

    changes = {key.replace("__", "."): value for key, value in changes.items()}
    writer = gguf.GGUFWriter(path, changes.pop("architecture", config.family))
    lists = (vocabulary or byte_vocabulary())._asdict()
    lists["token_type"] = lists.pop("types")
    fields = {f"tokenizer.ggml.{name}": list(value) for name, value in lists.items()}
    for key, value in (fields | metadata(config) | changes).items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif value is not None:
            writer.add_int32(key, value)
    stored = dict(raw or {})
    for name, tensor in tensors.items():
        if name in stored:
            content, kind_name = stored[name]
            kind = gguf.GGMLQuantizationType[kind_name]
            writer.add_tensor(name, content, raw_dtype=kind)
        elif quantised and tensor.ndim == 2:
            kind = gguf.GGMLQuantizationType[quantised]
            writer.add_tensor(name, gguf.quantize(tensor, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
