"""The decoder's contracts: adapters are merged weights, and rows stand alone.

That it computes what transformers computes is shown in parity_test.py.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cifr_jax.finetune import lora
from cifr_jax.models import decoder
from cifr_jax.models.config import DecoderConfig

CONFIG = DecoderConfig(
    vocab_size=24, d_model=16, n_layers=2, n_heads=4, n_kv_heads=2, d_head=6, d_ff=20
)
LORA = lora.LoraConfig(rank=3, alpha=6.0, embed_rank=2)
TOLERANCE = 1e-5

forward = jax.jit(decoder.forward, static_argnums=0)


def new_params(config=CONFIG, seed=0):
    params = decoder.Decoder(config, rngs=nnx.Rngs(seed)).split()
    # Embeddings as large as a trained model's, so that no norm hides a difference.
    return params | {"embed": 30 * params["embed"]}


def random_adapter(seed=1, config=CONFIG, settings=LORA):
    """All factors random, so that everything adapted has an effect."""
    fresh = lora.init_adapter(jax.random.key(seed), config, settings)
    rng = np.random.default_rng(seed)
    filled = jax.tree.map(
        lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), jnp.float32), fresh
    )
    return filled._replace(scale=fresh.scale)


def only(adapter, target):
    """The adapter with every other target's update taken away."""

    def kept(name, factors):
        return factors if name == target else jax.tree.map(jnp.zeros_like, factors)

    return adapter._replace(
        layers={name: kept(name, factors) for name, factors in adapter.layers.items()},
        embed=kept("embed", adapter.embed),
        head=kept("head", adapter.head),
    )


def merged(params, adapter):
    """Dense weights with the update added, in fp64: W + scale * A^T B."""

    def add(w, factors, scale):
        update = np.swapaxes(np.asarray(factors["a"], float), -1, -2) @ factors["b"]
        return (np.asarray(w, float) + scale * update).astype(np.float32)

    scale = np.asarray(adapter.scale, float)
    layers = dict(params["layers"])
    for name, factors in adapter.layers.items():
        layers[name] = add(layers[name], factors, scale[:-1, None, None])
    out = dict(params) | {"layers": layers}
    out["embed"] = add(params["embed"], adapter.embed, scale[-1])
    out["head"] = add(params.get("head", params["embed"].T), adapter.head, scale[-1])
    return out


@pytest.fixture(scope="module")
def params():
    return new_params()


@pytest.fixture(scope="module")
def tokens_bt():
    return jnp.asarray(np.random.default_rng(2).integers(0, 24, (3, 12)), jnp.int32)


@pytest.fixture(scope="module")
def mask_bt():
    return jnp.ones((3, 12), bool)


def test_a_fresh_adapter_changes_nothing(params, tokens_bt, mask_bt):
    fresh = lora.init_adapter(jax.random.key(0), CONFIG, LORA)
    np.testing.assert_array_equal(
        forward(CONFIG, params, tokens_bt, mask_bt, fresh),
        forward(CONFIG, params, tokens_bt, mask_bt),
    )


@pytest.mark.parametrize("target", [*decoder.LAYER_MATRICES, "embed", "head"])
def test_an_update_equals_merged_weights(params, tokens_bt, mask_bt, target):
    adapter = only(random_adapter(), target)
    adapted = forward(CONFIG, params, tokens_bt, mask_bt, adapter)
    dense = forward(CONFIG, merged(params, adapter), tokens_bt, mask_bt)
    np.testing.assert_allclose(adapted, dense, atol=TOLERANCE)
    base = forward(CONFIG, params, tokens_bt, mask_bt)
    assert np.abs(adapted - base).max() > 100 * TOLERANCE


def test_all_updates_together_on_tied_ends_and_one_block(tokens_bt, mask_bt):
    """Tied ends come apart: the head's update is not the embedding's."""
    tied = dataclasses.replace(CONFIG, tie_embeddings=True)
    params = new_params(tied)
    settings = dataclasses.replace(LORA, blocks=(1,))
    adapter = random_adapter(3, tied, settings)
    assert adapter.scale.tolist() == [0.0, 2.0, 2.0]
    adapted = decoder.forward(tied, params, tokens_bt, mask_bt, adapter)
    dense = forward(CONFIG, merged(params, adapter), tokens_bt, mask_bt)
    # Several updates at once: their rounding adds up, and differs from one CPU to another.
    np.testing.assert_allclose(adapted, dense, atol=3 * TOLERANCE)


