"""Broken and hostile models: one line, exit code 2, no memory taken, no hang.

Each fault goes through the task `finetune`, which is what would meet it; two also through
the command line of a fresh process.
"""

import json
import os
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cifr_jax import finetune_job
from cifr_jax.config import load_config
from cifr_jax.errors import UserError
from cifr_jax.models.hf_folder import INDEX, WEIGHTS, save_hf_folder
from cifr_jax.testing import save_model, tiny_model
from cifr_jax.testing_gguf import byte_vocabulary, stored_tensors, write_gguf

ROOT = Path(__file__).parents[2]
DOWN = "model.layers.1.mlp.down_proj.weight"


def change_header(folder: Path, change: Callable[[dict], None]) -> None:
    path = folder / WEIGHTS
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def truncate(folder):
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


def overlap(folder):
    def change(header):
        size = header[DOWN]["data_offsets"][1] - header[DOWN]["data_offsets"][0]
        header[DOWN]["data_offsets"] = [0, size]

    change_header(folder, change)


def claim_a_huge_header(folder):
    path = folder / WEIGHTS
    path.write_bytes(struct.pack("<Q", 2**60) + path.read_bytes()[8:])


def claim_a_huge_tensor(folder):
    def change(header):
        header[DOWN] |= {"shape": [2**30, 2**28], "data_offsets": [0, 2**60]}

    change_header(folder, change)


def change_tensors(folder, **changes):
    tensors = load_file(folder / WEIGHTS)
    save_file(tensors | {DOWN: changes["change"](tensors[DOWN])}, folder / WEIGHTS)


def nan(folder):
    change_tensors(folder, change=lambda x: np.where(x == x.max(), np.nan, x))


def infinity(folder):
    change_tensors(folder, change=lambda x: np.where(x == x.max(), np.inf, x))


def wrong_shape(folder):
    change_tensors(folder, change=lambda x: np.ascontiguousarray(x.T))


def in_shards(folder):
    lm = tiny_model()
    (folder / WEIGHTS).unlink()
    save_hf_folder(folder, lm.config, lm.params, lm.tokenizer, max_shard_bytes=6000)
    return json.loads((folder / INDEX).read_bytes())


def shard_that_is_not_there(folder):
    (folder / in_shards(folder)["weight_map"][DOWN]).unlink()


def shard_missing_from_the_index(folder):
    index = in_shards(folder)
    file = index["weight_map"][DOWN]
    index["weight_map"] = {n: f for n, f in index["weight_map"].items() if f != file}
    (folder / INDEX).write_text(json.dumps(index))


def tensor_that_only_the_index_has(folder):
    index = in_shards(folder)
    index["weight_map"]["model.layers.2.mlp.down_proj.weight"] = index["weight_map"][DOWN]
    (folder / INDEX).write_text(json.dumps(index))


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


def fewer_embeddings(folder):
    change_config(folder, vocab_size=100)


def far_more_embeddings(folder):
    change_config(folder, vocab_size=2**30)


def huge_layers(folder):
    change_config(folder, num_hidden_layers=2**30)


def huge_width(folder):
    change_config(folder, intermediate_size=2**30)


def pickles(folder):
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def change_template(folder, template):
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_bytes()) | {"chat_template": template}
    path.write_text(json.dumps(settings))


def endless_template(folder):
    loops = "{% for i in range(999999) %}" * 4 + "x" + "{% endfor %}" * 4
    change_template(folder, loops)


def growing_template(folder):
    change_template(folder, "{{ ('x' * 999999) * 999999 }}")


def escaping_template(folder):
    change_template(folder, "{{ ().__class__.__base__.__subclasses__() }}")


def broken_template(folder):
    change_template(folder, "{% for")


def random_bytes(folder):
    (folder / WEIGHTS).write_bytes(np.random.default_rng(0).bytes(10_000))


