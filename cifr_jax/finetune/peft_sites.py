"""The modules that PEFT can adapt in a family, and how ours lie in them.

A module of transformers is one of our matrices, or several side by side where the family
fuses them (Phi-3). An adapter of a fused module splits exactly: the parts share its `a`.
The other way round ours fuse into one whose `a` is theirs if they share it, and otherwise
into one of the sum of their ranks, whose `b` is zero off the diagonal.

Legend: l blocks, r rank, d width, v vocabulary.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Adapter
from cifr_jax.models.families.registry import family_of
from cifr_jax.models.shapes import matrix_shapes

PREFIX = "base_model.model."
ENDS = ("embed", "head")


class Site(NamedTuple):
    """A module that can be adapted.

    Attributes:
      names: of our matrices in it, in order.
      block: its number; None: an end.
      d_in: their common input.
      widths: their outputs.
    """

    names: tuple[str, ...]
    block: int | None
    d_in: int
    widths: tuple[int, ...]

    @property
    def d_out(self) -> int:
        """Output of the module."""
        return sum(self.widths)

    @property
    def at(self) -> Any:
        """Index of its factors among those of its name."""
        return ... if self.block is None else self.block

    @property
    def scale_at(self) -> int:
        """Index of its scale in `Adapter.scale`."""
        return -1 if self.block is None else self.block

    def tensors(self, module: str) -> tuple[str, str]:
        """Names of its two factors in a PEFT file."""
        if self.names == ("embed",):
            names = ("lora_embedding_A", "lora_embedding_B")
        else:
            names = ("lora_A.weight", "lora_B.weight")
        return f"{PREFIX}{module}.{names[0]}", f"{PREFIX}{module}.{names[1]}"

    def columns(self) -> list[tuple[str, slice]]:
        """Our matrices, with their places in the module's output."""
        ends = np.cumsum(self.widths).tolist()
        cuts = zip(self.names, ends, self.widths, strict=True)
        return [(name, slice(end - width, end)) for name, end, width in cuts]


def sites(config: DecoderConfig) -> dict[str, Site]:
    """Every module that can be adapted, by its name in transformers."""
    d, v, shapes = config.d_model, config.vocab_size, matrix_shapes(config)
    ends = {"embed": (v, d), "head": (d, v)}
    found: dict[str, Site] = {}
    for pattern, names in family_of(config).tensors.items():
        module = pattern.removesuffix(".weight")
        if names[0] in ends:
            d_in, d_out = ends[names[0]]
            found[module] = Site(names, None, d_in, (d_out,))
        elif names[0] in shapes:
            d_in, widths = shapes[names[0]][0], tuple(shapes[name][1] for name in names)
            for block in range(config.n_layers):
                found[module.format(l=block)] = Site(names, block, d_in, widths)
    return found


def parts_of(adapter: Adapter) -> dict[str, Mapping[str, Any]]:
    """Factors of every adapted matrix, by name; those of rank zero left out."""
    parts = {"embed": adapter.embed, "head": adapter.head, **adapter.layers}
    return {name: part for name, part in parts.items() if part and part["a"].shape[-2]}


def fused(site: Site, parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Factors of a module, of all blocks; None where none of its matrices is adapted.

    Args:
      site: any block's.
      parts: factors of our matrices, as NumPy arrays.
    """
    own = [parts[name] for name in site.names if name in parts]
    if not own:
        return None
    if len(site.names) == 1:
        return dict(own[0])
    shared = all(np.array_equal(part["a"], own[0]["a"]) for part in own)
    a = own[0]["a"] if shared else np.concatenate([part["a"] for part in own], -2)
    b = np.zeros((*a.shape[:-1], site.d_out), np.float32)
    row = 0
    for name, columns in site.columns():
        if name in parts:
            rank = parts[name]["b"].shape[-2]
            b[..., row : row + rank, columns] = parts[name]["b"]
            row += 0 if shared else rank
    return {"a": a, "b": b}