def test_vmapped_adapters_equal_single_ones(params, tokens_bt, mask_bt):
    adapters = [random_adapter(seed) for seed in (1, 2, 3)]
    one_text_each = tokens_bt[:, None], mask_bt[:, None]
    of_fleet = jax.vmap(functools.partial(decoder.forward, CONFIG), (None, 0, 0, 0))
    together = jax.jit(of_fleet)(params, *one_text_each, lora.stack(adapters))
    for k, adapter in enumerate(adapters):
        alone = forward(CONFIG, params, tokens_bt, mask_bt, adapter)[k]
        np.testing.assert_allclose(together[k, 0], alone, atol=TOLERANCE)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_logit_whatever_it_holds(params, tokens_bt, mask_bt, side):
    adapter = random_adapter()
    alone = forward(CONFIG, params, tokens_bt, mask_bt, adapter)
    pad = (0, 5) if side == "right" else (5, 0)
    text = slice(0, 12) if side == "right" else slice(5, None)
    for filler in (0, 23):
        padded_bt = jnp.pad(tokens_bt, ((0, 0), pad), constant_values=filler)
        padded_mask_bt = jnp.pad(mask_bt, ((0, 0), pad))
        padded = forward(CONFIG, params, padded_bt, padded_mask_bt, adapter)
        np.testing.assert_allclose(padded[:, text], alone, atol=TOLERANCE)
        assert np.isfinite(padded).all()


def test_a_row_does_not_depend_on_its_neighbours(params, tokens_bt, mask_bt):
    before = forward(CONFIG, params, tokens_bt, mask_bt)
    changed_bt = tokens_bt.at[1].set((tokens_bt[1] + 1) % 24)
    after = forward(CONFIG, params, changed_bt, mask_bt)
    np.testing.assert_array_equal(after[::2], before[::2])
    assert np.abs(after[1] - before[1]).max() > 0.01


def test_a_token_changes_no_logit_before_it_and_every_one_from_it(
    params, tokens_bt, mask_bt
):
    before = forward(CONFIG, params, tokens_bt, mask_bt)
    changed_bt = tokens_bt.at[:, 7].set((tokens_bt[:, 7] + 1) % 24)
    after = forward(CONFIG, params, changed_bt, mask_bt)
    np.testing.assert_array_equal(after[:, :7], before[:, :7])
    assert (np.abs(after[:, 7:] - before[:, 7:]).max(-1) > 1e-4).all()


def test_rotary_positions_count_only_relative_to_each_other(params, tokens_bt, mask_bt):
    positions_bt, attend_bts = decoder.causal_inputs(mask_bt)
    x_btd = decoder.embed(params, tokens_bt)

    def last(positions_bt):
        return decoder.backbone(CONFIG, params, x_btd, positions_bt, attend_bts)[0]

    here = last(positions_bt)
    np.testing.assert_allclose(last(positions_bt + 100), here, atol=1e-4)
    assert np.abs(last(2 * positions_bt) - here).max() > 0.01


def test_the_flax_module_is_the_pure_function(tokens_bt, mask_bt):
    module = decoder.Decoder(CONFIG, rngs=nnx.Rngs(5))
    adapter = random_adapter()
    np.testing.assert_array_equal(
        module(tokens_bt, mask_bt, adapter),
        decoder.forward(CONFIG, module.split(), tokens_bt, mask_bt, adapter),
    )


@pytest.mark.parametrize("tied", [False, True])
def test_the_module_has_the_parameters_that_its_config_counts(tied):
    config = dataclasses.replace(CONFIG, tie_embeddings=tied)
    params = decoder.Decoder(config, rngs=nnx.Rngs(0)).split()
    assert sum(x.size for x in jax.tree.leaves(params)) == config.n_parameters()
    assert ("head" in params) != tied
    for name, shape in decoder.matrix_shapes(config).items():
        assert params["layers"][name].shape == (2, *shape)


def test_reduced_streams_come_from_after_every_block(params, tokens_bt, mask_bt):
    last, streams = decoder.hidden(
        CONFIG, params, tokens_bt, mask_bt, reduce=lambda x_btd: x_btd
    )
    assert streams.shape == (2, 3, 12, 16)
    np.testing.assert_array_equal(streams[-1], last)
    one_block = jax.tree.map(lambda w: w[:1], params["layers"])
    shallow = dataclasses.replace(CONFIG, n_layers=1)
    first, _ = decoder.hidden(shallow, params | {"layers": one_block}, tokens_bt, mask_bt)
    np.testing.assert_allclose(streams[0], first, atol=TOLERANCE)
