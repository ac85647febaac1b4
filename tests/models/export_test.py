"""Merged folders: the logits of base and adapter in every family, whole or not at all."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifr_jax import models
from cifr_jax.errors import UserError
from cifr_jax.models import decoder
from cifr_jax.models.decoder import Adapter
from cifr_jax.models.families.registry import FAMILIES
from cifr_jax.models.hf_config import parse_config
from cifr_jax.models.hf_folder import INDEX, WEIGHTS
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.models.quantised import quantise
from cifr_jax.models.shapes import LAYER_MATRICES, matrix_shapes
from cifr_jax.testing import byte_tokenizer, tiny_model
from cifr_jax.testing_families import random_parameters, random_settings

RANK = 3
every_family = pytest.mark.parametrize("family", FAMILIES)
forward = jax.jit(decoder.forward, static_argnums=0)


def random_lm(family: str, seed: int = 0, **changes) -> LanguageModel:
    tokenizer, rng = byte_tokenizer(), np.random.default_rng(seed)
    changes = {"vocab_size": tokenizer.vocab_size} | changes
    config = parse_config(random_settings(family, rng) | changes, family)
    return LanguageModel(config, random_parameters(config, rng), tokenizer, family)


def random_adapter(config, seed: int = 0, ends: bool = True) -> Adapter:
    """Of every second matrix, each block with a scale of its own."""
    rng = np.random.default_rng(seed)

    def pair(lead, d_in, d_out):
        return {
            name: rng.normal(size=(*lead, RANK, width)).astype(np.float32) * width**-0.5
            for name, width in (("a", d_in), ("b", d_out))
        }

    shapes, n = matrix_shapes(config), config.n_layers
    layers = {name: pair((n,), *shapes[name]) for name in LAYER_MATRICES[::2]}
    v, d = config.vocab_size, config.d_model
    scale = rng.uniform(0.5, 2, n + 1).astype(np.float32)
    scale[0] = 0  # a block that is left alone
    embed, head = (pair((), v, d), pair((), d, v)) if ends else (None, None)
    return jax.tree.map(jnp.asarray, Adapter(layers, embed, head, scale))


def logits_of(lm: LanguageModel, adapter=None):
    tokens_bt = np.random.default_rng(7).integers(0, lm.config.vocab_size, (2, 17))
    mask_bt = np.ones_like(tokens_bt, bool)
    return np.asarray(forward(lm.config, lm.params, tokens_bt, mask_bt, adapter))


@every_family
def test_the_merged_model_is_base_and_adapter(tmp_path, family):
    tied = family in ("llama", "gemma2", "qwen3")
    lm = random_lm(family, tie_word_embeddings=tied)
    adapter = random_adapter(lm.config)
    models.export_merged(lm, adapter, tmp_path / "merged", max_shard_bytes=20_000)
    merged = models.load(str(tmp_path / "merged"))
    wanted = logits_of(lm, adapter)
    np.testing.assert_allclose(logits_of(merged), wanted, atol=3e-4, rtol=1e-4)
    idle = adapter._replace(scale=0 * adapter.scale)  # the same program
    assert np.abs(wanted - logits_of(lm, idle)).max() > 0.05
    assert not merged.config.tie_embeddings  # its ends were adapted
    assert dataclasses.replace(merged.config, tie_embeddings=tied) == lm.config


def test_ends_stay_tied_where_neither_is_adapted(tmp_path):
    lm = random_lm("llama", tie_word_embeddings=True)
    models.export_merged(lm, random_adapter(lm.config, ends=False), tmp_path / "m")
    assert models.load(str(tmp_path / "m")).config == lm.config


def test_without_an_adapter_the_base_comes_back_bit_for_bit(tmp_path):
    lm = random_lm("phi3")
    lm = dataclasses.replace(
        lm, params=jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), lm.params)
    )
    models.export_merged(lm, None, tmp_path / "m")
    again = models.load(str(tmp_path / "m"), "bfloat16")
    assert again.fingerprint() == lm.fingerprint()
    # The dtype is that of the base, also where something was added.
    models.export_merged(lm, random_adapter(lm.config), tmp_path / "n")
    assert json.loads((tmp_path / "n" / "config.json").read_bytes())["torch_dtype"] == (
        "bfloat16"
    )


@pytest.mark.parametrize("most", [1, 3000, 20_000, 10**9])
def test_shards_are_no_larger_than_asked_and_the_index_tells_the_truth(tmp_path, most):
    lm = random_lm("qwen3")
    models.export_merged(lm, None, tmp_path / "m", max_shard_bytes=most)
    files = sorted((tmp_path / "m").glob("*.safetensors"))
    if most == 10**9:
        assert [file.name for file in files] == [WEIGHTS]
        assert not (tmp_path / "m" / INDEX).exists()
        return
    index = json.loads((tmp_path / "m" / INDEX).read_bytes())
    assert {file.name for file in files} == set(index["weight_map"].values())
    assert index["metadata"]["total_size"] == 4 * lm.config.n_parameters()
    headers = 10_000
    for file in files:
        one = list(index["weight_map"].values()).count(file.name) == 1
        assert one or file.stat().st_size <= most + headers
    assert len(files) > 1
    assert models.load(str(tmp_path / "m")).fingerprint() == lm.fingerprint()


def test_the_folder_holds_what_a_server_needs(tmp_path):
    lm = tiny_model()
    models.export_merged(lm, None, tmp_path / "m")
    names = {path.name for path in (tmp_path / "m").iterdir()}
    assert names == {WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json",
                     "generation_config.json"}  # fmt: skip
    settings = json.loads((tmp_path / "m" / "tokenizer_config.json").read_bytes())
    assert settings["chat_template"] == lm.tokenizer.chat_template


def faulty(lm, fault):
    adapter = random_adapter(lm.config)
    if fault == "rank":
        q = adapter.layers["q"]
        adapter.layers["q"] = {"a": q["a"][:, :2], "b": q["b"]}
    if fault == "name":
        adapter.layers["router"] = adapter.layers["q"]
    if fault == "scale":
        adapter = adapter._replace(scale=adapter.scale[1:])
    if fault == "nan":
        adapter.layers["q"]["a"] = adapter.layers["q"]["a"].at[-1, 0, 0].set(np.nan)
    if fault == "base":
        other = dataclasses.replace(lm.config, d_ff=lm.config.d_ff + 1)
        adapter = random_adapter(other)
    return adapter


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("rank", "q of the adapter does not fit the base"),
        ("name", "router of the adapter does not fit"),
        ("scale", "scale has shape"),
        ("nan", "layers.q is not finite when merged as float32"),
        ("base", "of the adapter does not fit the base"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path, fault, what):
    lm = tiny_model()
    with pytest.raises(UserError, match=what):
        models.export_merged(lm, faulty(lm, fault), tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_a_quantised_base_and_a_full_folder_are_refused(tmp_path):
    lm = tiny_model()
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something already"):
        models.export_merged(lm, None, tmp_path / "m")
    assert (tmp_path / "m" / "thesis.txt").read_text() == "mine"
    with pytest.raises(UserError, match="max_shard_bytes: 0 bytes"):
        models.export_merged(lm, None, tmp_path / "n", max_shard_bytes=0)
    small = dataclasses.replace(lm, params=quantise(lm.params, "int8"))
    with pytest.raises(UserError, match="not merged into quantised matrices"):
        models.export_merged(small, None, tmp_path / "n")


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
@every_family
@pytest.mark.parametrize("tied", [True, False])
def test_transformers_computes_the_same_from_the_merged_folder(tmp_path, family, tied):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    lm = random_lm(family, tie_word_embeddings=tied)
    adapter = random_adapter(lm.config)
    models.export_merged(lm, adapter, tmp_path / "m", max_shard_bytes=20_000)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "m", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "m")
    assert tokenizer.chat_template == lm.tokenizer.chat_template
    tokens_bt = np.random.default_rng(7).integers(0, lm.config.vocab_size, (2, 17))
    with torch.no_grad():
        theirs = model(torch.tensor(tokens_bt)).logits.numpy()
    np.testing.assert_allclose(theirs, logits_of(lm, adapter), atol=3e-4, rtol=1e-4)
