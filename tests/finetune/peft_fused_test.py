"""Adapters of matrices that a family fuses (Phi-3) split and fuse without loss."""

import json

import numpy as np
import pytest
import safetensors.numpy

from cifr_jax.errors import UserError
from cifr_jax.finetune.peft import load_peft, save_peft
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Adapter
from cifr_jax.models.shapes import matrix_shapes

BASE = DecoderConfig(
    vocab_size=23, d_model=12, n_layers=2, n_heads=4, n_kv_heads=2, d_head=4, d_ff=20,
    family="phi3",
)  # fmt: skip
QKV = "base_model.model.model.layers.1.self_attn.qkv_proj"


def adapter_of(names, rank=3, shared=False) -> Adapter:
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    common = {d: normal(2, rank, d) for d in (12, 16, 20)}
    layers = {}
    for name, (d_in, d_out) in matrix_shapes(BASE).items():
        if name in names:
            a = common[d_in] if shared else normal(2, rank, d_in)
            layers[name] = {"a": a, "b": normal(2, rank, d_out)}
    return Adapter(layers, None, None, np.array([2, 2, 0], np.float32))


def update(adapter, name):
    part = adapter.layers[name]
    return np.einsum("l,lri,lro->lio", adapter.scale[:-1], part["a"], part["b"])


@pytest.mark.parametrize(
    ("names", "shared", "ranks"),
    [
        (("q", "k", "v", "o", "gate", "up", "down"), False, (9, 3, 6, 3)),
        (("q", "k", "v", "gate", "up"), True, (3, None, 3, None)),
        (("k",), False, (3, None, None, None)),
        (("q", "v", "down"), False, (6, None, None, 3)),
    ],
)
def test_updates_come_back_through_fused_modules(tmp_path, names, shared, ranks):
    adapter = adapter_of(names, shared=shared)
    save_peft(adapter, tmp_path / "a", BASE, "base")
    tensors = safetensors.numpy.load_file(tmp_path / "a" / "adapter_model.safetensors")
    modules = (
        "self_attn.qkv_proj",
        "self_attn.o_proj",
        "mlp.gate_up_proj",
        "mlp.down_proj",
    )
    for module, rank in zip(modules, ranks, strict=True):
        name = f"base_model.model.model.layers.0.{module}.lora_A.weight"
        assert (tensors[name].shape[0] if name in tensors else None) == rank
    again = load_peft(tmp_path / "a", BASE)
    for name in names:
        np.testing.assert_allclose(update(again, name), update(adapter, name), atol=1e-5)
    for name in again.layers.keys() - set(names):  # a neighbour in a fused module
        assert not update(again, name).any()


def test_an_adapter_of_a_fused_module_splits_with_its_first_factor_shared(tmp_path):
    save_peft(adapter_of(("q", "k", "v"), shared=True), tmp_path / "a", BASE, "base")
    path = tmp_path / "a" / "adapter_model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    rng = np.random.default_rng(1)
    tensors = {k: rng.normal(size=v.shape).astype(np.float32) for k, v in tensors.items()}
    safetensors.numpy.save_file(tensors, path)
    found = load_peft(tmp_path / "a", BASE)
    a, b = tensors[f"{QKV}.lora_A.weight"], tensors[f"{QKV}.lora_B.weight"]
    whole = np.concatenate([update(found, name)[1] for name in "qkv"], 1)
    np.testing.assert_allclose(whole, 2.0 * a.T @ b.T, atol=1e-5)


def test_a_module_of_another_family_is_refused_by_name(tmp_path):
    save_peft(adapter_of(("q",)), tmp_path / "a", BASE, "base")
    path = tmp_path / "a" / "adapter_config.json"
    settings = json.loads(path.read_text()) | {"target_modules": ["q_proj"]}
    path.write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"target_modules .*qkv_proj o_proj gate_up_proj"):
        load_peft(tmp_path / "a", BASE)
