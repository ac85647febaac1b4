"""On a mesh, in one process or two, a fleet does what it does on one device."""

from pathlib import Path
from runpy import run_path

import jax
import numpy as np
import pytest

from cifr_jax.errors import UserError
from cifr_jax.models import sharding
from cifr_jax.models.families.registry import FAMILIES
from cifr_jax.testing_families import random_model

PROGRAM = Path(__file__).parent / "sharded_run.py"
FAMILY_PROGRAM = Path(__file__).parent / "sharded_families.py"
FOUR = {"data": 2, "fsdp": 2, "tensor": 2}


RUN_ON = run_path(str(Path(__file__).parent / "mesh_programs.py"))["run_on"]


def run(devices, mesh, processes=1, program=PROGRAM):
    return RUN_ON(program, devices, mesh, processes)


@pytest.fixture(scope="module")
def alone():
    (told,) = run(1, None)
    return told


def same(told, alone):
    np.testing.assert_allclose(told["losses"], alone["losses"], atol=1e-5)
    np.testing.assert_allclose(told["adapter"], alone["adapter"], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [{"data": -1}, {"fsdp": 8}, FOUR])
def test_one_process_with_eight_devices(alone, mesh):
    (told,) = run(8, mesh)
    same(told, alone)
    parts = mesh.get("fsdp", 1) * mesh.get("tensor", 1)
    # No device holds more of the matrices than its part; norms are small and whole.
    assert told["largest_share"] <= 1 / parts + 0.05


@pytest.mark.slow
def test_two_processes_with_four_devices_each(alone):
    for told in run(8, FOUR, processes=2):
        same(told, alone)
        assert told["processes"] == 2


@pytest.mark.slow
def test_every_family_on_a_mesh():
    (told,) = run(8, FOUR, program=FAMILY_PROGRAM)
    assert told.keys() == FAMILIES.keys()
    for family, found in told.items():
        assert found["difference"] < 1e-5, family
        assert any("fsdp" in layout for layout in found["layouts"]), family


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_has_a_layout_of_its_own_rank(family):
    mesh = sharding.make_mesh()
    for seed in range(5):
        config, params = random_model(family, seed)
        layouts = sharding.parameter_shardings(config, mesh)
        ranks = jax.tree.map(lambda x, layout: x.ndim >= len(layout.spec), params, layouts)
        assert all(jax.tree.leaves(ranks))
        assert tuple(layouts["layers"]["q"].spec) == (None, "fsdp", "tensor")
        for name in config.biases:
            beside = layouts["layers"][name].spec[2]
            bias = tuple(layouts["layers"][f"{name}_bias"].spec)
            assert bias in ((None, beside), ()), name  # those of o and down are whole


@pytest.mark.parametrize(
    ("sizes", "what"),
    [
        ({"date": 2}, "unknown axis date; known: data, fsdp, tensor"),
        ({"data": 7}, "a mesh that does not use the 1 devices"),
        ({"data": -1, "fsdp": -1}, "does not use the 1 devices"),
        ({"data": 0}, "does not use the 1 devices"),
    ],
)
def test_faults_of_meshes_are_told(sizes, what):
    with pytest.raises(UserError, match=what):
        sharding.make_mesh(sizes)


def test_one_device_is_a_mesh_of_one():
    assert dict(sharding.make_mesh().shape) == {"data": 1, "fsdp": 1, "tensor": 1}
