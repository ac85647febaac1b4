"""Folders of PEFT adapters: written whole or not at all, refused when broken; the card."""

import errno
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from cifr_jax.errors import UserError
from cifr_jax.finetune import peft_folder
from cifr_jax.finetune.peft_folder import read_folder, write_folder

FILES = ("README.md", "adapter_config.json", "adapter_model.safetensors")
SETTINGS = {
    "base_model_name_or_path": "org/base",
    "r": 5,
    "lora_alpha": 7,
    "target_modules": ["q_proj", "lm_head"],
}
TENSORS = {"x.lora_A.weight": np.arange(12, dtype=np.float32).reshape(3, 4)}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A sound folder, to be spoilt."""
    write_folder(tmp_path / "adapter", SETTINGS, TENSORS, {})
    return tmp_path / "adapter"


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_what_is_written_is_read_back(tmp_path):
    write_folder(tmp_path / "new" / "x", SETTINGS, TENSORS, {"seed": 1})
    settings, tensors = read_folder(tmp_path / "new" / "x")
    assert settings == SETTINGS
    assert tensors.keys() == TENSORS.keys()
    np.testing.assert_array_equal(tensors["x.lora_A.weight"], TENSORS["x.lora_A.weight"])
    assert left_in(tmp_path / "new") == sorted(["x", *FILES])
    with safetensors.safe_open(tmp_path / "new" / "x" / FILES[2], "numpy") as file:
        assert file.metadata() == {"format": "pt"}


# Writing


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_fails_leaves_nothing_behind(tmp_path, monkeypatch, file, number):
    class Failing:
        def __init__(self, opened):
            self.opened = opened

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.opened.close()

        def write(self, content):
            self.opened.write(content[: len(content) // 2])
            raise OSError(number, os.strerror(number))

    def opening(path, mode):
        opened = open(path, mode)
        return Failing(opened) if Path(path).name == file else opened

    monkeypatch.setattr(peft_folder, "open", opening, raising=False)
    with pytest.raises(UserError) as caught:
        write_folder(tmp_path / "x", SETTINGS, TENSORS, {})
    assert caught.value.where == str(tmp_path / "x")
    assert ("space" in caught.value.mend) == (number != errno.EIO)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_folder_appears_whole_or_not_at_all(tmp_path, monkeypatch, step):
    def stop(*_):
        assert not (tmp_path / "x").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(peft_folder.os, step, stop)
    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "x", SETTINGS, TENSORS, {})
    assert left_in(tmp_path) == []


def test_what_is_there_already_is_kept(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError, match="holds something already; give a new folder"):
        write_folder(folder, SETTINGS | {"r": 6}, TENSORS, {})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert left_in(folder.parent) == sorted(["adapter", *before])


def test_paths_that_cannot_be_folders_are_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=f"{re.escape(str(path))}: not a directory"):
            write_folder(path, SETTINGS, TENSORS, {})
    assert left_in(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "x"
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "empty", SETTINGS, TENSORS, {})
    assert read_folder(tmp_path / "empty")[0] == SETTINGS


# Reading


def test_a_file_cut_off_anywhere_is_refused(folder):
    path = folder / "adapter_model.safetensors"
    whole = path.read_bytes()
    for length in (0, 4, 8, 60, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="adapter_model.safetensors: cannot be read"):
            read_folder(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{\n"r": 3,\n"lora_alpha": }', "adapter_config.json:3: not JSON"),
        ("[]", "not a JSON object"),
        ("", "adapter_config.json:1: not JSON"),
        ('{"r": \x00}', "not JSON"),
    ],
)
def test_settings_that_are_no_json_are_refused_with_the_line(folder, text, words):
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(UserError, match=words):
        read_folder(folder)


def test_files_that_are_not_there_are_named(folder, tmp_path):
    with pytest.raises(UserError, match="nowhere: no adapter_config.json"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match="xx: no adapter_config.json"):
        read_folder(tmp_path / ("x" * 300))
    weights = folder / "adapter_model.safetensors"
    weights.unlink()
    with pytest.raises(UserError, match="adapter_model.safetensors: no such file"):
        read_folder(folder)
    weights.mkdir()
    with pytest.raises(UserError, match="adapter_model.safetensors"):
        read_folder(folder)


def test_pickled_weights_are_not_opened(folder):
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(UserError, match="adapter_model.bin: pickled.*save_pretrained"):
        read_folder(folder)


def test_tensors_must_be_floats(folder):
    path = folder / "adapter_model.safetensors"
    safetensors.numpy.save_file({"x": np.ones((2, 2), np.int8)}, path)
    with pytest.raises(UserError, match="x is int8; only float16, bfloat16"):
        read_folder(folder)
    safetensors.numpy.save_file({"a/b": np.ones((2, 2))}, path)
    with pytest.raises(UserError, match="a is a group of tensors"):
        read_folder(folder)


# The card


def front_matter(card: str) -> list[str]:
    return card.split("---\n")[1].splitlines()


def facts(card: str) -> dict:
    (block,) = re.findall(r"```json\n(.*?)\n```", card, re.DOTALL)
    return json.loads(block)


def test_the_card_says_how_the_adapter_was_made(tmp_path):
    provenance = {"seed": 3, "config": {"alpha": 1.5}, "versions": {"jax": "0.10"}}
    write_folder(tmp_path / "x", SETTINGS, TENSORS, provenance)
    card = (tmp_path / "x" / "README.md").read_text()
    assert front_matter(card)[:2] == ['base_model: "org/base"', "library_name: peft"]
    assert facts(card) == {"base_model": "org/base", **provenance}
    assert "rank 5, alpha 7" in card and "`q_proj`, `lm_head`" in card


def test_nothing_in_a_name_gets_out_of_its_place(tmp_path):
    nasty = '"\n---\n```\n<script>&x\x1b[31m\u2028é # x: y'
    settings = SETTINGS | {"base_model_name_or_path": nasty}
    write_folder(tmp_path / "x", settings, TENSORS, {nasty: [nasty]})
    card = (tmp_path / "x" / "README.md").read_text()
    assert card.isascii() and card.replace("\n", "").isprintable()
    assert card.count("```") == 2 and "<" not in card
    assert len(front_matter(card)) == 4 and card.count("\n---\n") == 1
    assert json.loads(front_matter(card)[0].removeprefix("base_model: ")) == nasty
    assert facts(card) == {"base_model": nasty, nasty: [nasty]}
    assert read_folder(tmp_path / "x")[0] == settings


@pytest.mark.parametrize("value", [float("nan"), object(), {1j}])
def test_provenance_must_be_json(tmp_path, value):
    with pytest.raises(ValueError, match="JSON"):
        write_folder(tmp_path / "x", SETTINGS, TENSORS, {"x": value})
    assert left_in(tmp_path) == []
