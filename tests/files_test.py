"""A file is written whole or not at all, and arrays come back bit for bit."""

import errno
import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cifr_jax import files
from cifr_jax.errors import UserError

_NAMES = st.text("abcd_.- é", min_size=1, max_size=6)
_ARRAYS = hnp.arrays(
    st.sampled_from([np.dtype(name) for name in files._DTYPES]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


def _same(left, right):
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_same(left[k], right[k]) for k in left)
    kinds = (left.dtype, left.shape) == (right.dtype, right.shape)
    return kinds and left.tobytes() == right.tobytes()


@settings(deadline=None, max_examples=60)
@given(
    st.recursive(
        st.dictionaries(_NAMES, _ARRAYS, min_size=1, max_size=3),
        lambda inner: st.dictionaries(_NAMES, inner | _ARRAYS, min_size=1, max_size=3),
        max_leaves=4,
    )
)
def test_arrays_of_any_kind_come_back_bit_for_bit(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("arrays") / "x.safetensors"
    files.save_arrays(path, tree)
    assert _same(tree, files.load_arrays(path))


def test_strided_and_big_endian_arrays_keep_their_values(tmp_path):
    grid = np.arange(24, dtype=np.float32).reshape(4, 6)
    tree = {"t": grid.T, "step": grid[::2, ::-1], "big": grid.astype(">f4")}
    files.save_arrays(tmp_path / "x", tree)
    loaded = files.load_arrays(tmp_path / "x")
    for name, array in tree.items():
        np.testing.assert_array_equal(loaded[name], array)


@pytest.mark.parametrize(
    "tree",
    [
        {"a/b": np.zeros(1)},
        {"": np.zeros(1)},
        {"a": {}},
        {"a": np.array([object()])},
        {"a": np.array(["text"])},
    ],
)
def test_what_would_not_come_back_is_not_stored(tmp_path, tree):
    with pytest.raises(ValueError):
        files.save_arrays(tmp_path / "x", tree)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("damage", ["missing", "folder", "empty", "text", "cut", "clash"])
def test_a_file_that_is_no_safetensors_is_the_users_fault(tmp_path, damage):
    path = tmp_path / "x.safetensors"
    files.save_arrays(path, {"a": np.ones((5, 5))})
    if damage == "missing":
        path.unlink()
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    elif damage == "clash":
        header = {
            name: {"dtype": "U8", "shape": [1], "data_offsets": [at, at + 1]}
            for at, name in enumerate(["a", "a/b"])
        }
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + b"xx")
    else:
        whole = path.read_bytes()
        path.write_bytes({"empty": b"", "text": b"a" * 99, "cut": whole[:-3]}[damage])
    with pytest.raises(UserError) as caught:
        files.load_arrays(path)
    assert caught.value.where == str(path)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "r.json"
    files.write_json_atomic(path, {"old": 1})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="no space left on device; free some space"):
        files.write_json_atomic(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}
    assert os.listdir(tmp_path) == ["r.json"]


def test_a_full_disk_seen_by_safetensors_is_reported_as_one(tmp_path):
    error = files.safetensors.SafetensorError("I/O error: no room (os error 28)")
    with pytest.MonkeyPatch.context() as patch:

        def full(*_):
            raise error

        patch.setattr(files.safetensors.numpy, "save_file", full)
        with pytest.raises(UserError, match="no space left"):
            files.save_arrays(tmp_path / "x", {"a": np.zeros(1)})
    assert os.listdir(tmp_path) == []


def test_nan_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError):
        files.write_json_atomic(tmp_path / "r.json", {"auroc": float("nan")})
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_way_of_a_folder_is_the_users_fault(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="give a folder"):
        files.write_bytes_atomic(tmp_path / "file" / "r.json", b"x")
