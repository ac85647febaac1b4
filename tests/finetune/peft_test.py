"""PEFT folders without PEFT: round trips, its rules on the settings, a fault in every part.

That PEFT computes the same is shown by peft_parity_test.py.
"""

import json
import re
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cifr_jax.errors import UserError
from cifr_jax.finetune.lora import LoraConfig, with_ranks
from cifr_jax.finetune.peft import load_peft, save_peft
from cifr_jax.models import decoder
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import LAYER_MATRICES, Adapter

# No two of its widths are equal, so that no transposed factor fits by chance.
BASE = DecoderConfig(
    vocab_size=23, d_model=12, n_layers=3, n_heads=4, n_kv_heads=2, d_head=4, d_ff=20
)
FILES = ("README.md", "adapter_config.json", "adapter_model.safetensors")
Q0 = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
EMBED = "base_model.model.model.embed_tokens"


def random_adapter(lora: LoraConfig, base: DecoderConfig = BASE, seed: int = 0) -> Adapter:
    """An adapter with nothing zero but the blocks that `lora` leaves alone."""
    rng = np.random.default_rng(seed)
    blocks = list(lora.blocks or range(base.n_layers))
    scale = np.zeros(base.n_layers + 1, np.float32)
    scale[[*blocks, -1] if lora.embed_rank else blocks] = lora.alpha / lora.rank

    def factors(*shapes):
        return {
            key: rng.normal(size=shape).astype(np.float32)
            for key, shape in zip("ab", shapes, strict=True)
        }

    layers = {}
    for name, (d_in, d_out) in decoder.matrix_shapes(base).items():
        if name in lora.targets:
            lead = (base.n_layers, lora.rank)
            layers[name] = factors((*lead, d_in), (*lead, d_out))
            for x in layers[name].values():
                x[scale[:-1] == 0] = 0
    r, d, v = lora.embed_rank, base.d_model, base.vocab_size
    embed = factors((r, v), (r, d)) if r else None
    return Adapter(layers, embed, factors((r, d), (r, v)) if r else None, scale)


FULL = LoraConfig(rank=3, alpha=7, embed_rank=5)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A sound folder, to be spoilt."""
    save_peft(random_adapter(FULL), tmp_path / "adapter", BASE, "base", FULL)
    return tmp_path / "adapter"


def same_bits(one: Adapter, other: Adapter):
    def bits(x):
        return np.asarray(x).dtype, np.shape(x), np.asarray(x).tobytes()

    same = jax.tree.map(lambda x, y: bits(x) == bits(y), one, other)
    assert all(jax.tree.leaves(same)), same


def updates(adapter: Adapter) -> dict:
    """Every matrix's whole update, scale and all: what the adapter computes."""
    scale = np.asarray(adapter.scale, np.float64)
    found = {
        name: np.einsum("l,lri,lro->lio", scale[:-1], f["a"], f["b"])
        for name, f in adapter.layers.items()
    }
    for name, f in (("embed", adapter.embed), ("head", adapter.head)):
        if f is not None:
            found[name] = scale[-1] * np.asarray(f["a"]).T @ np.asarray(f["b"])
    return found


def change_settings(folder: Path, **changes) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def read_settings(folder: Path) -> dict:
    return json.loads((folder / "adapter_config.json").read_text())


