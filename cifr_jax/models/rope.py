"""Rotary position embeddings (Su et al. 2021, arXiv 2104.09864) and their rescalings.

Angles are computed in fp32 and frequencies as the checkpoints' authors computed them.

Legend: b batch, t time (queries), s time (keys), n heads, h head width, r half of the
rotated dimensions of a head.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from cifr_jax.errors import UserError

if TYPE_CHECKING:
    from cifr_jax.models.config import DecoderConfig


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """The `llama3` rescaling of rotary frequencies (Llama 3.1; `rope_type: llama3`)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int


@dataclasses.dataclass(frozen=True)
class LinearRope:
    """Positions divided by a factor (`rope_type: linear`; arXiv 2306.15595)."""

    factor: float


@dataclasses.dataclass(frozen=True)
class YarnRope:
    """YaRN (Peng et al. 2023, arXiv 2309.00071; `rope_type: yarn`).

    Attributes:
      factor: slow frequencies are divided by this.
      original_max_positions: context before the extension.
      attention_factor: times sines and cosines; None: 0.1 ln(factor) + 1, or follows from
        `mscale` and `mscale_all_dim` where both are there.
      beta_fast, beta_slow: turns in the original context from which on a frequency is kept,
        and up to which it is divided.
      truncate: the bounds that follow are rounded outwards to whole dimensions.
    """

    factor: float
    original_max_positions: int
    attention_factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True


@dataclasses.dataclass(frozen=True)
class LongRope:
    """LongRoPE (Ding et al. 2024, arXiv 2402.13753; `rope_type: longrope`).

    Attributes:
      short_factor, long_factor: divisors of each frequency, in texts up to the original
        context and in longer ones.
      original_max_positions: that context.
      factor: of the extension; None: the model's `max_positions` over the original.
      attention_factor: times sines and cosines; None: sqrt(1 + ln(factor) / ln(original)).
    """

    short_factor: tuple[float, ...]
    long_factor: tuple[float, ...]
    original_max_positions: int
    factor: float | None = None
    attention_factor: float | None = None


def _plain(theta: float, width: int) -> np.ndarray:
    # fp32 throughout, as the checkpoints' authors computed them: fp64 differs at 8k.
    return 1.0 / (np.float32(theta) ** (np.arange(0, width, 2, dtype=np.float32) / width))


