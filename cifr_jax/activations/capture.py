"""Residual-stream activations of many prompts, pooled on the device.

The stream is read after every block, as the parent reads it (arXiv 2508.17158, feature
extraction), and pooled inside the layer scan: `[l, b, t, d]` never exists and never
travels to the host. Prompts are grouped by length, so that there is one compile for each
bucket and no prompt is padded by more than one bucket.

Legend: n prompts, b prompts of a batch, l layers, t tokens, d model width.
"""

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cifr_jax.models import decoder
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Adapter
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.models.scoring import fitting

POOLS = ("last", "mean")


def buckets(
    lengths: Sequence[int], batch_size: int, multiple: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Group texts of like length.

    Args:
      lengths: tokens of each text.
      batch_size: texts in a batch, at most.
      multiple: padded lengths are multiples of this.

    Yields:
      `(indices, padded length)`; every index occurs once.
    """
    padded = -(-np.maximum(np.asarray(lengths, int), 1) // multiple) * multiple
    for length in np.unique(padded):
        index = np.flatnonzero(padded == length)
        for start in range(0, len(index), batch_size):
            yield index[start : start + batch_size], int(length)


@functools.partial(jax.jit, static_argnums=(0,), static_argnames=("pools",))
def _pooled(
    config: DecoderConfig, params, adapter: Adapter | None, tokens_bt, length_b, *, pools
):
    mask_bt = jnp.arange(tokens_bt.shape[1]) < length_b[:, None]

    def reduce(x_btd):
        x32 = x_btd.astype(jnp.float32)
        out = {}
        if "last" in pools:
            out["last"] = jnp.take_along_axis(x32, (length_b - 1)[:, None, None], 1)[:, 0]
        if "mean" in pools:
            out["mean"] = (x32 * mask_bt[..., None]).sum(1) / length_b[:, None]
        return out

    return decoder.hidden(config, params, tokens_bt, mask_bt, adapter, reduce=reduce)[1]


def capture_tokens(
    config: DecoderConfig,
    params,
    texts: Sequence[Sequence[int]],
    adapter: Adapter | None = None,
    pools: Sequence[str] = POOLS,
    batch_size: int = 128,
    multiple: int = 16,
    progress: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Pooled residual stream of tokenised texts.

    Args:
      config: shape of the model.
      params: its parameters.
      texts: token ids, one sequence a text, none empty.
      adapter: LoRA factors, or None for the base.
      pools: from `POOLS`: the last token, the mean over all tokens.
      batch_size: texts in a batch, fewer where there are few.
      multiple: bucket width in tokens.
      progress: called with the number of texts done.

    Returns:
      Pool name to `[l, n, d]` float32.

    Raises:
      ValueError: for an unknown pool or an empty text.
    """
    if unknown := set(pools) - set(POOLS):
        raise ValueError(f"unknown pools {sorted(unknown)}; known: {', '.join(POOLS)}")
    lengths = [len(text) for text in texts]
    if texts and min(lengths) == 0:
        raise ValueError(f"text {lengths.index(0)} is empty")
    shape = (config.n_layers, len(texts), config.d_model)
    out = {pool: np.zeros(shape, np.float32) for pool in pools}
    done = 0
    batches = list(buckets(lengths, batch_size, multiple))
    b = fitting(batch_size, max((len(index) for index, _ in batches), default=0))
    for index, length in batches:
        # A short batch is filled up: one shape for each bucket.
        tokens_bt = np.zeros((b, length), np.int32)
        length_b = np.ones(b, np.int32)
        for row, i in enumerate(index):
            tokens_bt[row, : lengths[i]] = texts[i]
            length_b[row] = lengths[i]
        pooled = _pooled(config, params, adapter, tokens_bt, length_b, pools=tuple(pools))
        for pool in pools:
            out[pool][:, index] = np.asarray(pooled[pool])[:, : len(index)]
        done += len(index)
        if progress is not None:
            progress(done)
    return out


def capture(
    lm: LanguageModel,
    chats: Sequence,
    adapter: Adapter | None = None,
    pools: Sequence[str] = POOLS,
    **options,
) -> dict[str, np.ndarray]:
    """Pooled activations of prompts: chats rendered up to the assistant's turn.

    Args:
      lm: the model.
      chats: each a sequence of messages that ends with a user turn.
      adapter: LoRA factors, or None for the base.
      pools: see `capture_tokens`, which takes the other options as well.

    Returns:
      Pool name to `[l, n, d]` float32.
    """
    texts = [lm.tokenizer.encode_chat(chat, add_generation_prompt=True) for chat in chats]
    return capture_tokens(lm.config, lm.params, texts, adapter, pools, **options)
