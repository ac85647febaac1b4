"""Rotary settings of config.json, in and out.

Up to transformers 4 they stand in `rope_theta` and `rope_scaling`, from 5 on together in
`rope_parameters`.
"""

import dataclasses
import reprlib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from cifr_jax.models.config import DecoderConfig, Scaling
from cifr_jax.models.families.settings import Settings
from cifr_jax.models.rope import (
    LinearRope,
    LongRope,
    RopeScaling,
    YarnRope,
    attention_factor,
    frequencies,
)

COMMON = ("default", "linear", "llama3", "yarn")
_ORIGINAL = "original_max_position_embeddings"
_CLASSES: dict[str, type] = {
    "linear": LinearRope,
    "llama3": RopeScaling,
    "yarn": YarnRope,
    "longrope": LongRope,
}
_TYPE_KEYS = ("rope_type", "type")
_WIDEST = 2**16  # heads in use have up to 256 dimensions


def _attribute(field: str) -> str:
    """Name in config.json of a field of a scaling class."""
    return _ORIGINAL if field == "original_max_positions" else field


def parse_scaling(
    settings: Settings, rope: Mapping[str, Any], name: str, kinds: Collection[str]
) -> Scaling | None:
    """The rescaling that an object of config.json describes.

    Args:
      settings: for refusing.
      rope: the object, without `rope_theta`.
      name: of the object, for messages.
      kinds: those that the family uses.

    Raises:
      UserError: another kind, a key that it does not have, a value out of range.
    """
    kind = rope.get("rope_type", rope.get("type", "default"))
    if not isinstance(kind, str) or kind not in kinds:
        what = f"RoPE type {reprlib.repr(kind)} ({name}) is not supported"
        settings.refuse(what, f"only {', '.join(kinds)} are")
    fields = dataclasses.fields(_CLASSES[kind]) if kind in _CLASSES else ()
    keys = {_attribute(field.name): field for field in fields}
    for key, value in rope.items():
        if key not in keys and key not in _TYPE_KEYS and value is not None:
            what = (
                f"{name}.{key} = {reprlib.repr(value)} is not supported with type {kind!r}"
            )
            settings.refuse(what, "the decoder does not know it")
    if kind == "default":
        return None
    values: dict[str, Any] = {}
    for key, field in keys.items():
        value, full = rope.get(key), f"{name}.{key}"
        if value is None and field.default is not dataclasses.MISSING:
            continue
        if field.type == tuple[float, ...]:
            if not isinstance(value, list) or not value:
                settings.refuse(
                    f"{full} is {reprlib.repr(value)}", "give a list of numbers"
                )
            values[field.name] = tuple(settings.positive(x, full) for x in value)
        elif field.type is bool:
            if not isinstance(value, bool):
                settings.refuse(f"{full} is {reprlib.repr(value)}", "give true or false")
            values[field.name] = value
        elif field.type is int:
            number = settings.positive(value, full)
            if number < 2 or number != int(number):
                settings.refuse(f"{full} is {value!r}", "give a whole number above 1")
            values[field.name] = int(number)
        else:
            values[field.name] = settings.positive(value, full)
    scaling = _CLASSES[kind](**values)
    bounds = {
        RopeScaling: ("low_freq_factor", "high_freq_factor"),
        YarnRope: ("beta_slow", "beta_fast"),
    }.get(type(scaling))
    if bounds and getattr(scaling, bounds[1]) <= getattr(scaling, bounds[0]):
        settings.refuse(f"{name}: {bounds[1]} is not above {bounds[0]}")
    return scaling


def rope_object(settings: Settings) -> tuple[str, dict[str, Any]]:
    """Name and contents of the one object that describes the rotation.

    Raises:
      UserError: no object, or two that differ.
    """
    new, old = settings.raw("rope_parameters"), settings.raw("rope_scaling")
    name = "rope_scaling" if new is None else "rope_parameters"
    rope = old if new is None else new
    rope = {} if rope is None else rope
    if not isinstance(rope, Mapping):
        settings.refuse(f"{name} is {reprlib.repr(rope)}", "give an object")
    if new is not None and old is not None and new != old:
        settings.refuse("rope_parameters and rope_scaling differ", "remove the wrong one")
    return name, dict(rope)


