"""Attention against a plain computation in fp64, windows against a count of positions."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.models.attention import attention, causal_inputs, within_window


def plain_attention(q_btnh, k_bskh, v_bskh, attend_bts, scale, cap):
    q, k, v = (np.asarray(x, np.float64) for x in (q_btnh, k_bskh, v_bskh))
    groups = q.shape[2] // k.shape[2]
    out = np.zeros(q.shape)
    for b, t, n in np.ndindex(q.shape[:3]):
        seen = np.flatnonzero(attend_bts[b, t])
        scores = k[b, seen, n // groups] @ q[b, t, n] * scale
        scores = scores if cap is None else cap * np.tanh(scores / cap)
        weights = np.exp(scores - scores.max())
        out[b, t, n] = weights / weights.sum() @ v[b, seen, n // groups]
    return out


def random_inputs(dtype=np.float32):
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, 7, n, 4)) for n in (6, 2, 2))
    mask_bt = np.arange(7) >= np.array([0, 3])[:, None]
    attend_bts = causal_inputs(jnp.asarray(mask_bt))[1]
    return (*(jnp.asarray(x, dtype) for x in (2 * q, 2 * k, v)), attend_bts), mask_bt


@pytest.mark.parametrize("cap", [None, 0.7, 5.0])
@pytest.mark.parametrize("scale", [None, 0.9])
def test_attention_equals_a_plain_computation(cap, scale):
    inputs, mask_bt = random_inputs()
    ours = attention(*inputs, scale, cap)
    plain = plain_attention(*inputs, scale or 0.5, cap)
    np.testing.assert_allclose(ours[mask_bt], plain[mask_bt], atol=2e-6)


def test_a_cap_that_no_score_reaches_is_none():
    inputs, _ = random_inputs()
    np.testing.assert_allclose(attention(*inputs, None, 1e4), attention(*inputs), atol=1e-5)


@pytest.mark.parametrize("cap", [None, 5.0])
def test_the_softmax_is_in_fp32_when_computing_in_bfloat16(cap):
    """Many equal scores: in bfloat16 a sum of 300 weights would be 256."""
    rng = np.random.default_rng(0)
    q = jnp.zeros((1, 1, 2, 4), jnp.bfloat16)
    v = jnp.asarray(rng.normal(size=(1, 300, 1, 4)) + 3, jnp.bfloat16)
    ours = attention(q, v, v, jnp.ones((1, 1, 300), bool), None, cap)
    assert ours.dtype == jnp.bfloat16
    expected = np.asarray(v, np.float64).mean((0, 1, 2))
    np.testing.assert_allclose(np.asarray(ours, np.float64)[0, 0, 0], expected, rtol=0.01)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_a_window_counts_positions_whatever_lies_between(data):
    """Packed texts, padding on both sides, and slots of a cache that hold nothing."""
    window = data.draw(st.integers(1, 6))
    lengths = data.draw(st.lists(st.integers(1, 8), min_size=1, max_size=3))
    text, position = [], []
    for number, length in enumerate(lengths):
        for at in range(length):
            gap = data.draw(st.integers(0, 2))
            text += [-1] * gap + [number]
            position += [-1] * gap + [at]
    text_s, position_s = np.array(text), np.array(position)
    s = len(text)
    attend = (text_s[:, None] == text_s) & np.tri(s, dtype=bool) & (text_s >= 0)
    near = within_window(jnp.asarray(attend[None]), window)[0]
    apart = position_s[:, None] - position_s
    np.testing.assert_array_equal(near, attend & (apart < window))


def test_a_window_as_long_as_the_text_changes_nothing():
    attend = causal_inputs(jnp.ones((1, 5), bool))[1]
    assert within_window(attend, 5) is attend
    assert within_window(attend, 4).sum() == attend.sum() - 1
