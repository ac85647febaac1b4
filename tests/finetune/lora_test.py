"""Fresh adapters have the shapes of their base; stacks come apart as they were."""

import jax
import numpy as np
import pytest

from cifr_jax.errors import UserError
from cifr_jax.finetune import lora
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import LAYER_MATRICES, matrix_shapes

CONFIG = DecoderConfig(
    vocab_size=20, d_model=16, n_layers=3, n_heads=4, n_kv_heads=2, d_head=6, d_ff=24
)


def fresh(seed=0, **options):
    settings = lora.LoraConfig(**{"rank": 2, "alpha": 6.0} | options)
    return lora.init_adapter(jax.random.key(seed), CONFIG, settings)


def test_factors_have_their_long_axis_last():
    adapter = fresh(embed_rank=5)
    assert set(adapter.layers) == set(LAYER_MATRICES)
    for name, (d_in, d_out) in matrix_shapes(CONFIG).items():
        factors = adapter.layers[name]
        assert factors["a"].shape == (3, 2, d_in)
        assert factors["b"].shape == (3, 2, d_out)
    assert adapter.embed["a"].shape == adapter.head["b"].shape == (5, 20)
    assert adapter.embed["b"].shape == adapter.head["a"].shape == (5, 16)
    assert {x.dtype.name for x in jax.tree.leaves(adapter)} == {"float32"}


def test_one_factor_of_each_pair_is_zero_and_the_other_is_not():
    """Zero effect at the start, yet not a saddle from which no gradient leads."""
    adapter = fresh(embed_rank=5)
    pairs = [*adapter.layers.values(), adapter.embed, adapter.head]
    for pair in pairs:
        assert sorted(bool(np.any(x)) for x in pair.values()) == [False, True]
    assert not np.any(adapter.embed["a"])  # so rows never looked up keep a zero update


def test_only_what_is_asked_for_is_adapted():
    adapter = fresh(targets=("v", "q"), blocks=(2, 0))
    assert set(adapter.layers) == {"q", "v"}
    assert adapter.embed is None and adapter.head is None
    assert adapter.scale.tolist() == [3.0, 0.0, 3.0, 3.0]
    assert fresh().scale.tolist() == [3.0] * 4


def test_the_number_of_parameters():
    # rank x (d_in + d_out) a matrix and layer, rank x (vocabulary + width) an end
    shapes = matrix_shapes(CONFIG).values()
    inside = 3 * 2 * sum(d_in + d_out for d_in, d_out in shapes)
    assert lora.n_parameters(fresh()) == inside
    assert lora.n_parameters(fresh(embed_rank=5)) == inside + 2 * 5 * (20 + 16)
    assert lora.n_parameters(fresh(targets=("q",))) == 3 * 2 * (16 + 24)


@pytest.mark.parametrize("embed_rank", [0, 4])
def test_a_stack_comes_apart_bit_for_bit(embed_rank):
    adapters = [fresh(seed, embed_rank=embed_rank) for seed in range(3)]
    stacked = lora.stack(iter(adapters))
    assert {x.shape[0] for x in jax.tree.leaves(stacked)} == {3}
    for k, adapter in enumerate(adapters):
        jax.tree.map(np.testing.assert_array_equal, lora.unstack(stacked, k), adapter)
    assert not np.array_equal(adapters[0].layers["q"]["a"], adapters[1].layers["q"]["a"])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"targets": ("q", "z", "w")}, "lora.targets: unknown w, z; known: q k v o"),
        ({"rank": 0}, "lora.rank: 0 is no rank"),
        ({"embed_rank": -1}, "lora.embed_rank: -1 is no rank"),
        ({"blocks": (0, 3)}, "lora.blocks: (0, 3); the base has 3 blocks"),
        ({"blocks": (-1,)}, "lora.blocks: (-1,); the base has 3 blocks"),
    ],
)
def test_what_cannot_be_adapted_is_the_users_fault(options, line):
    with pytest.raises(UserError) as raised:
        fresh(**options)
    assert str(raised.value).startswith(line)


def module_names(config):
    return {
        f"layers.{l}.{module}": (name, l)
        for name, module in lora.MODULES.items()
        for l in range(config.n_layers)
    }


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ("all-linear", lambda name, l: True),
        ("attention", lambda name, l: name in "qkvo"),
        ("mlp", lambda name, l: name in ("gate", "up", "down")),
        (r"layers\.1\..*", lambda name, l: l == 1),
        (r".*\.(q|v)_proj", lambda name, l: name in "qv"),
        (r"layers\.0\.mlp\.up_proj", lambda name, l: (name, l) == ("up", 0)),
    ],
)
def test_targets_by_preset_and_pattern(targets, expected):
    """A targeted matrix starts with a random factor, every other with zeros alone."""
    adapter = lora.init_adapter(
        jax.random.key(0), CONFIG, lora.LoraConfig(rank=2, targets=targets)
    )
    for name, l in module_names(CONFIG).values():
        factors = adapter.layers.get(name)
        trained = factors is not None and bool(np.any(np.asarray(factors["a"][l])))
        assert trained == expected(name, l), (name, l)


@pytest.mark.parametrize(
    ("targets", "what"), [(r"layers\.9\..*", "matches no matrix"), ("(", "no regular")]
)
def test_a_pattern_that_matches_nothing_is_told(targets, what):
    with pytest.raises(UserError, match=what):
        lora.init_adapter(jax.random.key(0), CONFIG, lora.LoraConfig(targets=targets))


def test_rank_stabilised_scaling():
    config = lora.LoraConfig(rank=16, alpha=8.0, rslora=True)
    scale = lora.init_adapter(jax.random.key(0), CONFIG, config).scale
    np.testing.assert_allclose(scale, 2.0)