def _llama3(freq_r: np.ndarray, scaling: RopeScaling) -> np.ndarray:
    wavelength = 2 * np.pi / freq_r
    turns = scaling.original_max_positions / wavelength
    smooth = (turns - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    smooth = np.clip(smooth, 0.0, 1.0)
    return freq_r * (smooth + (1 - smooth) / scaling.factor)


def _yarn(freq_r: np.ndarray, theta: float, scaling: YarnRope) -> np.ndarray:
    width = 2 * len(freq_r)

    def dimension(turns: float) -> float:
        """Where a frequency makes so many turns in the original context."""
        length = scaling.original_max_positions / (2 * math.pi * turns)
        return width * math.log(length) / (2 * math.log(theta))

    low, high = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    high = high + 0.001 if high == low else high
    divided = np.clip((np.arange(len(freq_r), dtype=np.float32) - low) / (high - low), 0, 1)
    return freq_r * (1 - divided) + freq_r / np.float32(scaling.factor) * divided


def _mscale(factor: float, mscale: float = 1.0) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def attention_factor(scaling: Any, max_positions: int) -> float:
    """What sines and cosines are multiplied by."""
    if isinstance(scaling, YarnRope):
        if scaling.attention_factor is not None:
            return scaling.attention_factor
        if scaling.mscale and scaling.mscale_all_dim:
            above = _mscale(scaling.factor, scaling.mscale)
            return above / _mscale(scaling.factor, scaling.mscale_all_dim)
        return _mscale(scaling.factor)
    if isinstance(scaling, LongRope):
        if scaling.attention_factor is not None:
            return scaling.attention_factor
        factor = scaling.factor or max_positions / scaling.original_max_positions
        if factor <= 1:
            return 1.0
        return math.sqrt(1 + math.log(factor) / math.log(scaling.original_max_positions))
    return 1.0


def frequencies(theta: float, scaling: Any, width: int) -> np.ndarray:
    """Angles per position `[r]` in fp32; of a `LongRope` `[2, r]`: short, long.

    Args:
      theta: base of the wavelengths.
      scaling: None or one of the classes above.
      width: rotated dimensions of a head.
    """
    freq_r = _plain(theta, width)
    if isinstance(scaling, RopeScaling):
        freq_r = _llama3(freq_r, scaling)
    elif isinstance(scaling, LinearRope):
        freq_r = freq_r / np.float32(scaling.factor)
    elif isinstance(scaling, YarnRope):
        freq_r = _yarn(freq_r, theta, scaling)
    elif isinstance(scaling, LongRope):
        factors = np.array([scaling.short_factor, scaling.long_factor], np.float32)
        freq_r = 1.0 / (factors * (1.0 / freq_r))
    return freq_r.astype(np.float32)


def sin_cos(config: "DecoderConfig", positions_bt, attend_bts, dtype, local: bool = False):
    """Sines and cosines `[b, t, r]` of every token.

    With LongRoPE the length of a text decides, also about its first tokens: as transformers
    does for a text that is alone in its batch. Keys in a cache cannot be rotated anew when
    a text outgrows the original context, so that a longer cache is refused.

    Args:
      config: shape of the model.
      positions_bt: position of every token in its own text.
      attend_bts: True where query t may see key s; s beyond t is a cache.
      dtype: of the result.
      local: of layers with a window.

    Raises:
      UserError: a cache longer than the original context of a LongRoPE model.
    """
    theta, scaling = config.rope_theta, config.rope_scaling
    if local and config.local_rope is not None:
        theta, scaling = config.local_rope.theta, config.local_rope.scaling
    width = config.d_head if config.d_rotary is None else config.d_rotary
    freq = frequencies(theta, scaling, width)
    if isinstance(scaling, LongRope):
        freq = _of_length(freq, scaling, positions_bt, attend_bts)
    angle_btr = positions_bt[..., None].astype(jnp.float32) * freq
    factor = attention_factor(scaling, config.max_positions)
    if factor == 1.0:
        return jnp.sin(angle_btr).astype(dtype), jnp.cos(angle_btr).astype(dtype)
    sin, cos = factor * jnp.sin(angle_btr), factor * jnp.cos(angle_btr)
    return sin.astype(dtype), cos.astype(dtype)


def _of_length(freq_2r, scaling: LongRope, positions_bt, attend_bts):
    """Frequencies by each text's length `[b, t, r]`; `[r]` where no text can be long."""
    slots, original = attend_bts.shape[-1], scaling.original_max_positions
    if slots <= original:
        return freq_2r[0]
    if slots != positions_bt.shape[1]:
        raise UserError(
            "longrope",
            f"{slots} cached tokens, where the original context is {original}",
            f"keep prompt and answer together within {original} tokens",
        )
    # The last position among the queries that see a token is that of its text's last one.
    last_bt = jnp.where(attend_bts, positions_bt[:, :, None], -1).max(1)
    return jnp.where((last_bt >= original)[..., None], freq_2r[1], freq_2r[0])


def apply_rope(x_btnh, sin_btr, cos_btr):
    """Rotate the halves of the first 2r dimensions of each head (Hugging Face layout)."""
    width = 2 * sin_btr.shape[-1]
    x1, x2 = jnp.split(x_btnh[..., :width], 2, axis=-1)
    sin, cos = sin_btr[:, :, None], cos_btr[:, :, None]
    parts = [x1 * cos - x2 * sin, x2 * cos + x1 * sin]
    if width < x_btnh.shape[-1]:
        parts.append(x_btnh[..., width:])
    return jnp.concatenate(parts, -1)
