"""A base with its adapter merged in, as a folder that transformers and others load.

Legend: r rank, i and o inputs and outputs of a matrix, l blocks.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cifr_jax.errors import UserError
from cifr_jax.files import whole_folder
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Adapter
from cifr_jax.models.families import Piece, Slot
from cifr_jax.models.hf_folder import MAX_SHARD_BYTES, save_hf_folder
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.models.quantised import is_quantised
from cifr_jax.models.shapes import matrix_shapes


def export_merged(
    lm: LanguageModel,
    adapter: Adapter | None,
    folder: str | Path,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Writes weights, config, tokenizer, chat template and generation_config.json.

    Sums are taken in fp32 and stored in the base's dtype, a tensor at a time. Where an
    adapter changes embedding or head of a model that ties them, they are stored apart.

    Args:
      lm: the base.
      adapter: of one job; None: the base alone.
      folder: a new or an empty one; written whole or not at all.
      max_shard_bytes: weights beyond that are written in several files with an index.

    Raises:
      UserError: an adapter of another base, sums that are not finite, a quantised base, a
        folder that holds something, a file system that refuses.
    """
    folder = Path(folder)
    config, params = lm.config, lm.params
    if any(map(is_quantised, jax.tree.leaves(params, is_leaf=is_quantised))):
        what = "adapters are not merged into quantised matrices"
        raise UserError(str(folder), what, "load the base as it was, and export that")
    if adapter is not None:
        adapter = jax.tree.map(lambda x: np.asarray(x, np.float32), adapter)
        _check(adapter, config, str(folder))
        if config.tie_embeddings and (adapter.embed or adapter.head):
            config = dataclasses.replace(config, tie_embeddings=False)
            params = {**params, "head": np.asarray(params["embed"]).T}

    def merged(piece: Piece) -> np.ndarray:
        base = piece.of(params)
        update = None if adapter is None else _update(adapter, piece)
        if update is None:
            return base
        with np.errstate(over="ignore"):  # reported below
            total = (base.astype(np.float32) + update).astype(base.dtype)
        if not np.isfinite(total).all():
            what = f"{'.'.join(piece.path)} is not finite when merged as {base.dtype}"
            raise UserError(str(folder), what, "export in float32")
        return total

    def read(slot: Slot) -> np.ndarray:
        return slot.join([merged(piece) for piece in slot.pieces])

    with whole_folder(folder) as temporary:
        save_hf_folder(temporary, config, params, lm.tokenizer, max_shard_bytes, read)


def _update(adapter: Adapter, piece: Piece) -> np.ndarray | None:
    """What the adapter adds to a piece `[i, o]`."""
    name, at = piece.path[-1], piece.layer
    if at is None:
        part = {"embed": adapter.embed, "head": adapter.head}.get(name)
    else:
        part = adapter.layers.get(name)
    if not part:
        return None
    a, b = (np.asarray(part[key] if at is None else part[key][at]) for key in "ab")
    return adapter.scale[-1 if at is None else at] * (a.T @ b)


def _check(adapter: Adapter, config: DecoderConfig, where: str) -> None:
    mend = "give the adapter's own base"
    d, v, n = config.d_model, config.vocab_size, config.n_layers
    shapes: dict[str, Any] = {**matrix_shapes(config), "embed": (v, d), "head": (d, v)}
    parts = {**adapter.layers, "embed": adapter.embed, "head": adapter.head}
    for name, part in parts.items():
        if not part:
            continue
        lead = (n,) if name in adapter.layers else ()
        rank = part["a"].shape[-2]
        wanted = [(*lead, rank, width) for width in shapes.get(name, ())]
        if [part["a"].shape, part["b"].shape] != wanted:
            raise UserError(where, f"{name} of the adapter does not fit the base", mend)
    if adapter.scale.shape != (n + 1,):
        what = f"the adapter's scale has shape {adapter.scale.shape}, not {(n + 1,)}"
        raise UserError(where, what, mend)