def take_theta(
    settings: Settings, rope: dict[str, Any], attribute: str, default: float
) -> float:
    """Base of the wavelengths, taken out of the object or from an attribute of its own.

    Raises:
      UserError: two values, or one that is no positive number.
    """
    inside, outside = rope.pop("rope_theta", None), settings.raw(attribute)
    # Each is checked before it is compared: what is no number differs from itself.
    thetas = [settings.positive(x, attribute) for x in (inside, outside) if x is not None]
    if any(value != thetas[0] for value in thetas):
        what = f"two values of {attribute}: {', '.join(map(repr, thetas))}"
        settings.refuse(what, "remove the wrong one")
    return thetas[0] if thetas else default


def read_rope(
    settings: Settings, kinds: Collection[str] = COMMON, theta: float = 10000.0
) -> dict[str, Any]:
    """Fields `rope_theta` and `rope_scaling` of a config whose layers all rotate alike.

    Args:
      settings: the config.json.
      kinds: of rescaling.
      theta: where the config has none.

    Raises:
      UserError: what the decoder does not implement, by name.
    """
    settings.fixed("partial_rotary_factor", 1.0)
    settings.fixed("rope_interleaved", False)
    name, rope = rope_object(settings)
    base = take_theta(settings, rope, "rope_theta", theta)
    if rope.get("partial_rotary_factor") == 1.0:
        rope.pop("partial_rotary_factor")
    return with_base(settings, base, parse_scaling(settings, rope, name, kinds))


def with_base(settings: Settings, theta: float, scaling: Scaling | None) -> dict[str, Any]:
    """Both fields; refuses a base of one or less where YaRN takes its logarithm."""
    if isinstance(scaling, YarnRope) and theta <= 1:
        settings.refuse(f"rope_theta is {theta!r}", "YaRN needs one above 1")
    return {"rope_theta": theta, "rope_scaling": scaling}


def check_rotations(settings: Settings, config: DecoderConfig) -> None:
    """Computes the rotations of a config: which numbers together give none, no bound says.

    Raises:
      UserError: frequencies, or angles within the longest text, that are not finite.
    """
    width = config.d_head if config.d_rotary is None else config.d_rotary
    if width > _WIDEST:
        settings.refuse(f"heads of {width} rotated dimensions", f"give up to {_WIDEST}")
    rotations = [("rope_theta", config.rope_theta, config.rope_scaling)]
    if config.local_rope is not None:
        local = config.local_rope
        rotations.append(("rope_local_base_freq", local.theta, local.scaling))
    for attribute, theta, scaling in rotations:
        scaled = f"{rope_object(settings)[0]} {format_scaling(scaling)}"
        for what, part in ((f"{attribute} = {theta!r}", None), (scaled, scaling)):
            if not _is_finite(theta, part, width, config.max_positions):
                settings.refuse(f"{what} gives rotary frequencies that are not finite")


def _is_finite(theta: float, scaling: Any, width: int, positions: int) -> bool:
    try:
        with np.errstate(divide="raise", over="raise", invalid="raise"):
            angle = np.float32(positions) * frequencies(theta, scaling, width)
            angle = angle * np.float32(attention_factor(scaling, positions))
    except (ArithmeticError, ValueError):  # of NumPy, and of logarithms and rounding
        return False
    return bool(np.isfinite(angle).all())


def format_scaling(scaling: Scaling | None) -> dict[str, Any] | None:
    """The object for config.json; what is at its default is left out."""
    if scaling is None:
        return None
    kind = next(kind for kind, cls in _CLASSES.items() if type(scaling) is cls)
    found: dict[str, Any] = {"rope_type": kind}
    for field in dataclasses.fields(scaling):
        value = getattr(scaling, field.name)
        if value != field.default:
            value = list(value) if isinstance(value, tuple) else value
            found[_attribute(field.name)] = value
    return found


def write_rope(config: DecoderConfig) -> dict[str, Any]:
    """The attributes that `read_rope` reads, in the form that transformers 4 and 5 know."""
    scaling = format_scaling(config.rope_scaling)
    return {"rope_theta": config.rope_theta, "rope_scaling": scaling}
