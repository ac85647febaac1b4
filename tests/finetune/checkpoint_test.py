"""The state of a run comes back bit for bit, or not at all."""

import gc
import os
import resource
import shutil
import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from cifr_jax.errors import UserError
from cifr_jax.finetune.checkpoint import Checkpoints


class Moments(NamedTuple):
    count: jax.Array
    mu: dict
    nothing: None


def state_of(seed=0, width=5, dtype=np.float32):
    rng = np.random.default_rng(seed)
    params = {"embed": rng.normal(size=(3, width)).astype(dtype)}
    # Transposed, a scalar, not a number: all must survive.
    mu = {"embed": rng.normal(size=(width, 3)).T, "odd": np.array([np.nan, -0.0, np.inf])}
    return (params, (Moments(jnp.int32(seed), mu, None), np.arange(4, dtype=np.float32)))


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "new" / "run", "this run")


def same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())


def test_round_trip_bit_for_bit(checkpoints):
    assert checkpoints.latest() is None
    checkpoints.save(3, state_of(7), {"queue": [1, None, 2], "loss": 0.1})
    assert checkpoints.latest() == (3, {"queue": [1, None, 2], "loss": 0.1})
    same_bits(checkpoints.restore(3, state_of(1)), state_of(7))
    checkpoints.save(5, state_of(8))
    assert checkpoints.latest() == (5, {})
    same_bits(checkpoints.restore(5, state_of(1)), state_of(8))
    assert [path.name for path in checkpoints.folder.iterdir()] == ["5"]
    checkpoints.delete()
    assert checkpoints.latest() is None


def test_as_many_stay_as_are_asked_for(tmp_path):
    kept = Checkpoints(tmp_path / "run", "this run", keep=2)
    for step in (1, 2, 3):
        kept.save(step, state_of(step))
    same_bits(kept.restore(2, state_of(0)), state_of(2))
    assert sorted(path.name for path in kept.folder.iterdir()) == ["2", "3"]


@pytest.mark.parametrize(
    ("other", "name"),
    [
        (state_of(width=6), "embed"),
        (state_of(dtype=np.float16), "embed"),
        ({"run": state_of()}, "run"),
        (state_of()[:1], "count"),
    ],
)
def test_a_state_of_another_structure_is_refused_by_name(checkpoints, other, name):
    checkpoints.save(3, state_of())
    with pytest.raises(UserError, match=f"another model or config .*{name}") as raised:
        checkpoints.restore(3, other)
    assert raised.value.where == str(checkpoints.folder)
    assert raised.value.mend.startswith("delete the folder")


def test_another_runs_checkpoint_is_refused(checkpoints):
    checkpoints.save(3, state_of())
    with pytest.raises(UserError, match="another model, config or upload"):
        Checkpoints(checkpoints.folder, "that run").latest()
    assert checkpoints.latest() is not None


