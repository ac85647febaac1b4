"""Every family's table: config.json in and out, and a place for every tensor.

That the decoder computes what transformers computes is shown in parity_test.py and
families_parity_test.py.
"""

import json
import tracemalloc

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.errors import UserError
from cifr_jax.models.config import LocalRope
from cifr_jax.models.families import parameter_shapes, tensor_slots
from cifr_jax.models.families.registry import FAMILIES
from cifr_jax.models.hf_config import format_config, parse_config
from cifr_jax.models.rope import LinearRope, LongRope, YarnRope
from cifr_jax.testing_families import random_parameters, random_settings

NAN = float("nan")
YARN = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 64}  # fmt: skip
LONG = {"type": "longrope", "short_factor": [1.0, 1.0], "long_factor": [1.0, 1.0]}
every_family = pytest.mark.parametrize("family", FAMILIES)
SIZES = {
    "vocab_size": 50, "hidden_size": 16, "intermediate_size": 7, "num_hidden_layers": 7,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip


def parse(family: str, **changes):
    named = {"architectures": [FAMILIES[family].architecture]}
    return parse_config(named | SIZES | changes, "config.json")


@every_family
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_format_and_parse_are_inverse(family, seed):
    config = parse_config(random_settings(family, np.random.default_rng(seed)), "given")
    written = json.loads(json.dumps(format_config(config)))
    assert parse_config(written, "written") == config
    assert written["model_type"] == family


def write(slot, tree, tensor):
    for piece in slot.pieces:
        rows = tensor[piece.rows]
        piece.of(tree)[...] = rows.T if piece.transposed else rows


@every_family
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_tensors_fill_every_parameter_once_and_come_back(family, seed):
    rng = np.random.default_rng(seed)
    config = parse_config(random_settings(family, rng), family)
    params, slots = random_parameters(config, rng), tensor_slots(config)
    times_written = jax.tree.map(np.zeros_like, params)
    for slot in slots.values():
        assert slot.read(params).shape == slot.shape
        write(slot, times_written, slot.read(times_written) + 1)
    assert all((x == 1).all() for x in jax.tree.leaves(times_written))
    tensors = {name: slot.read(params) for name, slot in slots.items()}
    again = jax.tree.map(np.zeros_like, params)
    for name, slot in slots.items():
        write(slot, again, tensors[name])
    jax.tree.map(np.testing.assert_array_equal, again, params)
    assert sum(x.size for x in jax.tree.leaves(params)) == config.n_parameters()
    assert jax.tree.map(np.shape, params) == parameter_shapes(config)


def test_fused_tensors_hold_queries_then_keys_then_values_and_gate_before_up():
    rng = np.random.default_rng(0)
    config = parse("phi3")
    params = random_parameters(config, rng)
    slots = tensor_slots(config)
    one = {name: array[1] for name, array in params["layers"].items()}
    np.testing.assert_array_equal(
        slots["model.layers.1.self_attn.qkv_proj.weight"].read(params),
        np.concatenate([one["q"], one["k"], one["v"]], 1).T,
    )
    np.testing.assert_array_equal(
        slots["model.layers.1.mlp.gate_up_proj.weight"].read(params),
        np.concatenate([one["gate"], one["up"]], 1).T,
    )


@every_family
def test_what_no_family_reads_is_refused_by_name_and_value(family):
    for name, value in {
        "never_heard_of_it": 3,
        "quantization_config": {"bits": 4},
        "is_encoder_decoder": True,
        "partial_rotary_factor": 1.5,
        "num_hidden_layers": 10**9,
        "rms_norm_eps": float("nan"),
        "rope_theta": 10**400,
        "rope_scaling": {"rope_type": "dynamic", "factor": 2.0},
    }.items():
        with pytest.raises(UserError, match=r"^config.json: .*") as caught:
            parse(family, **{name: value})
        said = str(caught.value)
        word = "dynamic" if name == "rope_scaling" else name
        assert word in said and "\n" not in said and len(said) < 400


@pytest.mark.parametrize(
    ("family", "changes", "word"),
    [
        ("mistral", {"attention_bias": True}, "attention_bias = True"),
        ("mistral", {"sliding_window": 0}, "sliding_window is 0"),
        ("mistral", {"layer_types": ["full_attention"] * 7}, "layer_types"),
        ("qwen2", {"use_mrope": True}, "use_mrope"),
        ("qwen2", {"attention_bias": False}, "attention_bias"),
        ("qwen2", {"layer_types": ["sliding_attention"] * 7}, "no sliding_window"),
        ("qwen2", {"max_window_layers": -1}, "max_window_layers is -1"),
        ("qwen3", {"mlp_bias": True}, "mlp_bias"),
        ("gemma2", {"hidden_activation": "gelu"}, "hidden_activation = 'gelu'"),
        ("gemma2", {"use_bidirectional_attention": True}, "bidirectional"),
        ("gemma2", {"attn_logit_softcapping": -1.0}, "attn_logit_softcapping is -1.0"),
        ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar is 0"),
        ("gemma2", {"sliding_window": None}, "no sliding_window"),
        ("gemma2", {"layer_types": ["chunked_attention"] * 7}, "'chunked_attention'"),
        ("gemma2", {"layer_types": ["full_attention"]}, "a list of 7"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50.0"),
        ("gemma3_text", {"_sliding_window_pattern": 4}, "_sliding_window_pattern is 4"),
        (
            "gemma3_text",
            {"_sliding_window_pattern": 6, "sliding_window_pattern": 2},
            "_sliding_window_pattern is 6, not 2",
        ),
        ("gemma3_text", {"rope_parameters": {"rope_type": "default"}}, "types of layers"),
        ("gemma3_text", {"rope_parameters": {"full_attention": 3}}, "full_attention is 3"),
        ("smollm3", {"no_rope_layers": [1, 0]}, "a list of 7"),
        ("smollm3", {"no_rope_layers": [2] * 7}, "no_rope_layers holds 2"),
        ("smollm3", {"no_rope_layer_interval": 0}, "no_rope_layer_interval is 0"),
        ("phi3", {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}, "code is never run"),
        ("phi3", {"partial_rotary_factor": 0.1}, "partial_rotary_factor is 0.1"),
        ("phi3", {"partial_rotary_factor": NAN}, "partial_rotary_factor is nan; "),
        ("phi3", {"partial_rotary_factor": [1, 2]}, "partial_rotary_factor is [1, 2]"),
        (
            "phi3",
            {"partial_rotary_factor": 1, "rope_parameters": {"partial_rotary_factor": 0.5}},
            "two values of partial_rotary_factor: [0.5, 1.0]",
        ),
        ("llama", {"rope_theta": NAN}, "rope_theta is nan; give a positive number"),
        ("gemma3_text", {"rope_local_base_freq": NAN}, "rope_local_base_freq is nan; give"),
        ("phi3", {"head_dim": 6, "partial_rotary_factor": 0.5}, "even head size, not 3"),
        ("phi3", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "'linear'"),
        ("olmo2", {"clip_qkv": 8.0}, "clip_qkv = 8.0"),
        ("llama", {"rope_scaling": {"type": "yarn", "factor": 2.0}}, "original_max_pos"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 0}}, "factor is 0"),
    ],
)
def test_values_that_are_not_implemented_are_refused(family, changes, word):
    with pytest.raises(UserError, match=r"^config.json: ") as caught:
        parse(family, **changes)
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("llama", {"rope_theta": 5e-324}, "rope_theta = 5e-324 gives"),
        ("qwen3", {"rope_theta": 1e-38, "head_dim": 64}, "rope_theta = 1e-38 gives"),
        ("gemma3_text", {"rope_local_base_freq": 1e-44}, "rope_local_base_freq = 1e-44"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 1e-320}}, "r': 1e-320}"),
        ("llama", {"rope_scaling": LLAMA3 | {"factor": 1e-320}}, "'factor': 1e-320"),
        ("llama", {"rope_scaling": YARN | {"beta_slow": 1e-320}}, "'beta_slow': 1e-320"),
        ("llama", {"rope_parameters": YARN | {"beta_slow": 1e-320}}, "rope_parameters {'"),
        ("phi3", {"rope_scaling": LONG | {"long_factor": [1e-44, 1.0]}}, "rope_scaling {'"),
        ("phi3", {"rope_scaling": LONG | {"short_factor": [1.0, 1e-44]}}, "rope_scaling"),
        ("llama", {"head_dim": 2**30}, "heads of 1073741824 rotated dimensions"),
    ],
)
def test_rotations_that_are_not_finite_are_refused_by_field(family, changes, words):
    tracemalloc.start()
    with pytest.raises(UserError, match=r"^config.json: ") as caught:
        parse(family, **changes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert words in str(caught.value) and len(str(caught.value)) < 400
    assert peak < 1e6


@pytest.mark.parametrize("theta", [0.5, 1.5, 1e29])
def test_rotations_that_are_odd_but_finite_are_none_of_our_business(theta):
    assert parse("llama", rope_theta=theta).rope_theta == theta


def test_longrope_is_checked_against_the_rotated_dimensions():
    lists = {"short_factor": [1.0], "long_factor": [2.0]}
    good = {"type": "longrope", **lists}
    scaled = {"head_dim": 4, "partial_rotary_factor": 0.5, "rope_scaling": good}
    assert parse("phi3", **scaled).rope_scaling == LongRope((1.0,), (2.0,), 4096)
    for changes, word in (
        ({"short_factor": [1.0, 1.0]}, "short_factor does not have 1 numbers"),
        ({"long_factor": []}, "give a list of numbers"),
        ({"long_factor": [0.0]}, "long_factor is 0.0"),
        ({"original_max_position_embeddings": 64}, "two values of original_max"),
        ({"mscale": 1.0}, "mscale = 1.0"),
    ):
        with pytest.raises(UserError) as caught:
            parse("phi3", **scaled | {"rope_scaling": good | changes})
        assert word in str(caught.value)


def test_what_transformers_takes_where_a_config_says_nothing():
    mistral = parse("mistral")
    assert (mistral.window, mistral.window_layers) == (4096, tuple(range(7)))
    assert parse("mistral", sliding_window=None).window_layers == ()
    qwen2 = parse("qwen2", use_sliding_window=True, sliding_window=8, max_window_layers=5)
    assert (qwen2.window, qwen2.window_layers) == (8, (5, 6))
    assert parse("qwen2", sliding_window=8, max_window_layers=5).window is None
    assert parse("qwen2").biases == ("q", "k", "v")
    assert parse("qwen3").d_head == 128
    gemma2 = parse("gemma2")
    assert gemma2.window_layers == (0, 2, 4, 6) and gemma2.tie_embeddings
    assert (gemma2.attention_cap, gemma2.logit_cap, gemma2.query_scale) == (50, 30, 256)
    assert parse("gemma2", final_logit_softcapping=None).logit_cap is None
    gemma3 = parse("gemma3_text")
    assert gemma3.window_layers == (0, 1, 2, 3, 4, 6)
    assert parse("gemma3_text", sliding_window_pattern=2).window_layers == (0, 2, 4, 6)
    assert (gemma3.rope_theta, gemma3.local_rope) == (1e6, LocalRope(1e4))
    assert (gemma3.attention_cap, gemma3.logit_cap) == (None, None)
    smollm3 = parse("smollm3")
    assert smollm3.no_rope_layers == (3,) and smollm3.rope_theta == 2e6
    windowed = parse("smollm3", use_sliding_window=True, sliding_window=8)
    assert windowed.window_layers == windowed.no_rope_layers
    olmo2 = parse("olmo2")
    assert (olmo2.pre_norm, olmo2.post_norm, olmo2.qk_norm) == (False, True, "width")


def test_the_same_rotation_in_the_words_of_transformers_4_and_5():
    yarn = {"factor": 4.0, "original_max_position_embeddings": 32}
    old = parse("qwen2", rope_theta=5e5, rope_scaling=yarn | {"type": "yarn"})
    new = yarn | {"rope_type": "yarn", "rope_theta": 5e5}
    assert old == parse("qwen2", rope_parameters=new)
    assert old.rope_scaling == YarnRope(4.0, 32)
    scaled = {"rope_type": "linear", "factor": 8.0}
    old = parse("gemma3_text", rope_local_base_freq=7e3, rope_scaling=scaled)
    both = {
        "full_attention": scaled | {"rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 7e3},
    }
    assert old == parse("gemma3_text", rope_parameters=both)
    assert old.rope_scaling == LinearRope(8.0)
    with pytest.raises(UserError, match="rope_parameters and rope_scaling differ"):
        parse("llama", rope_scaling=scaled, rope_parameters={"rope_type": "default"})


def test_published_folders_of_phi3_name_their_own_code_which_is_not_run():
    code = {
        "AutoConfig": "configuration_phi3.Phi3Config",
        "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM",
    }
    assert parse("phi3", auto_map=code) == parse("phi3")
    with pytest.raises(UserError, match="auto_map"):
        parse("llama", auto_map=code)


def test_the_name_of_a_plain_llama_is_what_it_was_before_there_were_other_families():
    """Calibrations are kept under a fingerprint that contains it."""
    assert repr(parse("llama", rope_theta=5.0)) == (
        "DecoderConfig(vocab_size=50, d_model=16, n_layers=7, n_heads=4, n_kv_heads=2, "
        "d_head=4, d_ff=7, rope_theta=5.0, rope_scaling=None, norm_eps=1e-06, "
        "tie_embeddings=False, max_positions=2048)"
    )
    assert "window=8" in repr(parse("mistral", sliding_window=8))
