"""Adapters in the format of Hugging Face PEFT, in and out: what other programs serve.

A folder holds `adapter_config.json`, `adapter_model.safetensors` and a card. PEFT keeps
factors as `lora_A [r, d_in]` and `lora_B [d_out, r]`, those of an embedding as
`lora_embedding_A [r, v]` and `lora_embedding_B [d, r]`: ours, the second one transposed.
The order of rotary dimensions is the same.

vLLM reads the same folders, but of the settings only `r`, `lora_alpha` and `use_rslora`, so
that patterns of alpha are lost on it without a word. What is written here therefore has one
alpha / r for all modules, and its `r` is the greatest rank: start vLLM with
`--max-lora-rank` of at least that. It refuses DoRA, `modules_to_save` and biases, none of
which is written. Adapted embeddings and heads it takes for some architectures only (Llama
is one), heads of up to 258,048 tokens.

Legend: l blocks, r rank, d width, v vocabulary.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cifr_jax.errors import UserError
from cifr_jax.finetune.lora import LoraConfig
from cifr_jax.finetune.peft_folder import SETTINGS, WEIGHTS, read_folder, write_folder
from cifr_jax.finetune.peft_settings import Update, format_settings, parse_settings
from cifr_jax.finetune.peft_sites import ENDS, PREFIX, Site, fused, parts_of, sites
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Adapter, Params
from cifr_jax.models.shapes import matrix_shapes


def _blocks(found: Mapping[str, Site]) -> dict[str, int | None]:
    return {module: site.block for module, site in found.items()}


def load_peft(
    folder: str | Path, config: DecoderConfig, base: Params | None = None
) -> Adapter:
    """Reads an adapter that PEFT, or `save_peft`, wrote.

    Our scale is common to the matrices of a block, and to both ends. Where PEFT's differ
    among them (`alpha_pattern`, `rank_pattern`), they are folded into `b`; smaller ranks
    are filled up with zeros.

    Args:
      folder: with `adapter_config.json` and `adapter_model.safetensors`.
      config: shape of the base.
      base: the base's parameters. PEFT puts copies of embedding and head beside their
        adapters; they must equal the base's, or the adapter belongs to another base.

    Returns:
      The adapter in fp32.

    Raises:
      UserError: no such file, a broken one, a setting that is not implemented, a tensor
        that is missing, superfluous, of a wrong shape or not finite, or a copy of a base
        weight that differs from `base`, or for which no `base` was given.
    """
    folder = Path(folder)
    settings, tensors = read_folder(folder)
    found = sites(config)
    updates = parse_settings(settings, str(folder / SETTINGS), _blocks(found))
    where = str(folder / WEIGHTS)
    shapes: dict[str, tuple[int, int]] = {}
    for module, (rank, _) in updates.items():
        a, b = found[module].tensors(module)
        shapes |= {a: (rank, found[module].d_in), b: (found[module].d_out, rank)}
    copies = {
        f"{PREFIX}{module}{kind}": site.names[0]
        for module, site in found.items()
        if site.block is None
        for kind in (".base_layer.weight", ".weight")
    }
    mend = f"{SETTINGS} and the base must belong to the weights"
    for what, names in (
        ("missing", shapes.keys() - tensors.keys()),
        ("unexpected", tensors.keys() - shapes.keys() - copies.keys()),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            listed = ", ".join(sorted(names)[:3])
            raise UserError(where, f"{what} tensors: {listed}{more}", mend)
    shapes |= dict.fromkeys(copies, (config.vocab_size, config.d_model))
    for name, array in tensors.items():
        if array.shape != shapes[name]:
            what = f"{name} has shape {list(array.shape)}, not {list(shapes[name])}"
            raise UserError(where, what, mend)
        if name in copies:
            _check_copy(where, name, array, base, copies[name])
    return _assemble(where, config, updates, tensors)


def _check_copy(where: str, name: str, copy_vd, base: Params | None, end: str) -> None:
    """Refuses a copy of a base weight that is not the base's."""
    if base is None:
        raise UserError(
            where,
            f"{name} is a copy of a base weight, with nothing to compare it to",
            "load the adapter together with its base, or save it in PEFT with "
            "save_pretrained(FOLDER, save_embedding_layers=False)",
        )
    untied = end == "head" and "head" in base
    own_vd = np.asarray(base["head"]).T if untied else np.asarray(base["embed"])
    # Either may have been rounded to 16 bits.
    coarse = min(copy_vd.dtype, own_vd.dtype, key=lambda dtype: dtype.itemsize)
    if not np.array_equal(copy_vd.astype(coarse), own_vd.astype(coarse)):
        what = f"{name} differs from the base's"
        raise UserError(where, what, "give the base that the adapter was trained on")


def _assemble(
    where: str,
    config: DecoderConfig,
    updates: Mapping[str, Update],
    tensors: Mapping[str, np.ndarray],
) -> Adapter:
    found = sites(config)
    scale = np.zeros(config.n_layers + 1, np.float32)
    most: dict[str, int] = {}
    for module, (rank, own) in updates.items():
        site = found[module]
        scale[site.scale_at] = max(scale[site.scale_at], own, key=abs)
        for name in site.names:
            most[name] = max(rank, most.get(name, 0))
    parts: dict[str, Any] = {}
    for module, (rank, own) in updates.items():
        site = found[module]
        lead = () if site.block is None else (config.n_layers,)
        for name, width in zip(site.names, site.widths, strict=True):
            for key, long in (("a", site.d_in), ("b", width)):
                empty = np.zeros((*lead, most[name], long), np.float32)
                parts.setdefault(name, {}).setdefault(key, empty)
        a, b = (tensors[name] for name in site.tensors(module))
        common = scale[site.scale_at]
        with np.errstate(over="ignore", invalid="ignore"):  # reported below
            a, b = a.astype(np.float32), b.T.astype(np.float32)
            if np.float32(own) != common:
                b = b * np.float32(own / common)
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            what = f"{module} holds NaN or infinite values"
            raise UserError(where, what, "use a sound adapter")
        for name, columns in site.columns():
            parts[name]["a"][site.at][..., :rank, :] = a
            parts[name]["b"][site.at][..., :rank, :] = b[:, columns]
    embed, head = parts.pop("embed", None), parts.pop("head", None)
    return jax.tree.map(jnp.asarray, Adapter(parts, embed, head, scale))