def read_weights(folder: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(folder / "adapter_model.safetensors")


def write_weights(folder: Path, tensors: dict) -> None:
    safetensors.numpy.save_file(tensors, folder / "adapter_model.safetensors")


# Round trips


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_adapter_comes_back_bit_for_bit(tmp_path_factory, data):
    small = st.integers(1, 3)
    kv_heads, n_layers = data.draw(small), data.draw(small)
    base = DecoderConfig(
        vocab_size=data.draw(st.integers(2, 9)),
        d_model=data.draw(st.integers(1, 9)),
        n_layers=n_layers,
        n_heads=kv_heads * data.draw(small),
        n_kv_heads=kv_heads,
        d_head=2 * data.draw(small),
        d_ff=data.draw(st.integers(1, 9)),
    )
    lora = LoraConfig(
        rank=data.draw(st.integers(1, 5)),
        alpha=data.draw(st.floats(2**-6, 128, width=32)),
        targets=tuple(data.draw(st.sets(st.sampled_from(LAYER_MATRICES), min_size=1))),
        embed_rank=data.draw(st.integers(0, 5)),
        blocks=tuple(data.draw(st.sets(st.integers(0, n_layers - 1)))),
    )
    adapter = random_adapter(lora, base)
    folder = tmp_path_factory.mktemp("peft") / "new" / "adapter"
    save_peft(adapter, folder, base, "base", data.draw(st.sampled_from([lora, None])))
    same_bits(load_peft(folder, base), adapter)
    assert sorted(path.name for path in folder.iterdir()) == list(FILES)
    assert [path.name for path in folder.parent.iterdir()] == ["adapter"]


def test_names_and_shapes_are_those_of_peft(folder):
    shapes = {name: array.shape for name, array in read_weights(folder).items()}
    layer = "base_model.model.model.layers.2"
    assert shapes[f"{layer}.self_attn.k_proj.lora_A.weight"] == (3, 12)
    assert shapes[f"{layer}.self_attn.k_proj.lora_B.weight"] == (8, 3)
    assert shapes[f"{layer}.self_attn.o_proj.lora_A.weight"] == (3, 16)
    assert shapes[f"{layer}.mlp.down_proj.lora_A.weight"] == (3, 20)
    assert shapes[f"{EMBED}.lora_embedding_A"] == (5, 23)
    assert shapes[f"{EMBED}.lora_embedding_B"] == (12, 5)
    assert shapes["base_model.model.lm_head.lora_A.weight"] == (5, 12)
    assert shapes["base_model.model.lm_head.lora_B.weight"] == (23, 5)
    assert len(shapes) == 2 * (7 * 3 + 2)


def test_blocks_left_alone_are_not_written(tmp_path):
    lora = LoraConfig(rank=2, targets=("v", "up"), embed_rank=2, blocks=(0, 2))
    save_peft(random_adapter(lora), tmp_path / "x", BASE, "base", lora)
    written = read_settings(tmp_path / "x")
    assert written["layers_to_transform"] == [0, 2]
    # By its short name PEFT would leave out the embedding, which is in no block.
    assert set(written["target_modules"]) == {
        "v_proj",
        "up_proj",
        "model.embed_tokens",
        "lm_head",
    }
    assert not any(".layers.1." in name for name in read_weights(tmp_path / "x"))


def test_rows_that_a_fleet_added_are_cut_off(tmp_path):
    adapter = random_adapter(FULL)
    save_peft(with_ranks(adapter, 8, 8), tmp_path / "x", BASE, "base", FULL)
    same_bits(load_peft(tmp_path / "x", BASE), adapter)


@pytest.mark.parametrize("given_ranks", [(2, 5), (3, 4), (4, 5), (3, 0)])
def test_rows_that_are_not_zero_are_not_cut_off(tmp_path, given_ranks):
    lora = LoraConfig(rank=given_ranks[0], embed_rank=given_ranks[1])
    with pytest.raises(UserError, match="of the adapter has rank [35], not"):
        save_peft(random_adapter(FULL), tmp_path / "x", BASE, "base", lora)


def test_scales_that_differ_are_folded_into_one(tmp_path):
    adapter = random_adapter(FULL)
    adapter = adapter._replace(scale=np.array([0.5, -3.0, 0.7, 0.1]))
    save_peft(adapter, tmp_path / "x", BASE, "base")
    written = read_settings(tmp_path / "x")
    alphas = {3: written["alpha_pattern"]["q_proj"], 5: written["lora_alpha"]}
    assert {alpha / rank for rank, alpha in alphas.items()} == {-3.0}
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
        updates(load_peft(tmp_path / "x", BASE)),
        updates(adapter),
    )


def test_half_precision_factors_are_read(folder):
    tensors = read_weights(folder)
    kinds = [ml_dtypes.bfloat16, np.float16, np.float64, np.float32]
    for i, name in enumerate(sorted(tensors)):
        tensors[name] = tensors[name].astype(kinds[i % 4])
    write_weights(folder, tensors)
    adapter = load_peft(folder, BASE)
    assert {x.dtype.name for x in jax.tree.leaves(adapter)} == {"float32"}
    expected = updates(random_adapter(FULL))
    for name, update in updates(adapter).items():
        np.testing.assert_allclose(update, expected[name], atol=0.3)
        assert np.corrcoef(update.ravel(), expected[name].ravel())[0, 1] > 0.999


