"""The content filter: a model of its kind made here, and the packaged one where it is."""

import hashlib
import importlib.metadata
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cifr_jax import packaged_file
from cifr_jax.errors import UserError
from cifr_jax.monitors import PromptItem, get, toxicity

WORDS = ("rude", "rotten", "lovely")


def make_model(path: Path, locale: str | None = None) -> Path:
    """Lower case, counts of `WORDS`, three classes: a rude word is class 1, "rotten" 0."""
    normaliser = {"case_change_action": "LOWER"} | ({"locale": locale} if locale else {})
    ml, ms = "ai.onnx.ml", "com.microsoft"
    nodes = [
        helper.make_node("StringNormalizer", ["text"], ["low"], **normaliser),
        helper.make_node(
            "Tokenizer", ["low"], ["cut"], domain=ms, mark=0, mincharnum=1,
            pad_value="#", tokenexp="[a-z]+",
        ),
        helper.make_node(
            "TfIdfVectorizer", ["cut"], ["counts"], mode="TF", min_gram_length=1,
            max_gram_length=1, max_skip_count=0, ngram_counts=[0],
            ngram_indexes=[0, 1, 2], pool_strings=list(WORDS),
        ),
        helper.make_node(
            "LinearClassifier", ["counts"], ["label", "p"], domain=ml,
            classlabels_ints=[0, 1, 2], post_transform="SOFTMAX", multi_class=1,
            coefficients=[0.0, 5, 0, 5, 0, 0, 0, 0, 2], intercepts=[0.0, 0, 1],
        ),
        helper.make_node(
            "ZipMap", ["p"], ["classes"], domain=ml, classlabels_int64s=[0, 1, 2]
        ),
    ]  # fmt: skip
    text = helper.make_tensor_value_info("text", TensorProto.STRING, [None])
    label = helper.make_tensor_value_info("label", TensorProto.INT64, [None])
    entry = helper.make_map_type_proto(
        TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    )
    found = helper.make_value_info("classes", helper.make_sequence_type_proto(entry))
    graph = helper.make_graph(nodes, "filter", [text], [label, found])
    versions = [helper.make_opsetid(*v) for v in (("", 17), (ml, 1), (ms, 1))]
    onnx.save(helper.make_model(graph, opset_imports=versions, ir_version=9), path)
    return path


@pytest.mark.parametrize("locale", [None, "C"])
def test_scores_are_the_softmax_of_the_models_own_weights(tmp_path, locale):
    score = toxicity.load(make_model(tmp_path / "m.onnx", locale))
    texts = ["What a LOVELY day", "so Rude", "rotten, lovely", ""]
    logits_n3 = np.array([[0, 0, 3], [0, 5, 1], [5, 0, 3], [0, 0, 1]], float)
    e_n3 = np.exp(logits_n3)
    np.testing.assert_allclose(score(texts), 1 - e_n3[:, 2] / e_n3.sum(1), rtol=1e-5)
    assert score([]).shape == (0,)
    scored = zip(texts, score(texts), strict=True)
    items = [PromptItem(text, extras={"toxicity": s}) for text, s in scored]
    assert np.argmax(get("toxicity").score_many(items)) == 1


class FakeFile(type(Path())):
    def locate(self):
        return Path(self)


def test_only_the_known_file_is_read(monkeypatch, tmp_path):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(UserError, match="needs the Python package hatesonar.*--no-deps"):
        toxicity.load()
    path = make_model(tmp_path / "m.onnx")
    monkeypatch.setattr(importlib.metadata, "files", lambda name: [FakeFile(path)])
    with pytest.raises(UserError, match="sha256 is .*, not 3d881e00"):
        toxicity.load()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(toxicity, "SHA256", digest)
    assert toxicity.load()(["rude"])[0] > 0.9


def test_a_missing_runtime_is_told(monkeypatch, tmp_path):
    path = make_model(tmp_path / "m.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"needs the Python package onnxruntime.*toxicity"):
        toxicity.load(path)


@pytest.mark.toxicity
def test_the_packaged_filter_knows_a_rude_word_and_a_compliment():
    try:
        packaged_file.find("hatesonar", ".onnx", toxicity.SHA256, "", "toxicity")
    except UserError as error:
        pytest.skip(str(error))
    rude, kind, empty = toxicity.load()(["you are a stupid idiot", "a lovely day", ""])
    assert rude > 0.5 > kind
    assert 0 < empty < 0.5
