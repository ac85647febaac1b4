"""config.json of a Hugging Face Llama folder, to a `DecoderConfig` and back.

Every attribute is implemented, known to leave the logits alone, or refused by name and
value: a setting that is silently ignored is a model that is silently wrong.
"""

import math
import reprlib
from collections.abc import Mapping
from typing import Any

from cifr_jax.errors import UserError
from cifr_jax.models.config import DecoderConfig, RopeScaling

ARCHITECTURE = "LlamaForCausalLM"

# Attributes that only one value of is implemented; absent or null means that value.
_FIXED: dict[str, Any] = {
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "rope_interleaved": False,
    "partial_rotary_factor": 1.0,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
}
_NUMBERS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings",
    "rms_norm_eps", "tie_word_embeddings", "rope_theta", "rope_scaling", "rope_parameters",
)  # fmt: skip
# Training, generation and bookkeeping: none of these enters a forward pass.
_HARMLESS = frozenset((
    "architectures", "_name_or_path", "name_or_path", "transformers_version", "torch_dtype",
    "dtype", "initializer_range", "use_cache", "pretraining_tp", "attention_dropout",
    "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "output_attentions",
    "output_hidden_states", "return_dict", "id2label", "label2id", "problem_type",
    "_attn_implementation", "_attn_implementation_autoset", "attn_implementation",
    "chunk_size_feed_forward", "is_decoder", "task_specific_params", "is_llama_config",
    "transformers.js_config", "unsloth_version", "unsloth_fixed",
))  # fmt: skip
_ROPE_KEYS = {
    "default": frozenset(),
    "llama3": frozenset((
        "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings",
    )),
}  # fmt: skip


def parse_config(settings: Mapping[str, Any], where: str) -> DecoderConfig:
    """The decoder that a config.json describes.

    Args:
      settings: the parsed file.
      where: its path, for messages.

    Raises:
      UserError: another architecture; an attribute, or a value of one, that the decoder
        does not implement; a number that is missing or out of range.
    """
    architectures = settings.get("architectures")
    if architectures != [ARCHITECTURE]:
        raise UserError(
            where,
            f"architectures is {architectures!r}",
            f"only [{ARCHITECTURE!r}] is supported",
        )
    for name, value in settings.items():
        fixed = _FIXED.get(name)
        if value is None or name in _NUMBERS or name in _HARMLESS:
            continue
        if fixed is None or type(value) is bool is not type(fixed) or value != fixed:
            mend = (
                f"only {fixed!r} is" if name in _FIXED else "the decoder does not know it"
            )
            raise UserError(where, f"{name} = {reprlib.repr(value)} is not supported", mend)

    def integer(name: str, default: int | None = None) -> int:
        value = settings.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
            raise UserError(where, f"{name} is {value!r}", "give a positive integer")
        return value

    heads, width = integer("num_attention_heads"), integer("hidden_size")
    if settings.get("head_dim") is None and width % heads:
        what = f"hidden_size {width} does not divide into {heads} heads"
        raise UserError(where, what, "give head_dim")
    tie = settings.get("tie_word_embeddings") or False
    if not isinstance(tie, bool):
        raise UserError(where, f"tie_word_embeddings is {tie!r}", "give true or false")
    theta, scaling = _parse_rope(settings, where)
    try:
        return DecoderConfig(
            vocab_size=integer("vocab_size"),
            d_model=width,
            n_layers=integer("num_hidden_layers"),
            n_heads=heads,
            n_kv_heads=integer("num_key_value_heads", heads),
            d_head=integer("head_dim", width // heads),
            d_ff=integer("intermediate_size"),
            rope_theta=theta,
            rope_scaling=scaling,
            norm_eps=_number(settings.get("rms_norm_eps", 1e-6), "rms_norm_eps", where),
            tie_embeddings=tie,
            max_positions=integer("max_position_embeddings", 2048),
        )
    except ValueError as e:
        raise UserError(where, str(e), "correct the config") from e


def _number(value: Any, name: str, where: str) -> float:
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    if not usable or not 0 < value < math.inf:
        raise UserError(where, f"{name} is {value!r}", "give a positive number")
    return float(value)


def _parse_rope(
    settings: Mapping[str, Any], where: str
) -> tuple[float, RopeScaling | None]:
    """Base and rescaling of the rotary frequencies.

    Up to transformers 4 they stand in `rope_theta` and `rope_scaling`, from 5 on together
    in `rope_parameters`.
    """
    name = (
        "rope_parameters" if settings.get("rope_parameters") is not None else "rope_scaling"
    )
    rope = settings.get(name)
    rope = {} if rope is None else rope
    if not isinstance(rope, Mapping):
        raise UserError(where, f"{name} is {rope!r}", "give an object")
    thetas = [
        source["rope_theta"]
        for source in (rope, settings)
        if source.get("rope_theta") is not None
    ]
    theta = _number(thetas[0] if thetas else 10000.0, "rope_theta", where)
    if any(other != thetas[0] for other in thetas):
        what = f"two values of rope_theta: {', '.join(map(repr, thetas))}"
        raise UserError(where, what, "remove the wrong one")
    kind = rope.get("rope_type", rope.get("type", "default"))
    keys = _ROPE_KEYS.get(kind) if isinstance(kind, str) else None
    if keys is None:
        mend = f"only {' and '.join(_ROPE_KEYS)} are"
        raise UserError(where, f"RoPE type {kind!r} ({name}) is not supported", mend)
    for key, value in rope.items():
        if key in keys or key in ("rope_type", "type", "rope_theta") or value is None:
            continue
        if key == "partial_rotary_factor" and value == 1.0:
            continue
        what = f"{name}.{key} = {reprlib.repr(value)} is not supported with type {kind!r}"
        raise UserError(where, what, "the decoder does not know it")
    if kind == "default":
        return theta, None
    number = {key: _number(rope.get(key), f"{name}.{key}", where) for key in keys}
    if number["high_freq_factor"] <= number["low_freq_factor"]:
        what = f"{name}: high_freq_factor is not above low_freq_factor"
        raise UserError(where, what, "correct the config")
    scaling = RopeScaling(
        factor=number["factor"],
        low_freq_factor=number["low_freq_factor"],
        high_freq_factor=number["high_freq_factor"],
        original_max_positions=int(number["original_max_position_embeddings"]),
    )
    return theta, scaling


def format_config(config: DecoderConfig) -> dict[str, Any]:
    """The config.json of a decoder, in the form that transformers 4 and 5 both read."""
    scaling = config.rope_scaling
    rope: dict[str, Any] | None = None
    if scaling is not None:
        rope = {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_max_positions,
        }
    return {
        "architectures": [ARCHITECTURE],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.d_head,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": rope,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": config.tie_embeddings,
    }
