"""Which modules a PEFT config adapts, at what rank and scale; what is refused in it.

That PEFT takes the same settings for the same function is shown by peft_parity_test.py.
"""

import json
import time

import pytest

from cifr_jax.errors import UserError
from cifr_jax.finetune import peft_settings
from cifr_jax.finetune.peft_settings import Update, format_settings, parse_settings

ATTENTION, MLP = ("q", "k", "v", "o"), ("gate", "up", "down")
MODULES: dict[str, int | None] = {"model.embed_tokens": None}
for _block in range(3):
    for _kind, _names in (("self_attn", ATTENTION), ("mlp", MLP)):
        for _name in _names:
            MODULES[f"model.layers.{_block}.{_kind}.{_name}_proj"] = _block
MODULES["lm_head"] = None
SOUND = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}


def parse(**changes) -> dict[str, Update]:
    return parse_settings(SOUND | changes, "adapter_config.json", MODULES)


def short(updates: dict[str, Update]) -> dict[str, tuple[int, float]]:
    """With "0.q" for the first block's query matrix."""
    found = {}
    for module, update in updates.items():
        number, _, name = module.removeprefix("model.layers.").rpartition(".")
        block = number.split(".")[0]
        key = f"{block}.{name.removesuffix('_proj')}" if block.isdigit() else name
        found[key] = (update.rank, update.scale)
    return found


@pytest.mark.parametrize(
    ("changes", "adapted"),
    [
        ({}, ["0.q", "1.q", "2.q"]),
        ({"target_modules": ["layers.1.self_attn.q_proj", "c_attn"]}, ["1.q"]),
        ({"target_modules": ["lm_head", "embed_tokens"]}, ["embed_tokens", "lm_head"]),
        ({"target_modules": ["proj", "_head", "lm_head"]}, ["lm_head"]),
        ({"target_modules": "all-linear", "exclude_modules": ["mlp.up_proj"]},
         [f"{i}.{n}" for i in range(3) for n in (*ATTENTION, "gate", "down")]),
        ({"layers_to_transform": 1}, ["1.q"]),
        ({"layers_to_transform": 0, "layers_pattern": "layers"}, ["0.q"]),
        ({"layers_to_transform": [2, 0], "layers_pattern": ["layers"]}, ["0.q", "2.q"]),
        ({"layers_to_transform": []}, ["0.q", "1.q", "2.q"]),
        # In no block: named in full it is adapted, by the end of its name it is not.
        ({"target_modules": ["q_proj", "embed_tokens"], "layers_to_transform": [0]},
         ["0.q"]),
        ({"target_modules": ["model.embed_tokens", "q_proj", "lm_head",
                             "model.layers.2.mlp.up_proj"], "layers_to_transform": [0]},
         ["embed_tokens", "0.q", "2.up", "lm_head"]),
        ({"exclude_modules": ["1.self_attn.q_proj"]}, ["0.q", "2.q"]),
        ({"exclude_modules": r".*\.[02]\..*"}, ["1.q"]),
        ({"target_modules": r"model\.layers\.1\..*(q|k)_proj"}, ["1.q", "1.k"]),
        ({"target_modules": "q_proj|lm_head"}, ["lm_head"]),  # of the whole name
    ],
)  # fmt: skip
def test_modules_are_those_of_peft(changes, adapted):
    assert short(parse(**changes)) == dict.fromkeys(adapted, (4, 2.0))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"use_rslora": True}, [(4, 4), (4, 4), (4, 4)]),
        ({"lora_alpha": -1.5}, [(4, -0.375)] * 3),
        ({"rank_pattern": {"q_proj": 2}}, [(2, 4)] * 3),
        ({"rank_pattern": {"q_proj": 16}, "use_rslora": True}, [(16, 2)] * 3),
        ({"alpha_pattern": {"q": 1, "_proj": 1, "proj": 1}}, [(4, 2)] * 3),
        ({"alpha_pattern": {"1.self_attn.q_proj": 12}}, [(4, 2), (4, 3), (4, 2)]),
        (
            {
                "rank_pattern": {"^model.layers.0.self_attn.q_proj": 1, "k_proj": 3},
                "alpha_pattern": {r"layers\.[12]\..*": 4, "q_proj": 2},
            },
            [(1, 2), (4, 1), (4, 1)],
        ),
        # The first that fits counts.
        ({"alpha_pattern": {".*q_proj": 4, "0.self_attn.q_proj": 99}}, [(4, 1)] * 3),
        ({"alpha_pattern": {}, "rank_pattern": None}, [(4, 2)] * 3),
    ],
)
def test_ranks_and_scales_are_those_of_peft(changes, expected):
    assert list(short(parse(**changes)).values()) == expected


