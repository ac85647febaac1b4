"""LoRA: low-rank updates of a frozen base (Hu et al. 2021, arXiv 2106.09685).

Legend: l layers, r rank, d width, v vocabulary.
"""

import dataclasses
import re

import jax
import jax.numpy as jnp

from cifr_jax.errors import UserError
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import LAYER_MATRICES, Adapter, matrix_shapes

# Published names of the matrices, in which a pattern can single out layers.
MODULES = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
PRESETS = {
    "all-linear": LAYER_MATRICES,
    "attention": ("q", "k", "v", "o"),
    "mlp": ("gate", "up", "down"),
}


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Which matrices are adapted, and how much.

    Attributes:
      rank: of the matrices inside blocks.
      alpha: the update is scaled by alpha / rank.
      targets: names of block matrices, from q k v o gate up down; or one of `PRESETS`; or a
        regular expression that matches the whole of `layers.3.self_attn.q_proj`.
      embed_rank: of embedding and head; 0 leaves them alone.
      blocks: numbers of the adapted blocks; empty means all.
      rslora: scale by alpha / sqrt(rank) instead (Kalajdzievski 2023, arXiv 2312.03732).
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] | str = LAYER_MATRICES
    embed_rank: int = 0
    blocks: tuple[int, ...] = ()
    rslora: bool = False

    def __post_init__(self):
        names = self.targets if not isinstance(self.targets, str) else ()
        unknown = sorted(set(names) - set(LAYER_MATRICES))
        if unknown:
            raise UserError(
                "lora.targets",
                f"unknown {', '.join(unknown)}",
                f"known: {' '.join(LAYER_MATRICES)}, or one string: "
                f"{', '.join(PRESETS)}, a regular expression",
            )
        if self.rank < 1:
            what = f"{self.rank} is no rank"
            raise UserError("lora.rank", what, "give a positive integer")
        if self.embed_rank < 0:
            what = f"{self.embed_rank} is no rank"
            raise UserError(
                "lora.embed_rank", what, "give a positive integer, or 0 for none"
            )

    @property
    def scaling(self) -> float:
        """The factor of the update."""
        return self.alpha / (self.rank**0.5 if self.rslora else self.rank)


def targeted(base: DecoderConfig, lora: LoraConfig) -> dict[str, tuple[int, ...]]:
    """Numbers of the blocks in which each matrix is adapted; matrices without any left out.

    Raises:
      UserError: for a block that the base does not have, a pattern that is no regular
        expression or matches nothing.
    """
    blocks = lora.blocks or tuple(range(base.n_layers))
    if not set(blocks) <= set(range(base.n_layers)):
        raise UserError("lora.blocks", f"{blocks}", f"the base has {base.n_layers} blocks")
    if not isinstance(lora.targets, str) or lora.targets in PRESETS:
        names = PRESETS[lora.targets] if isinstance(lora.targets, str) else lora.targets
        return {name: tuple(blocks) for name in LAYER_MATRICES if name in names}
    try:
        pattern = re.compile(lora.targets)
    except re.error as error:
        what = f"{lora.targets!r} is no regular expression ({error})"
        raise UserError("lora.targets", what, "mend it") from error
    found = {
        name: tuple(l for l in blocks if pattern.fullmatch(f"layers.{l}.{module}"))
        for name, module in MODULES.items()
    }
    found = {name: layers for name, layers in found.items() if layers}
    if not found and not lora.embed_rank:
        what = f"{lora.targets!r} matches no matrix of the base"
        mend = f"presets: {', '.join(PRESETS)}; names look like layers.0.self_attn.q_proj"
        raise UserError("lora.targets", what, mend)
    return found


def init_adapter(key, base: DecoderConfig, lora: LoraConfig) -> Adapter:
    """A fresh adapter in fp32 whose effect on the base is exactly zero.

    Matrices that are not targeted have factors of zeros, whose gradients are zero too.

    Args:
      key: a JAX random key.
      base: shape of the base model.
      lora: what to adapt.

    Raises:
      UserError: as `targeted`.
    """
    shapes, found = matrix_shapes(base), targeted(base, lora)
    keys = iter(jax.random.split(key, len(found) + 2))
    layers = {}
    for name, blocks in found.items():
        d_in, d_out = shapes[name]
        a = jax.random.normal(next(keys), (base.n_layers, lora.rank, d_in)) * d_in**-0.5
        if len(blocks) < base.n_layers:
            a = a * jnp.zeros((base.n_layers, 1, 1)).at[jnp.array(blocks)].set(1.0)
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
    used = sorted({block for blocks in found.values() for block in blocks})
    scale = jnp.zeros(base.n_layers + 1).at[jnp.array([*used, -1])].set(lora.scaling)
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


def ranks(adapter: Adapter) -> tuple[int, int]:
    """Rank of the matrices inside blocks, and of embedding and head (0: none)."""
    inside = [factors["a"].shape[-2] for factors in adapter.layers.values()]
    ends = [part["a"].shape[-2] for part in (adapter.embed, adapter.head) if part]
    return max(inside, default=0), max(ends, default=0)


def with_ranks(adapter: Adapter, rank: int, embed_rank: int) -> Adapter:
    """The adapter with zero rows added, or the rows beyond a rank cut off.

    Rows that are zero in both factors have no effect and zero gradients, so jobs of
    different ranks can share one program.
    """

    def resized(factors, rows):
        def one(x):
            missing = max(0, rows - x.shape[-2])
            padding = [(0, 0)] * (x.ndim - 2) + [(0, missing), (0, 0)]
            return jnp.pad(x, padding)[..., :rows, :]

        return {name: one(x) for name, x in factors.items()}

    return adapter._replace(
        layers={name: resized(f, rank) for name, f in adapter.layers.items()},
        embed=adapter.embed and resized(adapter.embed, embed_rank),
        head=adapter.head and resized(adapter.head, embed_rank),
    )
