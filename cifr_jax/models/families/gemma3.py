"""Gemma 3, text alone: as Gemma 2 with norms of queries and keys in place of the cap on
scores, and a rotation of their own in layers with a window."""

import reprlib
from collections.abc import Mapping
from typing import Any

from cifr_jax.models.config import DecoderConfig, LocalRope
from cifr_jax.models.families.common import FULL, SLIDING, read_layer_types
from cifr_jax.models.families.family import COMMON, Family
from cifr_jax.models.families.gemma2 import SANDWICH, read_gemma, write_gemma
from cifr_jax.models.families.rope_settings import (
    format_scaling,
    parse_scaling,
    rope_object,
    take_theta,
    write_rope,
)
from cifr_jax.models.families.settings import Settings

_KINDS = ("default", "linear", "llama3")


def _read_rope(settings: Settings) -> dict[str, Any]:
    """Both rotations. Up to transformers 4 the object is that of the layers without a
    window; from 5 on it has one object for each type of layer."""
    name, rope = rope_object(settings)
    nested = {kind: rope.pop(kind) or {} for kind in (FULL, SLIDING) if kind in rope}
    if rope and (nested or name == "rope_parameters"):
        what = f"{name} holds {', '.join(map(repr, rope))} beside types of layers"
        settings.refuse(what, f"give objects {FULL} and {SLIDING}")
    found: dict[str, tuple[float, Any]] = {}
    for kind, attribute, default in (
        (FULL, "rope_theta", 1e6),
        (SLIDING, "rope_local_base_freq", 1e4),
    ):
        own = nested.get(kind, rope if kind == FULL else {})
        if not isinstance(own, Mapping):
            settings.refuse(f"{name}.{kind} is {reprlib.repr(own)}", "give an object")
        own = dict(own)
        theta = take_theta(settings, own, attribute, default)
        found[kind] = theta, parse_scaling(settings, own, name, _KINDS)
    return {
        "rope_theta": found[FULL][0],
        "rope_scaling": found[FULL][1],
        "local_rope": LocalRope(*found[SLIDING]),
    }


def _read(settings: Settings) -> dict[str, Any]:
    # transformers ignores this one, which Gemma 3 was trained without.
    settings.fixed("attn_logit_softcapping", None)
    fields = read_gemma(settings, positions=131072) | _read_rope(settings)
    n_layers = fields["n_layers"]
    # The same number under two names, of which transformers reads the second; where
    # layer_types is there, it only repeats that.
    older = settings.raw("_sliding_window_pattern")
    every = settings.integer("sliding_window_pattern", 6)
    if settings.raw("layer_types") is None and older not in (None, every):
        what = f"_sliding_window_pattern is {reprlib.repr(older)}, not {every}"
        settings.refuse(what, "give sliding_window_pattern or layer_types")
    default = [l for l in range(n_layers) if (l + 1) % every]
    layers = read_layer_types(settings, n_layers, fields["window"], default)
    return fields | {
        "window_layers": layers,
        "qk_norm": "head",
        "logit_cap": settings.cap("final_logit_softcapping", None),
    }


def _write(config: DecoderConfig) -> dict[str, Any]:
    found = write_gemma(config) | {"final_logit_softcapping": config.logit_cap}
    local = config.local_rope or LocalRope(config.rope_theta, config.rope_scaling)
    if local.scaling is None:
        return found | write_rope(config) | {"rope_local_base_freq": local.theta}
    both = {
        FULL: (config.rope_theta, config.rope_scaling),
        SLIDING: (local.theta, local.scaling),
    }
    rope = {
        kind: {"rope_type": "default", "rope_theta": theta}
        | (format_scaling(scaling) or {})
        for kind, (theta, scaling) in both.items()
    }
    return found | {"rope_parameters": rope}


FAMILY = Family(
    name="gemma3_text",
    architecture="Gemma3ForCausalLM",
    tensors={**COMMON, **SANDWICH},
    read=_read,
    write=_write,
)
