"""The state of a run comes back bit for bit, or not at all."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.errors import UserError
from cifr_jax.finetune.checkpoint import restore_state, save_state


class Moments(NamedTuple):
    count: jax.Array
    mu: dict
    nothing: None


def state_of(seed=0, width=5, dtype=np.float32):
    rng = np.random.default_rng(seed)
    params = {"embed": rng.normal(size=(3, width)).astype(dtype)}
    # Transposed, a scalar, an empty array, not a number: all must survive.
    mu = {"embed": rng.normal(size=(width, 3)).T, "odd": np.array([np.nan, -0.0, np.inf])}
    return (params, (Moments(jnp.int32(seed), mu, None), np.zeros((0, 2), np.float32)))


LOSSES = np.arange(4, dtype=np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "state.safetensors"


def same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())


def test_round_trip_bit_for_bit(path):
    save_state(path, state_of(7), LOSSES, 3)
    state, losses, step = restore_state(path, state_of(1), 0 * LOSSES)
    same_bits(state, state_of(7))
    same_bits(losses, LOSSES)
    assert step == 3
    losses[0] = 5.0  # the run goes on writing into it
    assert [file.name for file in path.parent.iterdir()] == ["state.safetensors"]


@pytest.mark.parametrize(
    ("other", "losses", "name"),
    [
        (state_of(width=6), LOSSES, "embed"),
        (state_of(dtype=np.float64), LOSSES, "embed"),
        ({"run": state_of()}, LOSSES, "run"),
        (state_of()[:1], LOSSES, "count"),
        (state_of(), np.zeros(5, np.float32), "losses"),
    ],
)
def test_a_state_of_another_structure_is_refused_by_name(path, other, losses, name):
    save_state(path, state_of(), LOSSES, 3)
    with pytest.raises(UserError, match=f"another model or config .*{name}") as raised:
        restore_state(path, other, losses)
    assert str(raised.value).startswith(f"{path}: ")
    assert raised.value.mend == "delete it"


@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=40)
def test_a_truncated_file_is_the_users_fault(tmp_path_factory, share):
    path = tmp_path_factory.mktemp("cut") / "state.safetensors"
    save_state(path, state_of(), LOSSES, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match="not a readable checkpoint"):
        restore_state(path, state_of(), LOSSES)


def test_other_files_are_the_users_fault(path):
    from safetensors.numpy import save_file

    path.parent.mkdir()
    for metadata in (None, {"run": "{}"}, {"run": "]"}, {"run": "[]"}):
        save_file({"losses": LOSSES}, path, metadata)
        with pytest.raises(UserError, match="not a readable checkpoint"):
            restore_state(path, state_of(), LOSSES)
    path.write_bytes(b"\xff" * 500)
    with pytest.raises(UserError, match="not a readable checkpoint"):
        restore_state(path, state_of(), LOSSES)


def test_what_was_there_survives_a_write_that_fails(path, monkeypatch):
    save_state(path, state_of(1), LOSSES, 1)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises((OSError, UserError)):
        save_state(path, state_of(2), LOSSES, 2)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["state.safetensors"]
