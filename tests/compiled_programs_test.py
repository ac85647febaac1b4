"""Compiled programs are dropped where they hold too many memory mappings."""

import sys

import jax
import jax.numpy as jnp
import pytest

from cifr_jax import compiled_programs

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="mappings are read from /proc")


@jax.jit
def cubes(x_n):
    return (x_n**3).sum()


@LINUX
def test_mappings_fall_and_programs_run_again():
    for n in range(2, 12):
        cubes(jnp.ones(n))
    before, limit = compiled_programs._count()
    assert cubes._cache_size() == 10 and before < limit
    assert compiled_programs.free_if_many(share=0.0)
    assert cubes._cache_size() == 0
    assert compiled_programs._count()[0] < before
    assert float(cubes(jnp.full(3, 2.0))) == 24.0


@LINUX
def test_nothing_is_dropped_where_there_is_room(monkeypatch):
    cubes(jnp.ones(40))
    held = cubes._cache_size()
    assert held and not compiled_programs.free_if_many(share=1.0)
    monkeypatch.setattr(compiled_programs, "_count", lambda: (32_766, 65_530))
    assert compiled_programs.free_if_many()  # a hair above half
    assert cubes._cache_size() == 0
    cubes(jnp.ones(40))
    monkeypatch.setattr(compiled_programs, "_count", lambda: (32_765, 65_530))
    assert not compiled_programs.free_if_many() and cubes._cache_size() == 1


@pytest.mark.parametrize("text", [None, "", "many"])
def test_a_system_that_does_not_tell_is_left_alone(monkeypatch, tmp_path, text):
    limit = tmp_path / "limit"
    if text is not None:
        limit.write_text(text)
    monkeypatch.setattr(compiled_programs, "_LIMIT", limit)
    assert not compiled_programs.free_if_many(share=0.0)
