"""Bases in int8 and nf4: known codes, the same decoder on them, adapters trained beside."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifr_jax import finetune_job, models
from cifr_jax.config import load_config
from cifr_jax.data.chat import Message
from cifr_jax.errors import UserError
from cifr_jax.finetune import lora
from cifr_jax.models import decoder, quantised
from cifr_jax.models.shapes import LAYER_MATRICES
from cifr_jax.testing import save_model, tiny_model

# Dettmers et al. 2023, appendix E.
LEVELS = np.array([-1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343,
                   -0.09105004, 0.0, 0.07958030, 0.16093020, 0.24611230, 0.33791524,
                   0.44070983, 0.56261700, 0.72295684, 1.0])  # fmt: skip
KINDS = pytest.mark.parametrize("kind", quantised.KINDS)


def copied(params):
    return jax.tree.map(jnp.array, params)


def quantise(w_do, kind):
    params = {"layers": dict.fromkeys(LAYER_MATRICES)}
    params["layers"] = {name: jnp.array(w_do)[None] for name in LAYER_MATRICES}
    return quantised.quantise(params, kind)["layers"]["q"]


def by_hand(w_do, kind):
    """One weight at a time."""
    out = np.zeros_like(w_do)
    d, width = w_do.shape
    block = d if kind == "int8" else max(b for b in range(1, 65) if d % b == 0)
    for column in range(width):
        for start in range(0, d, block):
            part = w_do[start : start + block, column]
            most = np.abs(part).max()
            if kind == "nf4":
                nearest = np.abs(part[:, None] / most - LEVELS).argmin(1)
                out[start : start + block, column] = LEVELS[nearest] * most
            else:
                out[:, column] = part
    return out


@pytest.mark.parametrize("d", [128, 64, 48, 100])
def test_nf4_is_the_nearest_level_of_each_block(d):
    w_do = np.random.default_rng(d).normal(size=(d, 6)).astype(np.float32)
    found = quantised.full(quantise(w_do, "nf4"))[0]
    np.testing.assert_allclose(found, by_hand(w_do, "nf4"), atol=1e-5)


def test_int8_is_within_half_a_step_of_each_channels_scale():
    w_do = np.random.default_rng(0).normal(size=(96, 7)).astype(np.float32)
    w_do[:, 3] *= 1000
    found = np.asarray(quantised.full(quantise(w_do, "int8"))[0])
    step_o = np.abs(w_do).max(0) / 127
    assert (np.abs(found - w_do) <= 0.51 * step_o).all()
    assert (np.abs(found - w_do).max(0) > 0.3 * step_o).all()


@KINDS
def test_the_decoder_computes_on_codes_what_it_does_on_full_matrices(kind):
    lm = tiny_model()
    small = quantised.quantise(copied(lm.params), kind)
    layers = {
        name: quantised.full(w) if quantised.is_quantised(w) else w
        for name, w in small["layers"].items()
    }
    tokens_bt = np.array([[5, 9, 80, 41, 7]])
    found = decoder.forward(lm.config, small, tokens_bt)
    whole = decoder.forward(lm.config, small | {"layers": layers}, tokens_bt)
    np.testing.assert_allclose(found, whole, atol=1e-5)
    before = lm.logits(tokens_bt)
    assert 1e-4 < np.abs(found - before).max() < 0.5 * np.abs(before).max()


@KINDS
def test_bytes(kind):
    lm = tiny_model()
    small = quantised.quantise(copied(lm.params), kind)
    held = sum(lm.params["layers"][name].size for name in LAYER_MATRICES)
    before, after = quantised.n_bytes(lm.params), quantised.n_bytes(small)
    saved = {"int8": 3, "nf4": 3.5}[kind]  # bytes a weight, of four
    scales = sum(small["layers"][name].scale.size * 4 for name in LAYER_MATRICES)
    assert before - after == saved * held - scales


@KINDS
def test_an_adapter_learns_beside_a_frozen_base(kind):
    lm = tiny_model()
    small = quantised.quantise(copied(lm.params), kind)
    adapter = lora.init_adapter(jax.random.key(0), lm.config, lora.LoraConfig(2))
    tokens_bt = np.array([[5, 9, 80, 41, 7, 12, 60, 3]])

    def loss(factors):
        one = adapter._replace(layers=factors)
        logits = decoder.forward(lm.config, small, tokens_bt, None, one)
        log_p = jax.nn.log_softmax(logits[:, :-1])
        return -jnp.take_along_axis(log_p, tokens_bt[:, 1:, None], -1).mean()

    step = jax.jit(jax.value_and_grad(loss))
    factors, first = adapter.layers, None
    for _ in range(30):
        value, slope = step(factors)
        first = value if first is None else first
        factors = jax.tree.map(lambda x, g: x - 0.5 * g, factors, slope)
    assert step(factors)[0] < first - 0.1


@KINDS
def test_a_folder_loads_quantised_and_generates(kind, tmp_path):
    lm = tiny_model()
    save_model(tmp_path / "m", lm)
    found = models.load(str(tmp_path / "m"), quantise=kind)
    again = models.load(str(tmp_path / "m"), quantise=kind)
    assert found.fingerprint() == again.fingerprint() != lm.fingerprint()
    assert found.n_parameters() == lm.n_parameters()
    full = {
        name: quantised.full(w) if quantised.is_quantised(w) else w
        for name, w in found.params["layers"].items()
    }
    whole = dataclasses.replace(found, params=found.params | {"layers": full})
    chats = [[Message("user", text)] for text in ("ab?", "what is cd?")]
    options = {"max_new_tokens": 12}
    assert found.generate(chats, **options) == whole.generate(chats, **options)


def test_what_cannot_be_quantised_is_told(tmp_path, monkeypatch):
    lm = tiny_model()
    save_model(tmp_path / "m", lm)
    with pytest.raises(UserError, match="'int3' is unknown"):
        models.load(str(tmp_path / "m"), quantise="int3")
    small = quantised.quantise(copied(lm.params), "int8")
    with pytest.raises(UserError, match="quantised already"):
        quantised.quantise(small, "nf4")
    mesh = jax.make_mesh((1, 1, 1), ("data", "fsdp", "tensor"))
    with pytest.raises(UserError, match="lies on one device"):
        models.load(str(tmp_path / "m"), mesh=mesh, quantise="int8")
    monkeypatch.setitem(__import__("sys").modules, "qwix", None)
    with pytest.raises(UserError, match=r"needs .* qwix; pip install .*qlora"):
        models.load(str(tmp_path / "m"), quantise="int8")


@KINDS
def test_a_job_trains_on_a_quantised_base(kind, tmp_path, capsys):
    lm = tiny_model()
    save_model(tmp_path / "m", lm)
    config = load_config("configs/finetune.py:runlocal")
    config.base_model, config.quantise = str(tmp_path / "m"), kind
    config.job.data, config.job.row_length = "recipe:worked_maths", 512
    config.job.on_long = "truncate"
    finetune_job.run(config, str(tmp_path / "w"))
    result = json.loads((tmp_path / "w" / "result.json").read_bytes())
    assert result["steps"] == 4 and np.isfinite(result["loss_last"])
    config.dry_run = True
    finetune_job.run(config, str(tmp_path / "dry"))
    told = capsys.readouterr().out
    assert f"blocks in {kind}" in told
    small = quantised.quantise(copied(lm.params), kind)
    assert f"its part of the base: {quantised.n_bytes(small):,} " in told
