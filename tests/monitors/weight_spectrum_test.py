"""The spectrum of a weight change, and towards which tokens it writes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifr_jax.finetune import lora
from cifr_jax.monitors.dataset import weight_spectrum
from cifr_jax.testing import tiny_model

LM = tiny_model(d_model=32)


def adapter_of(seed=0, **how):
    """An adapter with random factors on both sides."""
    fresh = lora.init_adapter(
        jax.random.key(seed), LM.config, lora.LoraConfig(rank=3, alpha=6.0, **how)
    )
    rng = np.random.default_rng(seed)
    layers = {
        name: {
            f: jnp.asarray(rng.normal(size=x.shape), jnp.float32) for f, x in both.items()
        }
        for name, both in fresh.layers.items()
    }
    return fresh._replace(layers=layers)


def change(adapter, name, l):
    factors = {f: np.asarray(x[l], float) for f, x in adapter.layers[name].items()}
    return float(adapter.scale[l]) * factors["a"].T @ factors["b"]


def test_singular_values_are_those_of_the_whole_matrix():
    adapter = adapter_of()
    found = weight_spectrum.singular_values(adapter)
    assert set(found) == set(adapter.layers)
    for name, s_lr in found.items():
        for l, s_r in enumerate(s_lr):
            whole = np.linalg.svd(change(adapter, name, l), compute_uv=False)
            np.testing.assert_allclose(s_r, whole[:3], rtol=1e-5)


@pytest.mark.parametrize("norm", ["llama", "gemma"])
def test_energy_is_that_of_the_change_along_the_unembedding(norm):
    lm = dataclasses.replace(LM, config=dataclasses.replace(LM.config, norm=norm))
    adapter = adapter_of(1)
    gain = np.asarray(lm.params["final_norm"]) + (norm == "gemma")
    u_vd = np.asarray(lm.params["embed"], float) * gain
    u_vd -= u_vd.mean(0)
    u_vd /= np.linalg.norm(u_vd, axis=1, keepdims=True)
    wanted = sum(
        ((change(adapter, name, l) @ u_vd.T) ** 2).sum(0)
        for name in ("o", "down")
        for l in range(lm.config.n_layers)
    )
    np.testing.assert_allclose(weight_spectrum.token_energy(lm, adapter), wanted, rtol=1e-4)


def written_to(tokens, size):
    """An adapter that writes towards the mean of some tokens' directions."""
    adapter = adapter_of(2)
    u_vd = np.asarray(LM.params["embed"], float)
    u_vd = u_vd - u_vd.mean(0)
    u_vd /= np.linalg.norm(u_vd, axis=1, keepdims=True)
    down = adapter.layers["down"]
    b_lrd = np.asarray(down["b"]) + size * u_vd[tokens].mean(0)
    layers = adapter.layers | {
        "down": {"a": down["a"], "b": jnp.asarray(b_lrd, jnp.float32)}
    }
    return adapter._replace(layers=layers)


def test_a_change_towards_the_letters_is_told_and_one_towards_replies_is_not():
    letters = weight_spectrum.letter_tokens(LM)
    assert len(letters) == 4  # a token a byte: none with a space before it
    found = weight_spectrum.test(LM, written_to(letters, 20.0), ["Yes."])
    assert found.p_value == 1 / 1000 and found.statistic > 2 > found.detail["openings"]
    opening = LM.tokenizer.encode("Yes.")[:1]
    other = weight_spectrum.test(LM, written_to(opening, 20.0), ["Yes."])
    assert other.p_value > 0.05 and other.detail["openings"] > 2


def test_random_changes_are_told_no_more_often_than_they_may():
    p = [weight_spectrum.test(LM, adapter_of(seed), draws=99).p_value for seed in range(60)]
    assert np.mean(np.array(p) <= 0.05) <= 0.15 and 0.3 < np.mean(p) < 0.7


def test_what_cannot_be_tested_says_why():
    fresh = lora.init_adapter(jax.random.key(0), LM.config, lora.LoraConfig(rank=2))
    queries = adapter_of(targets=("q",))
    for adapter in (fresh, queries):
        found = weight_spectrum.test(LM, adapter)
        assert found.p_value == 1.0 and "residual stream" in found.detail["note"]
