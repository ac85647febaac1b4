"""SmolLM3: Llama with layers that do not rotate, and windows in those if switched on."""

from typing import Any

from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.families.common import (
    SILU,
    read_biases,
    read_layer_types,
    read_sizes,
    read_window,
    write_biases,
    write_layer_types,
)
from cifr_jax.models.families.family import LLAMA, Family
from cifr_jax.models.families.rope_settings import read_rope, write_rope
from cifr_jax.models.families.settings import Settings


def _read(settings: Settings) -> dict[str, Any]:
    settings.fixed("hidden_act", "silu")
    settings.raw("max_window_layers")  # inherited from Qwen2, and read by nothing
    sizes = read_sizes(settings, kv_heads=4, tie=True, positions=32768)
    n_layers = sizes["n_layers"]
    every = settings.integer("no_rope_layer_interval", 4)
    # The list says which layers do rotate, whatever its name.
    rotated = settings.per_layer("no_rope_layers", n_layers, (0, 1))
    if rotated is None:
        rotated = [int((l + 1) % every != 0) for l in range(n_layers)]
    still = tuple(l for l, rotates in enumerate(rotated) if not rotates)
    window = read_window(settings, "sliding_window")
    window = window if settings.flag("use_sliding_window") else None
    layers = read_layer_types(settings, n_layers, window, still if window else ())
    fields = sizes | read_rope(settings, theta=2e6)
    return (
        fields
        | read_biases(settings, feed_forward=True)
        | {
            "no_rope_layers": still,
            "window": window if layers else None,
            "window_layers": layers,
        }
    )


def _write(config: DecoderConfig) -> dict[str, Any]:
    rotated = [int(l not in config.no_rope_layers) for l in range(config.n_layers)]
    found = SILU | write_rope(config) | write_biases(config, feed_forward=True)
    return (
        found
        | write_layer_types(config)
        | {
            "no_rope_layers": rotated,
            "use_sliding_window": bool(config.window_layers),
        }
    )


FAMILY = Family(
    name="smollm3",
    architecture="SmolLM3ForCausalLM",
    tensors=LLAMA,
    read=_read,
    write=_write,
)
