"""Parameters onto devices: whole and split, alike in every family; tokenizers that fit."""

import dataclasses
from pathlib import Path
from runpy import run_path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.errors import UserError
from cifr_jax.models import weights
from cifr_jax.models.families import tensor_slots
from cifr_jax.models.families.registry import FAMILIES
from cifr_jax.testing import tiny_model
from cifr_jax.testing_families import random_model

PROGRAM = Path(__file__).parent / "sharded_loading.py"
RUN_ON = run_path(str(Path(__file__).parent / "mesh_programs.py"))["run_on"]


class InMemory:
    """A checkpoint without a file."""

    def __init__(self, tensors):
        self._tensors = tensors
        self.found = {name: weights.Found("memory", x.shape) for name, x in tensors.items()}

    def rows(self, name, start, stop):
        return self._tensors[name][start:stop]


def load_on(devices, mesh, processes=1):
    return RUN_ON(PROGRAM, devices, mesh, processes)


@pytest.mark.parametrize("mesh", [{"fsdp": 8}, {"data": 2, "fsdp": 2, "tensor": 2}])
def test_every_family_lies_on_eight_devices_as_the_layouts_say(mesh):
    (told,) = load_on(8, mesh)
    assert told.keys() == {*FAMILIES, "even"}
    for family, found in told.items():
        assert found["equal"] and found["same_layout"], family
        part = (found["whole"] - found["replicated"]) * mesh.get("data", 1) / 8
        if mesh == {"fsdp": 8}:
            assert found["most_held"] == found["replicated"] + part, family
        elif family == "even":  # norms are split over fsdp alone
            assert part < found["most_held"] < 1.01 * part


def test_each_of_two_processes_reads_its_own_rows():
    for told in load_on(8, {"tensor": 8}, processes=2):
        assert all(one["equal"] for one in told.values())
        rows = told["even"]["rows_read"]
        assert rows["model.layers.1.self_attn.q_proj.weight"] == 32  # of 64
        assert rows["model.embed_tokens.weight"] == 32
        assert rows["model.norm.weight"] == 32  # all of it: replicated


@settings(deadline=None, max_examples=20)
@given(family=st.sampled_from(list(FAMILIES)), seed=st.integers(0, 99), data=st.data())
def test_reading_in_pieces_of_any_size_gives_the_same(family, seed, data):
    config, params = random_model(family, seed)
    slots = tensor_slots(config)
    checkpoint = InMemory({name: slot.read(params) for name, slot in slots.items()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "_AT_ONCE", data.draw(st.integers(1, 3000)))
        read = weights.read_parameters(config, checkpoint, "float32")
    assert jax.tree.structure(read) == jax.tree.structure(params)
    for x, y in zip(jax.tree.leaves(params), jax.tree.leaves(read), strict=True):
        np.testing.assert_array_equal(x, y)


def test_on_a_cpu_the_device_takes_over_what_was_read():
    made = [weights._aligned((3, 5), np.dtype(np.float32)) for _ in range(20)]
    for array in made:
        array[...] = 1
        pointer = jax.device_put(array).unsafe_buffer_pointer()
        assert pointer == array.ctypes.data


def test_the_last_piece_is_checked_like_the_first():
    config, params = random_model("llama", 0)
    tensors = {name: slot.read(params) for name, slot in tensor_slots(config).items()}
    tensors["model.embed_tokens.weight"][-1, -1] = np.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "_AT_ONCE", 64)
        with pytest.raises(UserError, match="^memory: model.embed_tokens.weight holds"):
            weights.read_parameters(config, InMemory(tensors), "float32")


@pytest.mark.parametrize(
    ("tokens", "rows", "fits"),
    [
        (32_011, 32_064, True),  # Phi-3
        (151_665, 152_064, True),  # Qwen2.5 from 7B on
        (262_145, 262_208, True),  # Gemma 3
        (261, 261, True),
        (261, 260, False),
        (261, 261 + 128, True),
        (261, 261 + 129, False),
        (10, 854, False),
        (95_000, 100_000, True),
        (94_999, 100_000, False),
    ],
)
def test_the_embedding_may_have_rows_to_spare_but_not_too_few(tokens, rows, fits):
    config = dataclasses.replace(tiny_model().config, vocab_size=rows)
    if fits:
        weights.check_vocabulary(config, tokens, "folder")
        return
    what = f"^folder: {tokens} tokens, but {rows} embeddings"
    with pytest.raises(UserError, match=what):
        weights.check_vocabulary(config, tokens, "folder")