def save_peft(
    adapter: Adapter,
    folder: str | Path,
    config: DecoderConfig,
    base_model_name: str,
    lora: LoraConfig | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Writes an adapter for PEFT: the whole folder, or nothing.

    Blocks whose scale is zero are left out. Where the scales of the others differ, they are
    folded into `lora_B`, so that one alpha / r holds for all; otherwise the factors are
    written bit for bit, in fp32.

    Args:
      adapter: of one job.
      folder: a new or an empty one.
      config: shape of the base.
      base_model_name: repository or folder of the base, for those who load it.
      lora: what the adapter was trained with; zero rows beyond its ranks, which a fleet
        adds, are cut off.
      provenance: seed, config, versions and the like, for the card: JSON values.

    Raises:
      UserError: an adapter of another base or of other ranks than `lora`'s, one that adapts
        nothing or is not finite; a folder that holds something; a disk that refuses.
      ValueError: `provenance` holds what is no JSON.
    """
    folder, found = Path(folder), sites(config)
    adapter = jax.tree.map(lambda x: np.asarray(x, np.float32), adapter)
    _check(adapter, config, str(folder))
    if lora is not None:
        adapter = _cut(adapter, lora, str(folder))
    own = parts_of(adapter)
    parts = {names: fused(site, own) for names, site in _by_names(found).items()}
    scales = {
        module: adapter.scale[site.scale_at]
        for module, site in found.items()
        if parts[site.names] and adapter.scale[site.scale_at]
    }
    if not scales:
        raise UserError(str(folder), "the adapter adapts nothing", "give a trained one")
    common = max(scales.values(), key=abs)
    tensors: dict[str, np.ndarray] = {}
    updates: dict[str, Update] = {}
    for module, scale in scales.items():
        site = found[module]
        part = parts[site.names] or {}
        a, b = part["a"][site.at], part["b"][site.at]
        b = b if scale == common else b * (scale / common)
        for name, factor in zip(site.tensors(module), (a, b.T), strict=True):
            tensors[name] = np.ascontiguousarray(factor)
        updates[module] = Update(a.shape[0], float(common))
    alphas = {rank: _alpha(common, rank) for rank, _ in updates.values()}
    settings = format_settings(updates, _blocks(found), alphas, base_model_name)
    write_folder(folder, settings, tensors, provenance or {})


def _by_names(found: Mapping[str, Site]) -> dict[tuple[str, ...], Site]:
    """One site for each kind of module."""
    return {site.names: site for site in found.values()}


def _check(adapter: Adapter, config: DecoderConfig, where: str) -> None:
    """Refuses an adapter that does not fit the base, or is not finite."""
    mend = "give the config of the adapter's own base"
    d, v, shapes = config.d_model, config.vocab_size, matrix_shapes(config)
    shapes |= {"embed": (v, d), "head": (d, v)}
    unknown = sorted(adapter.layers.keys() - matrix_shapes(config).keys())
    if unknown:
        raise UserError(where, f"unknown matrices {', '.join(unknown)}", mend)
    wanted: list[Any] = [("scale", adapter.scale, (config.n_layers + 1,))]
    for name, part in parts_of(adapter).items():
        lead, rank = () if name in ENDS else (config.n_layers,), part["a"].shape[-2]
        for key, long in zip("ab", shapes[name], strict=True):
            wanted.append((f"{name} {key}", part[key], (*lead, rank, long)))
    for name, array, shape in wanted:
        if array.shape != shape:
            what = f"{name} of the adapter has shape {array.shape}, not {shape}"
            raise UserError(where, what, mend)
        if not np.isfinite(array).all():
            what = f"{name} of the adapter holds NaN or infinite values"
            raise UserError(where, what, "use a sound adapter")


def _cut(adapter: Adapter, lora: LoraConfig, where: str) -> Adapter:
    """The adapter without the zero rows beyond the ranks that it was trained with."""

    def cut(name: str, part: Mapping[str, Any], rank: int) -> dict[str, Any]:
        own = part["a"].shape[-2]
        if own < rank or any(x[..., rank:, :].any() for x in part.values()):
            what = f"{name} of the adapter has rank {own}, not {rank}"
            raise UserError(where, what, "give the settings that it was trained with")
        return {key: x[..., :rank, :] for key, x in part.items()}

    return adapter._replace(
        layers={name: cut(name, f, lora.rank) for name, f in adapter.layers.items()},
        embed=adapter.embed and cut("embed", adapter.embed, lora.embed_rank),
        head=adapter.head and cut("head", adapter.head, lora.embed_rank),
    )


def _alpha(scale: np.float32, rank: int) -> float:
    """The alpha with which alpha / rank gives the scale back, whole where there is one."""
    exact = float(scale) * rank  # no rounding: 24 bits times an integer
    whole = round(exact)
    return whole if np.float32(whole / rank) == scale else exact