def peft_folder_of(folder: Path, modules: dict[str, int], **changes) -> dict:
    """Writes random factors of given ranks for modules; returns the updates B A."""
    rng, tensors, products = np.random.default_rng(1), {}, {}
    shapes = decoder.matrix_shapes(BASE)
    for module, rank in modules.items():
        short = module.rpartition(".")[2].removesuffix("_proj")
        d_in, d_out = shapes[short]
        a, b = rng.normal(size=(rank, d_in)), rng.normal(size=(d_out, rank))
        a, b = a.astype(np.float32), b.astype(np.float32)
        tensors[f"base_model.model.{module}.lora_A.weight"] = a
        tensors[f"base_model.model.{module}.lora_B.weight"] = b
        products[module] = a.T @ b.T
    folder.mkdir()
    write_weights(folder, tensors)
    written = {"peft_type": "LORA", "r": 4, "lora_alpha": 8}
    (folder / "adapter_config.json").write_text(json.dumps(written | changes))
    return products


Q = [f"model.layers.{i}.self_attn.q_proj" for i in range(3)]
K = [f"model.layers.{i}.self_attn.k_proj" for i in range(3)]
DOWN = [f"model.layers.{i}.mlp.down_proj" for i in range(3)]


def check_products(adapter: Adapter, products: dict, scales: list[float]):
    found, kept = updates(adapter), {}
    for (module, product), scale in zip(products.items(), scales, strict=True):
        *_, block, _, name = module.split(".")
        kept[name.removesuffix("_proj"), int(block)] = scale * product
    for name, update_lio in found.items():
        for block, update in enumerate(update_lio):
            expected = kept.pop((name, block), np.zeros_like(update))
            np.testing.assert_allclose(update, expected, rtol=1e-5, atol=1e-6)
    assert not kept


def test_alphas_that_differ_are_folded_into_the_factors(tmp_path):
    products = peft_folder_of(
        tmp_path / "x",
        dict.fromkeys([*Q, *K, DOWN[1]], 4),
        target_modules=["q_proj", "k_proj", DOWN[1]],
        alpha_pattern={"0.self_attn.q_proj": -32, "1.self_attn.k_proj": 0, "down_proj": 1},
    )
    adapter = load_peft(tmp_path / "x", BASE)
    check_products(adapter, products, [-8, 2, 2, 2, 0, 2, 0.25])
    np.testing.assert_array_equal(adapter.scale, [-8, 2, 2, 0])


def test_ranks_that_differ_are_filled_up(tmp_path):
    products = peft_folder_of(
        tmp_path / "x",
        {Q[0]: 1, Q[1]: 4, Q[2]: 4, K[0]: 3, K[1]: 6, K[2]: 3},
        target_modules=["q_proj", "k_proj"],
        rank_pattern={"layers.1.self_attn.k_proj": 6, "layers.0.*q_proj": 1, "k_proj": 3},
    )
    adapter = load_peft(tmp_path / "x", BASE)
    assert adapter.layers["q"]["a"].shape == (3, 4, 12)
    assert adapter.layers["k"]["b"].shape == (3, 6, 8)
    check_products(adapter, products, [8, 2, 2, 8 / 3, 8 / 6, 8 / 3])


# Faults in the files


def test_every_tensor_is_needed(folder):
    whole = read_weights(folder)
    for name in whole:
        write_weights(folder, {n: x for n, x in whole.items() if n != name})
        with pytest.raises(UserError, match=f"missing tensors: {re.escape(name)};"):
            load_peft(folder, BASE)


@pytest.mark.parametrize(
    "extra",
    [
        "base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
        "base_model.model.model.norm.weight",
        "model.layers.0.self_attn.q_proj.lora_A.weight",
        "x",
    ],
)
def test_no_tensor_is_left_over(folder, extra):
    tensors = read_weights(folder)
    write_weights(folder, tensors | {extra: tensors[Q0]})
    with pytest.raises(UserError, match=f"unexpected tensors: {re.escape(extra)};"):
        load_peft(folder, BASE)


def test_every_shape_is_checked(folder):
    whole = read_weights(folder)
    for name, array in whole.items():
        write_weights(folder, whole | {name: np.ascontiguousarray(array.T)})
        with pytest.raises(UserError, match=f"{re.escape(name)} has shape"):
            load_peft(folder, BASE)


