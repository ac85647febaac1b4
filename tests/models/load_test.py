"""Loading by name or path, and what is said when it cannot be done."""

import importlib
import shutil
from pathlib import Path

import jax
import pytest

from cifr_jax.errors import UserError
from cifr_jax.models.loading import load

GOLDEN = Path(__file__).parents[1] / "goldens" / "llama" / "gqa_untied"


def test_a_folder_by_path():
    for path in (GOLDEN, str(GOLDEN)):
        config, params, tokenizer, name = load(path, "bfloat16")
        assert (name, config.vocab_size, tokenizer.vocab_size) == ("gqa_untied", 48, 48)
        assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(params))
        assert {x.dtype.name for x in jax.tree.leaves(params)} == {"bfloat16"}


def test_tiny_is_the_packaged_folder(monkeypatch, tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "packaged")
    module = importlib.import_module("cifr_jax.models.loading")
    monkeypatch.setattr(module, "TINY", tmp_path / "packaged")
    assert load("tiny")[3] == "tiny"


@pytest.mark.parametrize(
    "name, message",
    [
        ("tinny", r"^tinny: no such model; did you mean tiny\?"),
        ("smollm", r"^smollm: no such model; did you mean smollm2\?"),
        ("/no/such/folder", r"^/no/such/folder: no such model; give tiny or smollm2, "),
        ("none.gguf", r"^none.gguf: no such file"),
        ("x" * 300, "^x+: no such model"),
        ("x" * 300 + ".gguf", r"^x+.gguf: no such file"),
        ("/" + "x/" * 3000, "^/x/.*: no such model"),
        (str(GOLDEN / "model.safetensors"), r"a model is a folder or a .gguf file"),
    ],
)
def test_what_cannot_be_found_is_named(name, message):
    with pytest.raises(UserError, match=message):
        load(name)


def test_an_unknown_dtype_is_refused():
    with pytest.raises(UserError, match=r"^dtype: 'int8' is not supported; use float32, "):
        load(GOLDEN, "int8")
