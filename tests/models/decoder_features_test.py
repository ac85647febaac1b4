"""In every family adapters are merged weights, and what is switched on shows."""

import dataclasses

import jax
import numpy as np
import pytest

from cifr_jax.finetune import lora
from cifr_jax.models import decoder
from cifr_jax.models.families.registry import FAMILIES
from cifr_jax.testing_families import random_model

TOLERANCE = 2e-5

forward = jax.jit(decoder.forward, static_argnums=0)


def two_layers(family: str):
    models = (random_model(family, seed) for seed in range(24))
    return next(model for model in models if model[0].n_layers == 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_equals_merged_weights(family):
    config, params = two_layers(family)
    tokens_bt = np.random.default_rng(0).integers(0, config.vocab_size, (2, 9))
    adapter = lora.init_adapter(
        jax.random.key(0), config, lora.LoraConfig(rank=2, alpha=2.0)
    )
    rng = np.random.default_rng(1)
    layers = jax.tree.map(
        lambda x: (0.2 * rng.normal(size=x.shape)).astype(np.float32), adapter.layers
    )
    merged = {
        name: params["layers"][name] + np.einsum("lri,lro->lio", f["a"], f["b"])
        for name, f in layers.items()
    }
    dense = params | {"layers": params["layers"] | merged}
    plain, adapted, expected = (
        np.asarray(forward(config, *inputs))
        for inputs in (
            (params, tokens_bt, None),
            (params, tokens_bt, None, adapter._replace(layers=layers)),
            (dense, tokens_bt, None),
        )
    )
    np.testing.assert_allclose(adapted, expected, atol=TOLERANCE)
    assert np.abs(adapted - plain).max() > 0.01


# Every field that a family may set, and a value that must show in the logits.
FAULTS = {
    "mistral": {"window": 3, "window_layers": ()},
    "qwen2": {"biases": ()},
    "qwen3": {"qk_norm": None},
    "gemma2": {"attention_cap": None, "norm": "olmo", "logit_cap": 0.5, "query_scale": None,
               "activation": "silu", "embed_scale": None, "post_norm": False},
    "gemma3_text": {"local_rope": None, "window_layers": (1,)},
    "smollm3": {"no_rope_layers": ()},
    "phi3": {"d_rotary": None, "rope_scaling": None},
    "olmo2": {"pre_norm": True, "qk_norm": None},
}  # fmt: skip


@pytest.mark.parametrize(
    ("family", "field"), [(f, field) for f, fields in FAULTS.items() for field in fields]
)
def test_every_feature_shows_in_the_logits(family, field):
    """A feature that could be left out unnoticed would not be tested by parity either."""
    wrong = FAULTS[family][field]
    models = (random_model(family, seed) for seed in range(99))
    config, params = next(
        (c, p) for c, p in models
        if getattr(c, field) not in (wrong, None) and c.n_layers == 2
        and (field not in ("window", "window_layers") or (c.window or 99) < 5)
        and (field != "rope_scaling" or c.rope_scaling.original_max_positions < 14)
    )  # fmt: skip
    changed = dataclasses.replace(config, **{field: wrong})
    if field == "pre_norm":
        ones = {n: np.ones((config.n_layers, config.d_model), np.float32)
                for n in ("attn_norm", "mlp_norm")}  # fmt: skip
        params = params | {"layers": params["layers"] | ones}
    tokens = np.random.default_rng(0).integers(1, config.vocab_size, (1, 14))
    right, off = (np.asarray(forward(c, params, tokens)) for c in (config, changed))
    assert np.abs(right - off).max() > 1e-3
