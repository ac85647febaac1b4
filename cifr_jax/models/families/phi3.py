"""Phi-3 and Phi-4-mini: fused matrices, heads that rotate in part, LongRoPE, a window."""

from typing import Any

from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.families.common import SILU, read_sizes, read_window
from cifr_jax.models.families.family import ENDS, NORMS, Family
from cifr_jax.models.families.rope_settings import (
    format_scaling,
    parse_scaling,
    rope_object,
    take_theta,
)
from cifr_jax.models.families.settings import Settings
from cifr_jax.models.rope import LongRope

_ORIGINAL = "original_max_position_embeddings"
# The published folders name code of their own beside; this is the same model without it.
_OWN_CODE = {"AutoConfig": "configuration_phi3.Phi3Config",
             "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM",
             "AutoTokenizer": "Xenova/gpt-4o"}  # fmt: skip


def _read_rope(settings: Settings, d_head: int) -> dict[str, Any]:
    name, rope = rope_object(settings)
    theta = take_theta(settings, rope, "rope_theta", 10000.0)
    fractions = (
        rope.pop("partial_rotary_factor", None),
        settings.raw("partial_rotary_factor"),
    )
    # Each is checked before it is compared: what is no number differs from itself.
    given = {
        settings.positive(value, "partial_rotary_factor")
        for value in fractions
        if value is not None
    }
    if len(given) > 1:
        settings.refuse(f"two values of partial_rotary_factor: {sorted(given)}")
    fraction = given.pop() if given else 1.0
    rotated = int(d_head * fraction)
    if not 0 < rotated <= d_head:
        settings.refuse(f"partial_rotary_factor is {fraction!r}", "give a share of a head")
    # LongRoPE had two other names; it counts from the original context outside the object.
    if rope.get("rope_type", rope.get("type")) in ("su", "yarn"):
        rope["rope_type"] = "longrope"
    original = settings.integer(_ORIGINAL, 4096)
    if rope.get("rope_type", rope.get("type")) == "longrope":
        if rope.setdefault(_ORIGINAL, original) != original:
            settings.refuse(f"two values of {_ORIGINAL}: {rope[_ORIGINAL]!r}, {original}")
    scaling = parse_scaling(settings, rope, name, ("default", "longrope"))
    if isinstance(scaling, LongRope):
        for key in ("short_factor", "long_factor"):
            if len(getattr(scaling, key)) != rotated // 2:
                settings.refuse(f"{name}.{key} does not have {rotated // 2} numbers")
    return {
        "rope_theta": theta,
        "rope_scaling": scaling,
        "d_rotary": rotated if rotated != d_head else None,
    }


def _read(settings: Settings) -> dict[str, Any]:
    settings.fixed("hidden_act", "silu")
    settings.fixed("attention_bias", False)
    code = settings.raw("auto_map")
    own = isinstance(code, dict) and all(_OWN_CODE.get(k) == v for k, v in code.items())
    if code is not None and not own:
        settings.refuse(f"auto_map = {code!r} is not supported", "code is never run")
    sizes = read_sizes(settings, eps=1e-5, positions=4096)
    window = read_window(settings, "sliding_window")
    return (
        sizes
        | _read_rope(settings, sizes["d_head"])
        | {
            "window": window,
            "window_layers": tuple(range(sizes["n_layers"])) if window else (),
        }
    )


def _write(config: DecoderConfig) -> dict[str, Any]:
    scaling = config.rope_scaling
    rope = format_scaling(scaling)
    found = SILU | {
        "sliding_window": config.window,
        "rope_theta": config.rope_theta,
        "partial_rotary_factor": (config.d_rotary or config.d_head) / config.d_head,
    }
    if isinstance(scaling, LongRope) and rope is not None:
        # transformers 4 allows no more than the kind and both lists inside.
        found[_ORIGINAL] = rope.pop(_ORIGINAL)
    return found | {"rope_scaling": rope}


FAMILY = Family(
    name="phi3",
    architecture="Phi3ForCausalLM",
    tensors={
        **ENDS,
        **NORMS,
        "model.layers.{l}.self_attn.qkv_proj.weight": ("q", "k", "v"),
        "model.layers.{l}.self_attn.o_proj.weight": ("o",),
        "model.layers.{l}.mlp.gate_up_proj.weight": ("gate", "up"),
        "model.layers.{l}.mlp.down_proj.weight": ("down",),
    },
    read=_read,
    write=_write,
)
