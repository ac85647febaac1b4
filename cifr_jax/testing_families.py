"""Random tiny models of every family, for tests and for the table of parity.

Settings are those of config.json, in the words of transformers, with every feature of the
family that can be switched: odd numbers of heads, heads that are not width over heads, one
to all key/value heads, tied ends or not, windows shorter than the texts, biases, caps,
every kind of rescaled rotation.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cifr_jax.models import decoder
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Params
from cifr_jax.models.families.registry import FAMILIES
from cifr_jax.models.hf_config import parse_config
from cifr_jax.models.shapes import LAYER_MATRICES, parameter_shapes

_HALF_HEADS = (2, 3, 4, 5, 8)  # half the width of a head: transformers knows even ones
_ORIGINAL = "original_max_position_embeddings"


class _Draw:
    """Draws that read as the settings that they make."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def whole(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def real(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def either(self, *values: Any) -> Any:
        return values[self.rng.integers(len(values))]

    def layers(self, n: int, values: tuple[Any, Any]) -> list[Any]:
        """Of both where there is room for it."""
        drawn = [self.either(*values) for _ in range(n)]
        return list(values[:n]) + drawn[2:]


def _scaling(draw: _Draw) -> dict[str, Any] | None:
    kind = draw.either("default", "linear", "llama3", "yarn", "yarn")
    if kind == "default":
        return None
    found = {"rope_type": kind, "factor": draw.real(1.5, 8)}
    if kind == "llama3":
        found |= {"low_freq_factor": 1.0, "high_freq_factor": draw.real(2, 5)}
    if kind != "linear":
        found[_ORIGINAL] = draw.whole(8, 40)
    if kind == "yarn":
        found |= draw.either(
            {}, {"attention_factor": draw.real(0.5, 1.5)}, {"truncate": False},
            {"mscale": draw.real(0.5, 1), "mscale_all_dim": draw.real(0.2, 0.9)},
            {"beta_fast": draw.real(4, 16), "beta_slow": draw.real(0.5, 2)},
        )  # fmt: skip
    return found


def _llama(draw: _Draw, common: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "attention_bias": draw.either(True, False),
        "mlp_bias": draw.either(True, False),
    }


def _mistral(draw: _Draw, common: Mapping[str, Any]) -> dict[str, Any]:
    return {"sliding_window": draw.either(draw.whole(1, 12), None)}


def _qwen2(draw: _Draw, common: Mapping[str, Any]) -> dict[str, Any]:
    n = common["num_hidden_layers"]
    return {
        "use_sliding_window": draw.either(True, True, False),
        "sliding_window": draw.whole(1, 12),
        "max_window_layers": draw.whole(0, n),
    }


def _qwen3(draw: _Draw, common: Mapping[str, Any]) -> dict[str, Any]:
    return _qwen2(draw, common) | {"attention_bias": draw.either(True, False)}


def _gemma(draw: _Draw, common: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": draw.either(True, False),
        "query_pre_attn_scalar": draw.whole(1, 40),
        "sliding_window": draw.whole(1, 12),
        "final_logit_softcapping": draw.either(None, draw.real(1, 6)),
    }


def _gemma2(draw: _Draw, common: Mapping[str, Any]) -> dict[str, Any]:
    return _gemma(draw, common) | {
        "attn_logit_softcapping": draw.either(None, draw.real(0.5, 4))
    }


def _gemma3(draw: _Draw, common: Mapping[str, Any]) -> dict[str, Any]:
    kinds = ("sliding_attention", "full_attention")
    local = {"rope_theta": draw.real(5, 1e4)}
    rescaled = {"rope_type": "linear", "factor": draw.real(1.5, 8)}
    rotation = draw.either(
        {"rope_local_base_freq": local["rope_theta"], "rope_scaling": rescaled},
        {
            "rope_theta": None,
            "rope_scaling": None,
            "rope_parameters": {
                kinds[0]: local | draw.either({"rope_type": "default"}, rescaled),
                kinds[1]: {"rope_type": "default", "rope_theta": draw.real(5, 1e6)},
            },
        },
    )
    layers = draw.layers(common["num_hidden_layers"], kinds)
    return _gemma(draw, common) | rotation | {"layer_types": layers}


def _smollm3(draw: _Draw, common: Mapping[str, Any]) -> dict[str, Any]:
    n = common["num_hidden_layers"]
    return _llama(draw, common) | {
        "no_rope_layers": draw.layers(n, (0, 1)),
        "use_sliding_window": draw.either(True, False),
        "sliding_window": draw.whole(1, 12),
    }


def _phi3(draw: _Draw, common: Mapping[str, Any]) -> dict[str, Any]:
    heads = common["num_attention_heads"]
    half = draw.either(*(half for half in _HALF_HEADS if 2 * half * heads >= 8))
    rotated = draw.whole(1, half)
    found = {
        # The lists of factors are checked against width over heads.
        "hidden_size": heads * 2 * half,
        "head_dim": 2 * half,
        "partial_rotary_factor": rotated / half,
        "sliding_window": draw.either(draw.whole(1, 12), None),
        "rope_scaling": None,
    }
    if draw.either(True, True, False):
        # Texts of both kinds: within the original context and beyond.
        original = draw.whole(8, 20)
        kind = draw.either({"type": "su", _ORIGINAL: original}, {"rope_type": "longrope"})
        rescaled = kind | {
            "short_factor": [draw.real(1, 2) for _ in range(rotated)],
            "long_factor": [draw.real(2, 9) for _ in range(rotated)],
        }
        found |= {_ORIGINAL: original, "rope_scaling": rescaled}
    return found


