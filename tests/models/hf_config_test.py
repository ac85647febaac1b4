"""config.json: every attribute is implemented, harmless, or refused by name and value."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.errors import UserError
from cifr_jax.models.config import DecoderConfig, RopeScaling
from cifr_jax.models.hf_config import format_config, parse_config

GOLDEN = Path(__file__).parents[1] / "goldens" / "llama" / "gqa_llama3" / "config.json"
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
MINIMAL = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 50,
    "hidden_size": 12,
    "intermediate_size": 7,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
}


def parse(**changes) -> DecoderConfig:
    return parse_config(MINIMAL | changes, "config.json")


def test_defaults_are_those_of_transformers():
    assert parse() == DecoderConfig(
        vocab_size=50,
        d_model=12,
        n_layers=2,
        n_heads=3,
        n_kv_heads=3,
        d_head=4,
        d_ff=7,
        rope_theta=10000.0,
        rope_scaling=None,
        norm_eps=1e-6,
        tie_embeddings=False,
        max_positions=2048,
    )


def test_a_config_written_by_transformers_5():
    config = parse_config(json.loads(GOLDEN.read_text()), str(GOLDEN))
    assert (config.n_heads, config.n_kv_heads, config.d_head) == (2, 1, 16)
    assert config.rope_theta == 1000.0
    assert config.rope_scaling == RopeScaling(4.0, 1.0, 4.0, 32)


def test_rope_of_transformers_4_and_5_is_the_same():
    old = parse(rope_theta=5e5, rope_scaling=LLAMA3)
    assert old.rope_scaling == RopeScaling(8.0, 1.0, 4.0, 64)
    assert old == parse(rope_parameters=LLAMA3 | {"rope_theta": 5e5})
    assert parse(rope_scaling={"type": "default"}) == parse(rope_scaling=None) == parse()


@pytest.mark.parametrize(
    "name, value",
    [
        ("architectures", ["GPT2LMHeadModel"]),
        ("architectures", ["LlamaForCausalLM", "Other"]),
        ("architectures", None),
        ("model_type", "mistral"),
        ("hidden_act", "gelu"),
        ("attention_bias", 1),
        ("mlp_bias", "yes"),
        ("rope_interleaved", True),
        ("partial_rotary_factor", 0.5),
        ("partial_rotary_factor", True),
        ("sliding_window", 4096),
        ("quantization_config", {"bits": 4}),
        ("auto_map", {"AutoModel": "evil.py"}),
        ("attention_multiplier", 0.5),
        ("never_heard_of_it", 0),
        ("tie_word_embeddings", "yes"),
        ("rms_norm_eps", 0),
        ("rms_norm_eps", None),
        ("rms_norm_eps", float("nan")),
        ("rope_theta", 0),
        ("rope_theta", float("inf")),
        ("hidden_size", 13),  # three heads, no head_dim
        ("hidden_size", 12.0),
        ("hidden_size", -12),
        ("head_dim", 5),
        ("num_key_value_heads", 2),
        ("num_hidden_layers", True),
        ("num_hidden_layers", 10**12),
        ("vocab_size", None),
        ("rope_scaling", {"rope_type": "yarn", "factor": 2.0}),
        ("rope_scaling", {"type": "linear"}),
        ("rope_scaling", {"type": ["default"]}),
        ("rope_scaling", {"type": "default", "factor": 2.0}),
        ("rope_scaling", LLAMA3 | {"mscale": 1.0}),
        ("rope_scaling", LLAMA3 | {"factor": "8"}),
        ("rope_scaling", LLAMA3 | {"high_freq_factor": 1.0}),
        ("rope_scaling", {"rope_type": "llama3"}),
        ("rope_scaling", "llama3"),
        ("rope_parameters", {"rope_theta": 1.0, "partial_rotary_factor": 0.5}),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(name, value):
    words = {"head_dim": "even", "num_key_value_heads": "heads"}
    with pytest.raises(
        UserError, match=rf"^config.json: .*{words.get(name, name)}"
    ) as caught:
        parse(**{name: value})
    assert "\n" not in str(caught.value)


def test_the_value_is_named_too():
    with pytest.raises(UserError, match="hidden_act = 'gelu'.*'silu'"):
        parse(hidden_act="gelu")


def test_biases_of_attention_and_feed_forward():
    assert parse().biases == ()
    assert parse(attention_bias=True).biases == ("q", "k", "v", "o")
    assert parse(mlp_bias=True).biases == ("gate", "up", "down")


def test_two_values_of_theta_are_refused():
    with pytest.raises(UserError, match=r"two values of rope_theta: 5.0, 7.0"):
        parse(rope_theta=7.0, rope_parameters={"rope_theta": 5.0})


def test_a_missing_size_is_named():
    settings = {k: v for k, v in MINIMAL.items() if k != "intermediate_size"}
    with pytest.raises(UserError, match="intermediate_size is None"):
        parse_config(settings, "config.json")


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_format_and_parse_are_inverse(data):
    size = st.integers(1, 1000)
    n_kv_heads = data.draw(size)
    config = DecoderConfig(
        vocab_size=data.draw(size),
        d_model=data.draw(size),
        n_layers=data.draw(size),
        n_heads=n_kv_heads * data.draw(size),
        n_kv_heads=n_kv_heads,
        d_head=2 * data.draw(size),
        d_ff=data.draw(size),
        rope_theta=data.draw(st.floats(1, 1e7)),
        rope_scaling=data.draw(st.none() | st.just(RopeScaling(8.0, 1.0, 4.0, 64))),
        norm_eps=data.draw(st.floats(1e-9, 1e-2)),
        tie_embeddings=data.draw(st.booleans()),
        max_positions=data.draw(size),
    )
    settings_read_back = json.loads(json.dumps(format_config(config)))
    again = parse_config(settings_read_back, "config.json")
    assert dataclasses.asdict(again) == dataclasses.asdict(config)