def test_settings_that_leave_the_function_alone_are_ignored():
    harmless = {
        "auto_mapping": {"base_model_class": "LlamaForCausalLM"},
        "base_model_name_or_path": "base",
        "peft_version": "9.9",
        "lora_dropout": 0.3,
        "revision": "abc",
        "megatron_core": "megatron.core",
        "qalora_group_size": 16,
        "eva_config": {"rho": 2.0},
        "init_lora_weights": "eva",
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
    }
    off: dict = {
        "modules_to_save": None,
        "use_dora": False,
        "loftq_config": {},
        "future": [],
    }
    assert parse(**harmless, **off) == parse()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_type", "LOHA"),
        ("peft_type", None),
        ("task_type", "SEQ_CLS"),
        ("use_dora", True),
        ("bias", "lora_only"),
        ("lora_bias", True),
        ("fan_in_fan_out", True),
        ("modules_to_save", ["lm_head"]),
        ("init_lora_weights", "pissa_niter_4"),
        ("init_lora_weights", "loftq"),
        ("ensure_weight_tying", True),
        ("trainable_token_indices", [1, 2]),
        ("target_parameters", ["mlp.experts"]),
        ("layer_replication", [[0, 2], [1, 3]]),
        ("alora_invocation_tokens", [5]),
        ("use_qalora", True),
        ("setting_of_the_future", "on"),
        ("use_rslora", "yes"),
        ("layers_pattern", ["h"]),
        ("layers_to_transform", [0, 3]),
        ("layers_to_transform", [-1]),
        ("layers_to_transform", "0"),
        ("layers_to_transform", [True]),
        ("r", 0),
        ("r", 2.0),
        ("r", True),
        ("r", 10**400),
        ("lora_alpha", "16"),
        ("lora_alpha", None),
        ("lora_alpha", float("nan")),
        ("lora_alpha", 10**400),
        ("target_modules", []),
        ("target_modules", None),
        ("target_modules", ["c_attn"]),
        ("target_modules", [3]),
        ("target_modules", 3),
        ("target_modules", "c_attn"),
        ("target_modules", "(q_proj"),
        ("exclude_modules", "["),
        ("exclude_modules", ["down_proj", None]),
        ("rank_pattern", {"q_proj": 0}),
        ("rank_pattern", ["q_proj"]),
        ("rank_pattern", {"*q": 3}),
        ("alpha_pattern", {"q_proj": float("inf")}),
    ],
)
def test_what_is_not_implemented_is_refused_by_name_and_value(key, value):
    with pytest.raises(UserError) as caught:
        parse(**{key: value})
    assert caught.value.where == "adapter_config.json"
    assert f"{key} is {json.dumps(value)}"[:70] in caught.value.what
    assert caught.value.mend and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_everything_excluded_is_nothing_adapted():
    with pytest.raises(UserError, match="nothing is adapted; known: embed_tokens q_proj"):
        parse(exclude_modules=["q_proj"])


def test_blocks_beside_a_regular_expression_are_refused_as_by_peft():
    with pytest.raises(UserError, match=r"layers_to_transform is \[0\]; .* as a list"):
        parse(target_modules=".*_proj", layers_to_transform=[0])


@pytest.mark.parametrize("key", ["peft_type", "r", "lora_alpha", "target_modules"])
def test_what_is_needed_is_asked_for(key):
    left = {name: value for name, value in SOUND.items() if name != key}
    with pytest.raises(UserError, match=f"no {key}"):
        parse_settings(left, "adapter_config.json", MODULES)


@pytest.mark.parametrize("key", ["target_modules", "alpha_pattern"])
def test_a_regular_expression_that_runs_for_years_is_stopped(key, monkeypatch):
    monkeypatch.setattr(peft_settings, "_SECONDS", 1)
    endless = r"((\w+\.?)+)+!"
    started = time.monotonic()
    with pytest.raises(UserError, match=f"{key} is .*; takes too long"):
        parse(**{key: endless if key == "target_modules" else {endless: 1}})
    assert time.monotonic() - started < 30


# What is written


def written(adapted: dict[str, int]) -> dict:
    """Settings for modules at the scale 2."""
    updates = {m: Update(adapted[m], 2.0) for m in MODULES if m in adapted}
    alphas = {rank: 2 * rank for rank in adapted.values()}
    return format_settings(updates, MODULES, alphas, "base")


@pytest.mark.parametrize(
    "adapted",
    [
        dict.fromkeys(MODULES, 4),
        {m: 4 for m, block in MODULES.items() if block is not None},
        {m: 4 if block is None else 2 for m, block in MODULES.items()},
        {m: 2 if block is None else 4 for m, block in MODULES.items()},
        {m: 4 for m, block in MODULES.items() if block in (0, 2, None)},
        {m: 4 for m, block in MODULES.items() if block == 1},
        {"model.embed_tokens": 3},
        {"lm_head": 3, "model.layers.1.mlp.up_proj": 1},
    ],
)
def test_what_is_written_is_read_back(adapted):
    given = written(adapted)
    json.dumps(given, allow_nan=False)
    assert parse_settings(given, "x", MODULES) == {m: (r, 2) for m, r in adapted.items()}


def test_a_server_that_knows_no_patterns_has_the_greatest_rank_and_the_scale():
    given = written({m: 2 if block is None else 4 for m, block in MODULES.items()})
    assert (given["r"], given["lora_alpha"]) == (4, 8)
    assert given["rank_pattern"] == {"embed_tokens": 2, "lm_head": 2}
    assert given["alpha_pattern"] == {"embed_tokens": 4, "lm_head": 4}
    assert given["layers_to_transform"] is None
    assert given["modules_to_save"] is None and given["bias"] == "none"
