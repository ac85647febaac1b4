"""Rotary frequencies against the formulas in fp64, and lengths of texts under LongRoPE."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest

from cifr_jax.errors import UserError
from cifr_jax.models import decoder
from cifr_jax.models.attention import causal_inputs
from cifr_jax.models.config import DecoderConfig, LocalRope
from cifr_jax.models.rope import (
    LinearRope,
    LongRope,
    YarnRope,
    apply_rope,
    attention_factor,
    frequencies,
    sin_cos,
)
from cifr_jax.testing_families import random_parameters

LONG = LongRope((1.0, 1.5, 2.0), (3.0, 6.0, 9.0), 8)
CONFIG = DecoderConfig(
    vocab_size=20, d_model=12, n_layers=2, n_heads=2, n_kv_heads=1, d_head=8, d_ff=9,
    rope_theta=100.0, rope_scaling=LONG, max_positions=32, d_rotary=6,
)  # fmt: skip


def test_default_and_linear():
    plain = 100.0 ** (-np.arange(4) / 4)
    np.testing.assert_allclose(frequencies(100.0, None, 8), plain, rtol=1e-6)
    np.testing.assert_allclose(frequencies(100.0, LinearRope(4.0), 8), plain / 4, rtol=1e-6)


@pytest.mark.parametrize("truncate", [True, False])
def test_yarn_keeps_what_turns_fast_and_divides_what_turns_slowly(truncate):
    """Frequencies by the turns they make in the original context, as in the paper."""
    theta, width, scaling = 1e4, 32, YarnRope(8.0, 128, truncate=truncate)
    plain = theta ** (-2 * np.arange(width // 2) / width)
    turns = 128 * plain / (2 * math.pi)
    found = frequencies(theta, scaling, width) / plain
    np.testing.assert_allclose(found[turns > 40], 1, rtol=1e-5)
    np.testing.assert_allclose(found[turns < 0.5], 1 / 8, rtol=1e-5)
    assert (np.diff(found) <= 1e-7).all()
    # In between it is linear in the number of the dimension.
    low, high = (np.interp(-x, -turns, np.arange(width // 2)) for x in (32, 1))
    if not truncate:
        middle = np.clip((np.arange(width // 2) - low) / (high - low), 0, 1)
        np.testing.assert_allclose(found, 1 - middle * 7 / 8, atol=0.02)


@pytest.mark.parametrize(
    ("scaling", "factor"),
    [
        (None, 1.0),
        (LinearRope(9.0), 1.0),
        (YarnRope(math.e, 32), 1.1),
        (YarnRope(math.e, 32, attention_factor=0.7), 0.7),
        (YarnRope(math.e, 32, mscale=2.0, mscale_all_dim=1.0), 1.2 / 1.1),
        (YarnRope(0.5, 32), 1.0),
        (LONG, math.sqrt(1 + math.log(4) / math.log(8))),
        (dataclasses.replace(LONG, factor=8.0), math.sqrt(2)),
        (dataclasses.replace(LONG, factor=8.0, attention_factor=3.0), 3.0),
        (dataclasses.replace(LONG, original_max_positions=32), 1.0),
    ],
)
def test_what_sines_and_cosines_are_multiplied_by(scaling, factor):
    assert attention_factor(scaling, 32) == pytest.approx(factor)
    config = dataclasses.replace(CONFIG, rope_scaling=scaling)
    if isinstance(scaling, YarnRope):
        sin, cos = sin_cos(config, jnp.ones((1, 1), int), jnp.ones((1, 1, 1)), "float32")
        np.testing.assert_allclose(sin**2 + cos**2, factor**2, rtol=1e-5)


def test_the_length_of_a_text_decides_about_its_first_token_too():
    """A row of two packed texts: one longer than the original context, one shorter."""
    segment = np.array([1] * 9 + [2] * 8)
    attend = (segment[:, None] == segment) & np.tri(17, dtype=bool)
    positions = np.concatenate([np.arange(9), np.arange(8)])
    sin, _ = sin_cos(
        CONFIG, jnp.asarray(positions[None]), jnp.asarray(attend[None]), "float32"
    )
    factor = attention_factor(LONG, 32)
    short, long = (
        factor * np.sin(positions[:, None] * f) for f in frequencies(100.0, LONG, 6)
    )
    np.testing.assert_allclose(sin[0, :9], long[:9], atol=1e-6)
    np.testing.assert_allclose(sin[0, 9:], short[9:], atol=1e-6)
    assert np.abs(long - short)[1:9].min() > 1e-3


def test_a_text_next_to_a_long_one_is_computed_as_if_alone():
    params = random_parameters(CONFIG, np.random.default_rng(0))
    tokens = np.random.default_rng(1).integers(0, 20, (2, 12))
    mask = np.arange(12) < np.array([[12], [6]])
    both = decoder.forward(CONFIG, params, tokens, mask)
    alone = decoder.forward(CONFIG, params, tokens[1:, :6])
    np.testing.assert_allclose(both[1, :6], alone[0], atol=1e-5)


def test_a_cache_beyond_the_original_context_is_refused_and_one_within_is_not():
    positions, attend = causal_inputs(jnp.ones((1, 3), bool))
    within = jnp.pad(attend, ((0, 0), (0, 0), (0, 5)))
    sin_cos(CONFIG, positions, within, "float32")
    with pytest.raises(UserError, match="longrope: 9 cached tokens.* context is 8; keep"):
        sin_cos(CONFIG, positions, jnp.pad(within, ((0, 0), (0, 0), (0, 1))), "float32")


def test_dimensions_that_are_not_rotated_pass():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 1, 8)), jnp.float32)
    sin, cos = (f(jnp.asarray([[[0.3], [0.7]]])) for f in (jnp.sin, jnp.cos))
    y = apply_rope(x, sin, cos)
    np.testing.assert_array_equal(y[..., 2:], x[..., 2:])
    np.testing.assert_allclose(
        (y[..., :2] ** 2).sum(-1), (x[..., :2] ** 2).sum(-1), rtol=1e-5
    )
    assert np.abs(y - x)[..., :2].min() > 0


def test_a_rotation_of_their_own_in_layers_with_a_window():
    config = dataclasses.replace(
        CONFIG, rope_scaling=None, window=3, window_layers=(0,), local_rope=LocalRope(7.0)
    )
    positions, attend = causal_inputs(jnp.ones((1, 4), bool))
    for local, theta in ((False, 100.0), (True, 7.0)):
        sin, _ = sin_cos(config, positions, attend, "float32", local)
        expected = np.sin(np.arange(4)[:, None] * frequencies(theta, None, 6))
        np.testing.assert_allclose(sin[0], expected, atol=1e-6)
