"""Attributes of config.json that many families share."""

from collections.abc import Sequence
from typing import Any

from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.families.settings import Settings

SILU = {"hidden_act": "silu"}
FULL, SLIDING = "full_attention", "sliding_attention"
_MOST_LAYERS = 10_000
_ATTENTION, _FEED_FORWARD = ("q", "k", "v", "o"), ("gate", "up", "down")


def read_sizes(
    settings: Settings,
    *,
    kv_heads: int | None = None,
    head: int | None = None,
    eps: float = 1e-6,
    tie: bool = False,
    positions: int = 2048,
) -> dict[str, Any]:
    """Sizes of a `DecoderConfig`.

    Args:
      settings: the config.json.
      kv_heads, head, eps, tie, positions: what transformers takes where the config says
        nothing; None: as many key/value heads as heads, width over heads.

    Raises:
      UserError: a number that is missing or out of range.
    """
    heads, width = settings.integer("num_attention_heads"), settings.integer("hidden_size")
    if settings.raw("head_dim") is None and head is None and width % heads:
        what = f"hidden_size {width} does not divide into {heads} heads"
        settings.refuse(what, "give head_dim")
    kv = settings.raw("num_key_value_heads", kv_heads)
    return {
        "vocab_size": settings.integer("vocab_size"),
        "d_model": width,
        # Bounded before anything is made for each layer.
        "n_layers": settings.integer("num_hidden_layers", most=_MOST_LAYERS),
        "n_heads": heads,
        "n_kv_heads": settings.integer("num_key_value_heads", heads if kv is None else kv),
        "d_head": settings.integer("head_dim", head or width // heads),
        "d_ff": settings.integer("intermediate_size"),
        "norm_eps": settings.number("rms_norm_eps", eps),
        "tie_embeddings": settings.flag("tie_word_embeddings", tie),
        "max_positions": settings.integer("max_position_embeddings", positions),
    }


def read_biases(settings: Settings, feed_forward: bool = False) -> dict[str, Any]:
    """Field `biases` of a family with `attention_bias`, and perhaps with `mlp_bias`."""
    biases: tuple[str, ...] = _ATTENTION if settings.flag("attention_bias") else ()
    if feed_forward and settings.flag("mlp_bias"):
        biases += _FEED_FORWARD
    return {"biases": biases}


def write_biases(config: DecoderConfig, feed_forward: bool = False) -> dict[str, Any]:
    """The attributes that `read_biases` reads."""
    found = {"attention_bias": "q" in config.biases}
    return found | {"mlp_bias": "gate" in config.biases} if feed_forward else found


def read_layer_types(
    settings: Settings, n_layers: int, window: int | None, default: Sequence[int]
) -> tuple[int, ...]:
    """Numbers of the layers with a window.

    Args:
      settings: the config.json.
      n_layers: as it says.
      window: keys that a query sees there.
      default: those layers where there is no `layer_types`.

    Raises:
      UserError: unknown types, or layers with a window where there is none.
    """
    kinds = settings.per_layer("layer_types", n_layers, (FULL, SLIDING))
    layers = tuple(default)
    if kinds is not None:
        layers = tuple(l for l, kind in enumerate(kinds) if kind == SLIDING)
    if layers and window is None:
        settings.refuse("layers with a sliding window, but no sliding_window")
    return layers


def write_layer_types(config: DecoderConfig) -> dict[str, Any]:
    """`layer_types`, with `sliding_window`."""
    kinds = [SLIDING if l in config.window_layers else FULL for l in range(config.n_layers)]
    return {"layer_types": kinds, "sliding_window": config.window}


def read_window(settings: Settings, name: str, default: int | None = None) -> int | None:
    """A window, null for none; the default where it is absent."""
    if settings.raw(name, default) is None:
        return None
    return settings.integer(name, default)


def read_switched_window(settings: Settings, n_layers: int) -> dict[str, Any]:
    """The window of Qwen2 and Qwen3: off without `use_sliding_window`, from a layer on."""
    window = read_window(settings, "sliding_window", 4096)
    first = settings.raw("max_window_layers", 28)
    if not isinstance(first, int) or isinstance(first, bool) or first < 0:
        settings.refuse(f"max_window_layers is {first!r}", "give a number of layers")
    window = window if settings.flag("use_sliding_window") else None
    default = range(min(first, n_layers), n_layers) if window else ()
    layers = read_layer_types(settings, n_layers, window, default)
    return {"window": window if layers else None, "window_layers": layers}


def write_switched_window(config: DecoderConfig) -> dict[str, Any]:
    """The attributes that `read_switched_window` reads."""
    first = min(config.window_layers, default=config.n_layers)
    return write_layer_types(config) | {
        "use_sliding_window": bool(config.window_layers),
        "max_window_layers": first,
    }