def _olmo2(draw: _Draw, common: Mapping[str, Any]) -> dict[str, Any]:
    return {"attention_bias": draw.either(True, False)}


_OWN = {
    "llama": _llama, "mistral": _mistral, "qwen2": _qwen2, "qwen3": _qwen3,
    "gemma2": _gemma2, "gemma3_text": _gemma3, "smollm3": _smollm3, "phi3": _phi3,
    "olmo2": _olmo2,
}  # fmt: skip


def random_settings(family: str, rng: np.random.Generator) -> dict[str, Any]:
    """Attributes of a config.json of a family; what is null is left out."""
    draw = _Draw(rng)
    kv_heads = draw.whole(1, 3)
    heads = kv_heads * draw.whole(1, 3)
    common = {
        "architectures": [FAMILIES[family].architecture],
        "model_type": family,
        "vocab_size": draw.whole(40, 70),
        "num_hidden_layers": draw.whole(1, 4),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        # Norms of fewer numbers would magnify rounding.
        "hidden_size": heads * draw.whole(-(-8 // heads), 3 - (-8 // heads)),
        "head_dim": 2 * draw.either(*_HALF_HEADS),
        "intermediate_size": draw.whole(5, 40),
        "max_position_embeddings": 64,
        "rms_norm_eps": 10.0 ** -draw.whole(3, 6),
        "tie_word_embeddings": draw.either(True, False),
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "rope_theta": 10 ** draw.real(1, 6),
        "rope_scaling": _scaling(draw),
    }
    settings = common | _OWN[family](draw, common)
    # Only what may be null in config.json says something that way.
    null = ("sliding_window", "final_logit_softcapping", "attn_logit_softcapping")
    return {k: v for k, v in settings.items() if v is not None or k in null}


def random_parameters(config: DecoderConfig, rng: np.random.Generator) -> Params:
    """Weights with which every feature shows in the logits, which are of order one."""

    def filled(name: str, shape: Any) -> Any:
        if isinstance(shape, dict):
            return {key: filled(key, child) for key, child in shape.items()}
        x = rng.normal(size=shape)
        # Blocks add less than they read, as trained ones do: rounding would grow from block
        # to block otherwise.
        if name.endswith("norm"):
            x = (1 + 0.3 * x) * (0.5 if name.endswith("post_norm") else 1.0)
            x -= config.norm == "gemma"
        elif name in LAYER_MATRICES or name == "head":
            x *= shape[-2] ** -0.5 * (0.5 if name in ("o", "down") else 1.0)
        elif name == "embed":
            x *= shape[-1] ** -0.5
        else:
            x *= 0.3
        return x.astype(np.float32)

    return filled("", parameter_shapes(config))


def random_model(family: str, seed: int) -> tuple[DecoderConfig, Params]:
    """A model of a family."""
    rng = np.random.default_rng(seed)
    config = parse_config(random_settings(family, rng), family)
    return config, random_parameters(config, rng)


@functools.partial(jax.jit, static_argnums=0)
def all_streams(config: DecoderConfig, params: Params, tokens_bt, mask_bt):
    """Residual streams after every block `[l, b, t, d]`, and logits `[b, t, v]`."""
    x_btd, streams = decoder.hidden(
        config, params, tokens_bt, mask_bt, reduce=lambda x_btd: x_btd
    )
    return streams, decoder.unembed(config, params, x_btd)


@functools.partial(jax.jit, static_argnums=0)
def _extend(config: DecoderConfig, params: Params, cache, start, tokens, positions, attend):
    x_btd = decoder.embed(params, tokens)
    x_btd, cache, _ = decoder.backbone(
        config, params, x_btd, positions, attend, cache=cache, cache_start=start
    )
    return decoder.unembed(config, params, x_btd), cache


def cached_logits(config: DecoderConfig, params: Params, tokens_bt, mask_bt, first: int):
    """Logits `[b, t, v]` of texts padded on the left, the last ones token by token.

    Args:
      config: shape of the model.
      params: its parameters.
      tokens_bt: texts.
      mask_bt: True = text.
      first: columns that go into the cache at once.

    Raises:
      UserError: a text too long to be cached (LongRoPE).
    """
    b, t = tokens_bt.shape
    shape = (config.n_layers, b, t, config.n_kv_heads, config.d_head)
    empty = jnp.zeros(shape, params["embed"].dtype)
    cache = decoder.Cache(empty, empty)
    positions_bt, attend_bts = decoder.causal_inputs(jnp.asarray(mask_bt))
    parts = []
    for start, stop in [(0, first), *((i, i + 1) for i in range(first, t))]:
        cut = slice(start, stop)
        inputs = tokens_bt[:, cut], positions_bt[:, cut], attend_bts[:, cut]
        logits, cache = _extend(config, params, cache, start, *inputs)
        parts.append(logits)
    return jnp.concatenate(parts, 1)