FAULTS = {
    truncate: "not a safetensors file .*cut off or damaged",
    overlap: "overlaps another tensor",
    claim_a_huge_header: "a header of 1,152,921,504,606,846,976",
    claim_a_huge_tensor: "overlaps another tensor",
    random_bytes: "not a safetensors file",
    nan: f"{DOWN} holds NaN or infinite values",
    infinity: f"{DOWN} holds NaN or infinite values",
    wrong_shape: rf"{DOWN} has shape \[32, 16\], not \[16, 32\]",
    shard_that_is_not_there: "no such shard",
    shard_missing_from_the_index: "missing tensors: ",
    tensor_that_only_the_index_has: f"is not there, where {INDEX} says it is",
    fewer_embeddings: "261 tokens, but 100 embeddings",
    far_more_embeddings: "261 tokens, but 1073741824 embeddings",
    huge_layers: "num_hidden_layers is 1073741824",
    huge_width: "not .*1073741824",
    pickles: "pickled weights can run code .*safe_serialization=True",
    endless_template: "more work than that of 200,000 loop turns",
    growing_template: "a value grows beyond",
    escaping_template: "chat template: .*unsafe",
    broken_template: "tokenizer_config.json:1: chat template",
}


@pytest.fixture
def folder(tmp_path) -> Path:
    return save_model(tmp_path / "model", tiny_model())


def run(model: Path, workdir: Path):
    config = load_config(str(ROOT / "configs/finetune.py") + ":runlocal")
    config.base_model = str(model)
    finetune_job.run(config, str(workdir))


def refused(model: Path, workdir: Path, what: str) -> None:
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(UserError, match=what) as caught:
        run(model, workdir)
    seconds, peak = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in str(caught.value) and str(model) in str(caught.value)
    assert seconds < 10 and peak < 50e6
    assert not (workdir / "adapter").exists()


@pytest.mark.parametrize("spoil", FAULTS, ids=lambda spoil: spoil.__name__)
def test_broken_folders(folder, tmp_path, spoil):
    spoil(folder)
    refused(folder, tmp_path / "w", FAULTS[spoil])


def gguf_of_tiny(path: Path) -> bytes:
    pytest.importorskip("gguf")
    lm = tiny_model()
    vocabulary = byte_vocabulary(("t h", "i n"))  # as many tokens
    tensors = stored_tensors(lm.config, {k: _host(v) for k, v in lm.params.items()})
    return write_gguf(path, lm.config, tensors, vocabulary).read_bytes()


def _host(node):
    if isinstance(node, dict):
        return {name: _host(child) for name, child in node.items()}
    return np.asarray(node)


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("quantisation", "quantisation 4711 cannot be read"),
        ("counts", "not a GGUF file .*entries are claimed"),
        ("cut", "not a GGUF file"),
    ],
)
def test_broken_gguf_files(tmp_path, fault, what):
    path = tmp_path / "m.gguf"
    content = gguf_of_tiny(path)
    at = content.index(b"blk.0.ffn_up.weight") + 19 + 4 + 16
    path.write_bytes(
        {
            "quantisation": content[:at] + struct.pack("<I", 4711) + content[at + 4 :],
            "counts": content[:8] + struct.pack("<QQ", 2**60, 2**60) + content[24:],
            "cut": content[:-4000],
        }[fault]
    )
    refused(path, tmp_path / "w", what)


@pytest.mark.parametrize(
    "spoil", [claim_a_huge_header, endless_template], ids=lambda spoil: spoil.__name__
)
def test_the_command_line_says_so_in_one_line(folder, tmp_path, spoil):
    spoil(folder)
    command = [sys.executable, "-m", "cifr_jax.main", f"--workdir={tmp_path / 'w'}",
               f"--config={ROOT}/configs/finetune.py:runlocal",
               f"--config.base_model={folder}"]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 2
    assert done.stderr.startswith("cifr_jax: error: ") and str(folder) in done.stderr
    assert done.stderr.count("\n") == 1