def test_settings_that_are_refused_name_the_file(folder):
    change_settings(folder, use_dora=True)
    with pytest.raises(UserError, match="adapter/adapter_config.json: use_dora is true"):
        load_peft(folder, BASE)


def test_the_rank_of_the_settings_must_be_that_of_the_tensors(folder):
    change_settings(folder, r=6)
    with pytest.raises(UserError, match=r"has shape \[5, .*\], not \[6, "):
        load_peft(folder, BASE)


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e300])
def test_factors_must_be_finite_in_fp32(folder, value):
    whole = read_weights(folder)
    spoilt = whole[Q0].astype(np.float64)
    spoilt[1, 2] = value
    write_weights(folder, whole | {Q0: spoilt})
    with pytest.raises(UserError, match=r"layers\.0\.self_attn\.q_proj holds NaN"):
        load_peft(folder, BASE)


# Copies of base weights, which PEFT writes beside adapted embeddings


@pytest.fixture
def params():
    rng = np.random.default_rng(5)
    embed = rng.normal(size=(23, 12)).astype(np.float32)
    return {"embed": embed, "head": rng.normal(size=(12, 23)).astype(np.float32)}


@pytest.mark.parametrize("kind", [".base_layer.weight", ".weight"])
def test_copies_of_base_weights_must_be_the_bases(folder, params, kind):
    whole = read_weights(folder)
    copies = {
        EMBED + kind: params["embed"].astype(ml_dtypes.bfloat16),
        "base_model.model.lm_head" + kind: np.ascontiguousarray(params["head"].T),
    }
    write_weights(folder, whole | copies)
    same_bits(load_peft(folder, BASE, params), random_adapter(FULL))
    with pytest.raises(UserError, match="nothing to compare it to"):
        load_peft(folder, BASE)
    for name, copy in copies.items():
        changed = copy.copy()
        changed[3, 4] += 1
        write_weights(folder, whole | copies | {name: changed})
        with pytest.raises(UserError, match=f"{re.escape(name)} differs"):
            load_peft(folder, BASE, params)


def test_the_copy_of_a_tied_head_is_that_of_the_embedding(folder, params):
    whole, name = read_weights(folder), "base_model.model.lm_head.base_layer.weight"
    write_weights(folder, whole | {name: params["embed"]})
    tied = {"embed": params["embed"]}
    same_bits(load_peft(folder, BASE, tied), random_adapter(FULL))
    with pytest.raises(UserError, match="differs"):
        load_peft(folder, BASE, params)


# Writing


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_an_adapter_that_cannot_be_written_is_refused(tmp_path):
    def refused(adapter, words, base=BASE):
        with pytest.raises(UserError, match=words):
            save_peft(adapter, tmp_path / "x", base, "base")
        assert left_in(tmp_path) == []

    adapter = random_adapter(FULL)
    refused(adapter._replace(scale=np.zeros(4)), "adapts nothing")
    refused(Adapter({}, None, None, np.ones(4)), "adapts nothing")
    refused(adapter._replace(scale=np.ones(3)), r"scale of the adapter has shape \(3,\)")
    refused(adapter._replace(scale=np.full(4, np.inf)), "scale .* infinite")
    refused(adapter._replace(layers={"qkv": adapter.layers["q"]}), "unknown matrices qkv")
    assert adapter.head and adapter.embed
    swapped = {"a": adapter.head["b"], "b": adapter.head["a"]}
    refused(adapter._replace(head=swapped), r"head a .* shape \(5, 23\), not \(5, 12\)")
    broken = {"a": adapter.embed["a"], "b": adapter.embed["b"] * np.nan}
    refused(adapter._replace(embed=broken), "embed b of the adapter holds NaN")
    wide = DecoderConfig(23, 14, 3, 4, 2, 4, 20)
    refused(adapter, "has shape", wide)
    refused(adapter, "has shape", DecoderConfig(23, 12, 2, 4, 2, 4, 20))


def test_ends_of_rank_zero_are_no_ends(tmp_path):
    save_peft(with_ranks(random_adapter(FULL), 3, 0), tmp_path / "x", BASE, "base")
    same_bits(load_peft(tmp_path / "x", BASE), random_adapter(LoraConfig(3, 7)))
