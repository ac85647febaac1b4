"""Adapters come back from disk bit for bit; anything else is refused in words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifr_jax.errors import UserError
from cifr_jax.finetune import lora
from cifr_jax.finetune.adapters import load_adapter, save_adapter
from cifr_jax.models.config import DecoderConfig
from cifr_jax.workdir import save_arrays

CONFIG = DecoderConfig(
    vocab_size=20, d_model=8, n_layers=2, n_heads=2, n_kv_heads=2, d_head=4, d_ff=12
)


def random_adapter(**options):
    settings = lora.LoraConfig(**{"rank": 2} | options)
    fresh = lora.init_adapter(jax.random.key(0), CONFIG, settings)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), fresh)


@pytest.mark.parametrize(
    "options", [{}, {"embed_rank": 3}, {"targets": ("q", "v")}, {"targets": ()}]
)
def test_round_trip_bit_for_bit(tmp_path, options):
    adapter = random_adapter(**options)
    adapter = adapter._replace(scale=adapter.scale.at[0].set(-0.0))
    save_adapter(tmp_path / "a.safetensors", adapter)
    again = load_adapter(tmp_path / "a.safetensors")
    assert jax.tree.structure(again) == jax.tree.structure(adapter)
    for old, new in zip(jax.tree.leaves(adapter), jax.tree.leaves(again), strict=True):
        assert np.asarray(old).tobytes() == np.asarray(new).tobytes()
        assert old.dtype == new.dtype and isinstance(new, jax.Array)


def test_saving_twice_gives_the_same_bytes_and_nothing_beside_them(tmp_path):
    for name in ("a.safetensors", "b.safetensors"):
        save_adapter(tmp_path / name, random_adapter(embed_rank=3))
    one, two = (path.read_bytes() for path in sorted(tmp_path.iterdir()))
    assert one == two


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_truncated_file_is_the_users_fault(tmp_path, share):
    path = tmp_path / "a.safetensors"
    save_adapter(path, random_adapter())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match="a.safetensors: cannot be read"):
        load_adapter(path)


def test_other_files_are_the_users_fault(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_adapter(tmp_path / "missing.safetensors")
    path = tmp_path / "losses.safetensors"
    for arrays in ({"losses": np.zeros(2)}, {"scale": np.zeros(3), "lm_head": np.zeros(2)}):
        save_arrays(path, arrays)
        with pytest.raises(
            UserError, match=f"holds .*{min(arrays)}.*, which is no adapter"
        ):
            load_adapter(path)
