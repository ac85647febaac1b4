"""Attention: who sees whom, and the weighted mean of what is seen.

Legend: b batch, t time (queries), s time (keys, cache slots), n heads, k key/value heads,
g heads of a key/value head, h head width.
"""

import jax
import jax.numpy as jnp


def causal_inputs(mask_bt):
    """Positions `[b, t]` and causal attention mask `[b, t, s]` of padded texts."""
    t = mask_bt.shape[1]
    positions_bt = jnp.maximum(jnp.cumsum(mask_bt, -1) - 1, 0)
    causal_ts = jnp.tril(jnp.ones((t, t), bool))
    # A pad position sees itself, so that no softmax is empty.
    attend = causal_ts & (mask_bt[:, None, :].astype(bool) | jnp.eye(t, dtype=bool))
    return positions_bt, attend


def within_window(attend_bts, window: int):
    """Of the keys that each query may see, the last ones: as many as the window.

    Texts stand in order and a query sees its own from the first token on, so that counting
    keys is counting positions: whatever the padding, the packing or the slots of a cache.
    """
    if attend_bts.shape[-1] <= window:
        return attend_bts
    # Keys from this one on; the count from the end is a running sum of the flipped mask.
    later_bts = jnp.cumsum(attend_bts[..., ::-1], -1, dtype=jnp.int32)[..., ::-1]
    return attend_bts & (later_bts <= window)


def attention(q_btnh, k_bskh, v_bskh, attend_bts, scale=None, cap: float | None = None):
    """Mean of values `[b, t, n, h]`, weighted by a softmax in fp32.

    Args:
      q_btnh: queries; g = n / k neighbouring heads share keys and values.
      k_bskh: keys.
      v_bskh: values.
      attend_bts: True where query t may see key s.
      scale: of the scores; None: 1 / sqrt(h).
      cap: scores x become cap * tanh(x / cap) before the softmax (Gemma 2).
    """
    if cap is None:
        mask = attend_bts[:, None]
        return jax.nn.dot_product_attention(q_btnh, k_bskh, v_bskh, mask=mask, scale=scale)
    b, t, n, h = q_btnh.shape
    k = k_bskh.shape[2]
    q_btkgh = q_btnh.reshape(b, t, k, n // k, h)
    x_bkgts = jnp.einsum(
        "btkgh,bskh->bkgts", q_btkgh, k_bskh, preferred_element_type=jnp.float32
    )
    x_bkgts = cap * jnp.tanh(x_bkgts * ((h**-0.5 if scale is None else scale) / cap))
    x_bkgts = jnp.where(attend_bts[:, None, None], x_bkgts, jnp.finfo(jnp.float32).min)
    weight_bkgts = jax.nn.softmax(x_bkgts, -1).astype(v_bskh.dtype)
    return jnp.einsum("bkgts,bskh->btkgh", weight_bkgts, v_bskh).reshape(b, t, n, h)
