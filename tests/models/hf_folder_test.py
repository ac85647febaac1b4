"""Hugging Face folders: round trips, shards, and a fault in every part."""

import json
import shutil
import struct
import tracemalloc
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from cifr_jax.errors import UserError
from cifr_jax.models import hf_folder
from cifr_jax.models.hf_folder import (
    INDEX,
    WEIGHTS,
    load_hf_folder,
    save_hf_folder,
)
from cifr_jax.models.shapes import parameter_shapes

GOLDENS = Path(__file__).parents[1] / "goldens" / "llama"
Q0 = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A sound folder, to be spoilt."""
    return Path(shutil.copytree(GOLDENS / "gqa_untied", tmp_path / "model"))


def read_tensors(folder: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(folder / WEIGHTS)


def write_tensors(folder: Path, tensors: dict, name: str = WEIGHTS) -> None:
    safetensors.numpy.save_file(tensors, folder / name)


def change_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def shard(folder: Path, n: int = 3) -> dict[str, str]:
    """Splits the weights into shards with an index; returns its weight_map."""
    tensors = read_tensors(folder)
    (folder / WEIGHTS).unlink()
    names = sorted(tensors)
    weight_map = {}
    for i in range(n):
        file = f"model-{i + 1:05}-of-{n:05}.safetensors"
        write_tensors(folder, {name: tensors[name] for name in names[i::n]}, file)
        weight_map |= dict.fromkeys(names[i::n], file)
    write_index(folder, weight_map)
    return weight_map


def write_index(folder: Path, weight_map) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def assert_trees_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def refused(folder: Path, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_hf_folder(folder)
    assert "\n" not in str(caught.value)


def test_the_tree_is_that_of_the_decoder(folder):
    from flax import nnx

    from cifr_jax.models.decoder import Decoder

    config, params, _ = load_hf_folder(folder)
    fresh = Decoder(config, rngs=nnx.Rngs(0)).split()
    assert jax.tree.structure(params) == jax.tree.structure(fresh)
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, fresh)
    assert jax.tree.map(np.shape, params) == parameter_shapes(config)
    assert sum(x.size for x in jax.tree.leaves(params)) == config.n_parameters()


def test_every_matrix_is_transposed_and_in_its_layer(folder):
    _, params, _ = load_hf_folder(folder)
    tensors = read_tensors(folder)
    for layer in range(2):
        for ours, theirs in {"q": "self_attn.q_proj", "down": "mlp.down_proj"}.items():
            stored = tensors[f"model.layers.{layer}.{theirs}.weight"]
            np.testing.assert_array_equal(params["layers"][ours][layer], stored.T)
    np.testing.assert_array_equal(params["head"], tensors["lm_head.weight"].T)


@pytest.mark.parametrize("case", ["gqa_llama3", "gqa_odd_heads_tied"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_save_and_load_again(case, dtype, tmp_path):
    config, params, tokenizer = load_hf_folder(GOLDENS / case, dtype)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    params = jax.tree.map(jnp.asarray, params)  # as a trainer would hand them over
    save_hf_folder(tmp_path / "new", config, params, tokenizer)
    again = load_hf_folder(tmp_path / "new", dtype)
    assert again[0] == config
    assert_trees_equal(again[1], params)
    assert again[2].encode("w5 w7") == tokenizer.encode("w5 w7") == [5, 7]
    stored = json.loads((tmp_path / "new" / "config.json").read_text())
    assert (stored["eos_token_id"], stored["torch_dtype"]) == (1, dtype)
    assert not list((tmp_path / "new").glob(".*"))  # no temporary file is left


def test_shards_are_the_same_model(folder):
    whole = load_hf_folder(folder)[1]
    shard(folder)
    assert_trees_equal(load_hf_folder(folder)[1], whole)


@pytest.mark.parametrize("stored", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_stored_dtypes(folder, stored):
    tensors = {name: x.astype(stored) for name, x in read_tensors(folder).items()}
    write_tensors(folder, tensors)
    _, params, _ = load_hf_folder(folder)
    assert params["layers"]["q"].dtype == np.float32
    np.testing.assert_array_equal(
        params["layers"]["q"][0], tensors[Q0].T.astype(np.float32)
    )


def test_loading_takes_little_more_memory_than_the_model(tmp_path):
    config, params, tokenizer = load_hf_folder(GOLDENS / "gqa_untied")
    import dataclasses

    config = dataclasses.replace(config, d_ff=30_000, n_layers=4)
    shapes = parameter_shapes(config)
    params = jax.tree.map(
        lambda s: np.zeros(s, np.float32), shapes, is_leaf=lambda s: isinstance(s, tuple)
    )
    save_hf_folder(tmp_path, config, params, tokenizer)
    size = sum(x.nbytes for x in jax.tree.leaves(params))
    assert size > 20e6
    del params
    tracemalloc.start()
    load_hf_folder(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size < peak < 1.3 * size


@pytest.fixture
def tied_folder(tmp_path) -> Path:
    return Path(shutil.copytree(GOLDENS / "mha_tied", tmp_path / "model"))


def test_rotary_buffers_and_a_tied_head_are_ignored(tied_folder):
    folder = tied_folder
    plain = load_hf_folder(folder)[1]
    tensors = read_tensors(folder)
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)
    tensors["model.rotary_emb.inv_freq"] = np.ones(4, np.float32)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    write_tensors(folder, tensors)
    assert_trees_equal(load_hf_folder(folder)[1], plain)


@pytest.mark.parametrize("numbers", [1, 50, 2**19])  # compared at a time
@pytest.mark.parametrize("place", [(0, 0), (-1, -1), (24, 5), None])
def test_a_head_that_is_not_the_embedding_it_is_tied_to(
    tied_folder, monkeypatch, numbers, place
):
    monkeypatch.setattr(hf_folder, "_COMPARED", numbers)
    tensors = read_tensors(tied_folder)
    head = tensors["model.embed_tokens.weight"].copy()
    if place is not None:
        head[place] = np.nextafter(head[place], np.float32(9))
    write_tensors(tied_folder, tensors | {"lm_head.weight": head})
    if place is None:
        load_hf_folder(tied_folder)
        return
    what = "safetensors: lm_head.weight is not model.embed_tokens.weight, .*_embeddings"
    refused(tied_folder, f"{what} is true; set tie_word_embeddings to false")
    change_config(tied_folder, tie_word_embeddings=False)  # as the message says
    params = load_hf_folder(tied_folder)[1]
    np.testing.assert_array_equal(params["head"], head.T)


@pytest.mark.parametrize("change", [np.transpose, lambda x: x[:-1], lambda x: x.ravel()])
def test_a_tied_head_of_another_shape_is_refused(tied_folder, change):
    tensors = read_tensors(tied_folder)
    head = np.ascontiguousarray(change(tensors["model.embed_tokens.weight"]))
    write_tensors(tied_folder, tensors | {"lm_head.weight": head})
    refused(tied_folder, "lm_head.weight is not model.embed_tokens.weight")


def test_a_tied_head_is_compared_by_value_and_across_shards(tied_folder):
    tensors = read_tensors(tied_folder)
    half = tensors["model.embed_tokens.weight"].astype(ml_dtypes.bfloat16)
    half[0, 0] = 0
    head = half.astype(np.float32)
    head[0, 0] = -0.0
    both = {"model.embed_tokens.weight": half, "lm_head.weight": head}
    write_tensors(tied_folder, tensors | both)
    weight_map = shard(tied_folder)
    assert len({weight_map[name] for name in both}) == 2
    load_hf_folder(tied_folder)


def test_missing_and_unknown_tensors_are_listed(folder):
    tensors = read_tensors(folder)
    q = tensors.pop(Q0)
    write_tensors(folder, tensors)
    refused(folder, rf"missing tensors: {Q0}; ")
    write_tensors(folder, tensors | {Q0: q, "model.layers.0.self_attn.q_proj.bias": q[0]})
    refused(folder, r"does not know: model.layers.0.self_attn.q_proj.bias; ")


@pytest.mark.parametrize(
    "layers, what", [(1, "does not know: .* and 4 more"), (3, "missing")]
)
def test_another_number_of_layers_is_refused(folder, layers, what):
    change_config(folder, num_hidden_layers=layers)
    refused(folder, what)


def test_claimed_sizes_are_compared_before_memory_is_taken(folder):
    change_config(folder, num_hidden_layers=9999)
    refused(folder, "21 tensors cannot hold 9999 layers")
    change_config(folder, num_hidden_layers=2, intermediate_size=2**30)
    refused(folder, r"has shape .*, not \[(16, )?1073741824(, 16)?\]")


def test_a_wrong_shape_is_refused(folder):
    tensors = read_tensors(folder)
    write_tensors(folder, tensors | {Q0: tensors[Q0].T[:8].copy()})
    refused(folder, rf"model.safetensors: {Q0} has shape \[8, 16\], not \[16, 16\]")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(folder, value):
    tensors = read_tensors(folder)
    tensors[Q0][3, 2] = value
    write_tensors(folder, tensors)
    refused(folder, f"{Q0} holds NaN or infinite values as float32")


def test_infinities_of_both_signs_do_not_cancel(folder):
    tensors = read_tensors(folder)
    tensors[Q0][0, :2] = np.inf, -np.inf
    write_tensors(folder, tensors)
    refused(folder, f"{Q0} holds NaN or infinite values")


def test_weights_out_of_the_range_of_the_dtype_are_refused(folder):
    tensors = read_tensors(folder)
    tensors[Q0][0, 0] = 1e6
    write_tensors(folder, tensors)
    load_hf_folder(folder)
    with pytest.raises(UserError, match="infinite values as float16"):
        load_hf_folder(folder, "float16")


def test_integer_weights_are_refused(folder):
    tensors = read_tensors(folder)
    write_tensors(folder, tensors | {Q0: tensors[Q0].astype(np.int8)})
    refused(folder, f"{Q0} is stored as I8")


@pytest.mark.parametrize("keep", [0, 4, 30, 500, -1])
def test_truncated_weights_are_refused(folder, keep):
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:keep])
    refused(folder, r"model.safetensors: not a safetensors file .*cut off or damaged")


@pytest.mark.parametrize("claim", [10**5, 10**8 + 1, 2**63, 2**64 - 1])
def test_a_header_that_claims_to_be_huge_is_refused(folder, claim):
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", claim) + whole[8:])
    refused(folder, r"model.safetensors: not a safetensors file")


def test_a_missing_shard_is_named(folder):
    shard(folder)
    (folder / "model-00002-of-00003.safetensors").unlink()
    refused(folder, r"model-00002-of-00003.safetensors: no such shard")


def test_a_shard_whose_name_is_too_long_for_a_file_is_missing_too(folder):
    weight_map = shard(folder)
    write_index(folder, weight_map | {Q0: "x" * 300 + ".safetensors"})
    refused(folder, "x.safetensors: no such shard")


@pytest.mark.parametrize(
    "file",
    ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", "..", "a\\b.safetensors",
     "pytorch_model.bin", 5, None, "x.safetensors\n"],
)  # fmt: skip
def test_the_index_cannot_point_out_of_the_folder(folder, file):
    weight_map = shard(folder)
    shutil.copy(folder / weight_map[Q0], folder.parent / "secret.safetensors")
    write_index(folder, weight_map | {Q0: file})
    refused(folder, rf"{INDEX}: {Q0} is said to be in")


def test_a_tensor_in_two_shards_is_refused(folder):
    weight_map = shard(folder)
    other = next(f for f in sorted(weight_map.values()) if f != weight_map[Q0])
    tensors = safetensors.numpy.load_file(folder / other)
    write_tensors(folder, tensors | {Q0: np.zeros((16, 16), np.float32)}, other)
    refused(folder, rf"{Q0} is (also in|not in)")


def test_a_broken_index_is_refused(folder):
    shard(folder)
    for text, what in (
        ("{", "not JSON"),
        ("{}", "no weight_map"),
        ('{"weight_map": 1}', "no w"),
    ):
        (folder / INDEX).write_text(text)
        refused(folder, rf"{INDEX}.*: {what}")


def test_pickled_weights_are_refused_with_the_command_that_converts(folder):
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    refused(folder, r"pytorch_model.bin: pickled .*python -c .*save_pretrained")


def test_a_folder_without_weights_or_config_is_refused(folder):
    (folder / WEIGHTS).unlink()
    refused(folder, "neither model.safetensors nor")
    (folder / "config.json").unlink()
    refused(folder, "config.json: no such file")


def test_a_broken_config_is_named_with_its_line(folder):
    (folder / "config.json").write_text('{\n "vocab_size": 48,\n}')
    refused(folder, r"config.json:3: not JSON")


def test_another_architecture_is_refused(folder):
    change_config(folder, architectures=["GemmaForCausalLM"])
    refused(folder, r"config.json: architectures is \['GemmaForCausalLM'\]")


def test_a_tokenizer_of_another_model_is_refused(folder):
    shutil.copy(GOLDENS.parent / "chat" / "tokenizer.json", folder)
    (folder / "tokenizer_config.json").write_text("{}")
    refused(folder, r"320 tokens, but 48 embeddings")


def test_a_failed_save_leaves_the_old_weights(folder, monkeypatch):
    config, params, tokenizer = load_hf_folder(folder)
    before = (folder / WEIGHTS).read_bytes()

    def fail(tensors, path, metadata=None):
        Path(path).write_bytes(b"half")
        raise safetensors.SafetensorError(
            "I/O error: No space left on device (os error 28)"
        )

    monkeypatch.setattr(safetensors.numpy, "save_file", fail)
    with pytest.raises(UserError, match="No space left"):
        save_hf_folder(folder, config, params, tokenizer)
    assert (folder / WEIGHTS).read_bytes() == before
    assert not list(folder.glob(".*"))
