"""The loss of supervised fine-tuning: cross-entropy of what the assistant says.

Legend: b rows, t tokens, p supervised positions of a row, d model width, v vocabulary.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cifr_jax.data.packing import Packed
from cifr_jax.models import decoder
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Adapter, Dropout

# Logits that are held at once, in numbers: 256 MB in fp32. Beyond that the head runs in
# pieces whose logits are computed again on the way back.
LOGITS_AT_ONCE = 2**26


def attention_mask(segment_bt):
    """Causal attention within segments `[b, t, t]`: packed examples stay apart."""
    t = segment_bt.shape[1]
    same = segment_bt[:, :, None] == segment_bt[:, None, :]
    return same & jnp.tril(jnp.ones((t, t), bool))


def most_targets(packed: Packed, multiple: int = 8) -> int:
    """Most supervised tokens in any row, rounded up: the static size of `max_targets`."""
    most = int((np.asarray(packed.loss_mask_rt) > 0).sum(1).max(initial=1))
    return min(-(-most // multiple) * multiple, packed.loss_mask_rt.shape[1])


def _negative_log_likelihood(config, params, adapter, x_bpd, target_bp):
    """Nats `[b, p]` of each target; logits in pieces where they would be large."""

    def nll(x_npd, target_np):
        logits = decoder.unembed(config, params, x_npd, adapter).astype(jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, target_np)

    b, p, d = x_bpd.shape
    pieces = -(-b * p * config.vocab_size // LOGITS_AT_ONCE)
    if pieces <= 1:
        return nll(x_bpd, target_bp)
    size = -(-b * p // pieces)
    missing = size * pieces - b * p
    x_npd = jnp.pad(x_bpd.reshape(-1, d), ((0, missing), (0, 0))).reshape(pieces, size, d)
    target_np = jnp.pad(target_bp.reshape(-1), (0, missing)).reshape(pieces, size)
    piece = jax.checkpoint(lambda pair: nll(pair[0][None], pair[1][None])[0])
    return jax.lax.map(piece, (x_npd, target_np)).reshape(-1)[: b * p].reshape(b, p)


def summed_loss(
    config: DecoderConfig,
    params,
    adapter: Adapter | None,
    batch: Packed,
    max_targets: int | None = None,
    dropout: Dropout | None = None,
    remat: bool = False,
):
    """Weighted sum of cross-entropies (nats) over supervised tokens; sum of weights.

    Args:
      config: shape of the base.
      params: of the base.
      adapter: LoRA factors, or None for the base alone.
      batch: packed rows; `loss_mask_rt` may hold weights in place of booleans.
      max_targets: supervised tokens of a row at most (`most_targets`): the head is applied
        to these alone. None: to every position.
      dropout: of the adapters' inputs.
      remat: compute blocks again on the way back, for memory.
    """
    x_btd = decoder.embed(params, batch.tokens_rt, adapter)
    mask = attention_mask(batch.segment_rt)
    x_btd, _, _ = decoder.backbone(
        config,
        params,
        x_btd,
        batch.position_rt,
        mask,
        adapter,
        dropout=dropout,
        remat=remat,
    )
    x_bpd = x_btd[:, :-1]
    target_bp = jnp.asarray(batch.tokens_rt)[:, 1:]
    weight_bp = jnp.asarray(batch.loss_mask_rt, jnp.float32)[:, 1:]
    if max_targets is not None and max_targets < target_bp.shape[1]:
        place_bp = jnp.argsort(weight_bp == 0, axis=1, stable=True)[:, :max_targets]
        x_bpd = jnp.take_along_axis(x_bpd, place_bp[..., None], 1)
        target_bp = jnp.take_along_axis(target_bp, place_bp, 1)
        weight_bp = jnp.take_along_axis(weight_bp, place_bp, 1)
    nll_bp = _negative_log_likelihood(config, params, adapter, x_bpd, target_bp)
    return (nll_bp * weight_bp).sum(), weight_bp.sum()


def sft_loss(config: DecoderConfig, params, adapter: Adapter | None, batch: Packed, **how):
    """Mean cross-entropy (nats a supervised token) and the sum of weights.

    Args and keywords as `summed_loss`. A batch without a target costs nothing.
    """
    total, weight = summed_loss(config, params, adapter, batch, **how)
    return total / jnp.where(weight > 0, weight, 1.0), weight
