"""What holds for every family: caches, padding, neighbours and packing change nothing.

That the decoder computes what transformers computes is shown in families_parity_test.py.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifr_jax.finetune.loss import attention_mask
from cifr_jax.models import decoder
from cifr_jax.models.families.registry import FAMILIES
from cifr_jax.models.rope import LongRope
from cifr_jax.testing_families import cached_logits, random_model

TOLERANCE = 1e-5
LENGTHS = (14, 9, 4)

forward = jax.jit(decoder.forward, static_argnums=0)


def model_with_features(family: str):
    """A model of two layers with as much on as one can have, windows shorter than texts."""

    def features(config) -> int:
        on = (config.window, config.biases, config.logit_cap, config.attention_cap)
        short = not config.window_layers or config.window < 7
        count = sum(map(bool, on)) + (config.rope_scaling is not None)
        return 10 * short + count if config.n_layers == 2 else 0

    return max(
        (random_model(family, seed) for seed in range(24)), key=lambda m: features(m[0])
    )


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    return model_with_features(request.param)


@pytest.fixture(scope="module")
def texts(model):
    rng = np.random.default_rng(0)
    tokens_bt = rng.integers(1, model[0].vocab_size, (len(LENGTHS), max(LENGTHS)))
    return tokens_bt, np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]


def to_the_right(rows_bt):
    """Rows with their padding on the left."""
    return np.stack(
        [np.roll(row, len(row) - n, 0) for row, n in zip(rows_bt, LENGTHS, strict=True)]
    )


def test_padding_on_either_side_and_neighbours_change_no_logit(model, texts):
    config, params = model
    tokens_bt, mask_bt = texts
    right = np.asarray(forward(config, params, tokens_bt, mask_bt))
    left = forward(config, params, to_the_right(tokens_bt), to_the_right(mask_bt))
    np.testing.assert_allclose(to_the_right(right)[to_the_right(mask_bt)],
                               left[to_the_right(mask_bt)], atol=TOLERANCE)  # fmt: skip
    others = np.where(mask_bt & (np.arange(3) == 1)[:, None], tokens_bt, 7)
    again = np.asarray(forward(config, params, others, mask_bt))
    np.testing.assert_array_equal(again[1][mask_bt[1]], right[1][mask_bt[1]])
    assert np.abs(again - right)[0].max() > 0.01


def test_a_cache_changes_no_logit(model, texts):
    config, params = model
    if isinstance(config.rope_scaling, LongRope):
        wide = dataclasses.replace(config.rope_scaling, original_max_positions=16)
        config = dataclasses.replace(config, rope_scaling=wide)
    tokens_bt, mask_bt = (to_the_right(x) for x in texts)
    whole = np.asarray(forward(config, params, tokens_bt, mask_bt))
    steps = np.asarray(cached_logits(config, params, tokens_bt, mask_bt, 6))
    np.testing.assert_allclose(steps[mask_bt], whole[mask_bt], atol=TOLERANCE)


def test_packed_texts_stay_apart(model, texts):
    config, params = model
    tokens_bt, mask_bt = texts
    alone = np.asarray(forward(config, params, tokens_bt, mask_bt))[mask_bt]
    segment = jnp.asarray(np.repeat([1, 2, 3], LENGTHS)[None])
    positions = np.concatenate([np.arange(n) for n in LENGTHS])[None]

    @jax.jit
    def packed(params, tokens, positions, segment):
        x_btd = decoder.embed(params, tokens)
        attend = attention_mask(segment)
        x_btd, _, _ = decoder.backbone(config, params, x_btd, positions, attend)
        return decoder.unembed(config, params, x_btd)[0]

    together = packed(params, tokens_bt[mask_bt][None], positions, segment)
    np.testing.assert_allclose(together, alone, atol=TOLERANCE)