# orbax leaves coroutines behind that it never awaits once a file fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@pytest.mark.parametrize("harm", ["halved", "emptied", "removed", "overwritten"])
def test_a_broken_checkpoint_is_the_users_fault(checkpoints, harm):
    """Whichever file is harmed, the state is refused or is what it was."""
    checkpoints.save(3, state_of())
    files = [path for path in checkpoints.folder.rglob("*") if path.is_file()]
    contents = {path: path.read_bytes() for path in files}
    refused = []
    for path, content in contents.items():
        if harm == "removed":
            path.unlink()
        else:
            half = content[: len(content) // 2]
            path.write_bytes({"halved": half, "emptied": b""}.get(harm, b"\xff" * 99))
        try:
            found = checkpoints.latest()
            if found is not None:
                same_bits(checkpoints.restore(3, state_of(1)), state_of())
        except UserError as error:
            assert "not a readable checkpoint" in str(error)
            refused.append(path.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert refused
    same_bits(checkpoints.restore(3, state_of(1)), state_of())
    gc.collect()  # here, or they are told of in whichever test comes next


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("told", ["as OSError", "as text", "as a cause"])
def test_a_full_disk_leaves_the_checkpoint_before_it(checkpoints, monkeypatch, told):
    checkpoints.save(1, state_of(1))

    def full(*_, **__):
        error = OSError(28, "No space left on device")
        if told == "as OSError":
            raise error
        if told == "as text":
            raise ValueError('Error writing "local file": No space left on device')
        raise RuntimeError("could not write") from error

    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "save", full)
        with pytest.raises(UserError, match="no space left on device"):
            checkpoints.save(2, state_of(2))
    assert checkpoints.latest() == (1, {})
    same_bits(checkpoints.restore(1, state_of(0)), state_of(1))


def big_state(seed):
    return {"x": np.random.default_rng(seed).normal(size=20_000).astype(np.float32)}


# orbax gathers writes: those that fail second are never asked for.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("fault", ["a file that may not grow", "no space for the name"])
def test_a_write_that_fails_half_way_is_no_checkpoint(checkpoints, monkeypatch, fault):
    """Real files up to the fault: what is left of them neither counts nor stays."""
    checkpoints.save(1, big_state(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(*_):
        raise OSError(28, "No space left on device")

    try:
        with monkeypatch.context() as patch:
            if fault == "no space for the name":
                patch.setattr(os, "rename", full)
            else:  # Python ignores the signal that comes with it
                resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
            with pytest.raises(UserError, match="no space left|file too large") as raised:
                checkpoints.save(2, big_state(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert raised.value.where == str(checkpoints.folder)
    left = {path.name for path in checkpoints.folder.iterdir()}
    assert "1" in left and "2" not in left and len(left) == 2
    assert checkpoints.latest() == (1, {})
    same_bits(checkpoints.restore(1, big_state(0)), big_state(1))
    checkpoints.save(2, big_state(2))  # there is space again
    same_bits(checkpoints.restore(2, big_state(0)), big_state(2))
    assert [path.name for path in checkpoints.folder.iterdir()] == ["2"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("part", ["state", "meta", "state/ocdbt.process_0/d", "state/d"])
def test_a_folder_that_is_missing_is_the_users_fault(checkpoints, part):
    """Arrays too large to lie in the index: their files may be gone alone."""
    checkpoints.save(3, big_state(3))
    shutil.rmtree(checkpoints.folder / "3" / part)
    with pytest.raises(UserError, match="not a readable checkpoint"):
        checkpoints.latest()
        checkpoints.restore(3, big_state(0))


def test_a_file_in_the_folders_place_is_the_users_fault(checkpoints):
    checkpoints.folder.parent.mkdir()
    checkpoints.folder.write_bytes(b"mine")
    with pytest.raises(UserError, match="give a folder that can be written to"):
        checkpoints.save(1, state_of())
    assert checkpoints.folder.read_bytes() == b"mine"


def test_a_fault_of_ours_is_not_taken_for_the_disks(checkpoints, monkeypatch):
    def broken(*_, **__):
        raise ValueError("no such thing")

    monkeypatch.setattr(ocp.CheckpointManager, "save", broken)
    with pytest.raises(ValueError, match="no such thing"):
        checkpoints.save(2, state_of(2))


def test_a_state_comes_back_on_another_number_of_devices(checkpoints):
    """Saved on one device here, read by a process with four, sharded over them."""
    checkpoints.save(3, {"x": np.arange(32.0).reshape(8, 4)})
    program = f"""
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 4)
from jax.sharding import NamedSharding, PartitionSpec
from cifr_jax.finetune.checkpoint import Checkpoints
mesh = jax.make_mesh((4,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))
like = jax.device_put(np.zeros((8, 4)).astype(np.float32),
                      NamedSharding(mesh, PartitionSpec("fsdp")))
like = {{"x": jax.ShapeDtypeStruct((8, 4), np.float64, sharding=like.sharding)}}
x = Checkpoints({str(checkpoints.folder)!r}, "this run").restore(3, like)["x"]
assert len(x.addressable_shards) == 4, x.sharding
assert all(s.data.shape == (2, 4) for s in x.addressable_shards)
np.testing.assert_array_equal(x, np.arange(32.0).reshape(8, 4))
"""
    environment = {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
