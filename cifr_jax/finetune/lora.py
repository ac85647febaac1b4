"""LoRA: low-rank updates of a frozen base (Hu et al. 2021, arXiv 2106.09685).

Legend: l layers, r rank, d width, v vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from cifr_jax.errors import UserError
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import LAYER_MATRICES, Adapter, matrix_shapes


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Which matrices are adapted, and how much.

    Attributes:
      rank: of the matrices inside blocks.
      alpha: the update is scaled by alpha / rank.
      targets: names of block matrices, from q k v o gate up down.
      embed_rank: of embedding and head; 0 leaves them alone.
      blocks: numbers of the adapted blocks; empty means all.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = LAYER_MATRICES
    embed_rank: int = 0
    blocks: tuple[int, ...] = ()

    def __post_init__(self):
        unknown = sorted(set(self.targets) - set(LAYER_MATRICES))
        if unknown:
            raise UserError(
                "lora.targets",
                f"unknown {', '.join(unknown)}",
                f"known: {' '.join(LAYER_MATRICES)}",
            )
        if self.rank < 1:
            what = f"{self.rank} is no rank"
            raise UserError("lora.rank", what, "give a positive integer")
        if self.embed_rank < 0:
            what = f"{self.embed_rank} is no rank"
            raise UserError(
                "lora.embed_rank", what, "give a positive integer, or 0 for none"
            )


def init_adapter(key, base: DecoderConfig, lora: LoraConfig) -> Adapter:
    """A fresh adapter in fp32 whose effect on the base is exactly zero.

    Args:
      key: a JAX random key.
      base: shape of the base model.
      lora: what to adapt.

    Raises:
      UserError: for a block that the base does not have.
    """
    shapes = matrix_shapes(base)
    keys = iter(jax.random.split(key, len(lora.targets) + 2))
    layers = {}
    for name in lora.targets:
        d_in, d_out = shapes[name]
        a = jax.random.normal(next(keys), (base.n_layers, lora.rank, d_in)) * d_in**-0.5
        layers[name] = {"a": a, "b": jnp.zeros((base.n_layers, lora.rank, d_out))}
    embed = head = None
    if lora.embed_rank:
        r, d, v = lora.embed_rank, base.d_model, base.vocab_size
        # The embedding starts the other way round, as in PEFT: rows that are never looked
        # up keep a zero update.
        b = jax.random.normal(next(keys), (r, d)) * r**-0.5
        embed = {"a": jnp.zeros((r, v)), "b": b}
        a = jax.random.normal(next(keys), (r, d)) * d**-0.5
        head = {"a": a, "b": jnp.zeros((r, v))}
    blocks = lora.blocks or tuple(range(base.n_layers))
    if not set(blocks) <= set(range(base.n_layers)):
        raise UserError("lora.blocks", f"{blocks}", f"the base has {base.n_layers} blocks")
    scale = (
        jnp.zeros(base.n_layers + 1)
        .at[jnp.array([*blocks, -1])]
        .set(lora.alpha / lora.rank)
    )
    return Adapter(layers, embed, head, scale)


def stack(adapters) -> Adapter:
    """Adapters of one shape as one, with a leading axis over jobs."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *adapters)


def unstack(adapters: Adapter, index: int) -> Adapter:
    """One job's adapter out of a stack."""
    return jax.tree.map(lambda leaf: leaf[index], adapters)


def n_parameters(adapter: Adapter) -> int:
    """Number of trained scalars."""
    return sum(x.size for x in jax.tree.leaves(adapter._replace(scale=None)))
