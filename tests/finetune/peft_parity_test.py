"""PEFT computes what we compute, with adapters of ours and of its own.

Names that fit prove nothing: a factor that is dropped, transposed or scaled otherwise loads
without a word. So logits are compared, and must differ from the base's.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from cifr_jax.errors import UserError
from cifr_jax.finetune.lora import LoraConfig, init_adapter
from cifr_jax.finetune.peft import load_peft, save_peft
from cifr_jax.models import decoder
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import LAYER_MATRICES, Adapter
from cifr_jax.models.hf_folder import save_hf_folder
from cifr_jax.testing import byte_tokenizer

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]
TOLERANCE = 1e-4
VISIBLE = 1e-2  # an adapter changes logits by more than a hundred tolerances
VOCABULARY = 270

forward = jax.jit(decoder.forward, static_argnums=0)

SHAPES: dict[str, dict[str, Any]] = {
    "mha_tied": {"n_heads": 4, "n_kv_heads": 4, "tie_embeddings": True},
    "mha_untied": {"n_heads": 4, "n_kv_heads": 4, "tie_embeddings": False},
    "gqa_tied": {"n_heads": 4, "n_kv_heads": 2, "tie_embeddings": True},
    "gqa_untied": {"n_heads": 4, "n_kv_heads": 2, "tie_embeddings": False},
    # q and o are square here: a transposed factor would fit.
    "square": {"n_heads": 4, "n_kv_heads": 4, "tie_embeddings": False, "d_head": 6},
}


class Base:
    """A random model, as ours and as a folder for transformers."""

    def __init__(self, folder: Path, **settings):
        rng = np.random.default_rng(0)
        shape = {"d_head": 8, "d_model": 24, "n_layers": 3, "d_ff": 40} | settings
        self.config = DecoderConfig(vocab_size=VOCABULARY, **shape)

        def leaf(path, x):
            norm = "norm" in jax.tree_util.keystr(path)
            value = rng.normal(size=x.shape) * x.shape[-1 if x.ndim < 3 else -2] ** -0.5
            return (1 + 0.1 * value if norm else 2 * value).astype(np.float32)

        params = decoder.Decoder(self.config, rngs=nnx.Rngs(0)).split()
        self.params = jax.tree_util.tree_map_with_path(leaf, params)
        self.folder = folder
        save_hf_folder(folder, self.config, self.params, byte_tokenizer())
        self.tokens_bt = rng.integers(0, VOCABULARY, (2, 19))

    def ours(self, adapter: Adapter | None):
        mask_bt = np.ones_like(self.tokens_bt, bool)
        return np.asarray(
            forward(self.config, self.params, self.tokens_bt, mask_bt, adapter)
        )

    def model(self):
        """A fresh copy in transformers: PEFT changes models in place."""
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(self.folder).eval().float()

    def theirs(self, model):
        import torch

        with torch.no_grad():
            return model(torch.tensor(self.tokens_bt)).logits.numpy()


@pytest.fixture(scope="module", params=SHAPES)
def base(request, tmp_path_factory):
    pytest.importorskip("peft")
    return Base(tmp_path_factory.mktemp("base"), **SHAPES[request.param])


@pytest.fixture(scope="module")
def gqa(tmp_path_factory):
    pytest.importorskip("peft")
    return Base(tmp_path_factory.mktemp("base"), **SHAPES["gqa_untied"])


def in_peft(base: Base, folder: Path):
    """Logits in PEFT, which may not complain of missing or unknown tensors."""
    from peft import PeftModel

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(base.model(), folder)
    texts = [str(warning.message) for warning in caught]
    assert not any("missing" in text or "unexpected" in text for text in texts), texts
    assert model.peft_config["default"].base_model_name_or_path == "base"
    return base.theirs(model.eval())


def check(base: Base, adapter: Adapter, theirs):
    ours, plain = base.ours(adapter), base.ours(None)
    difference, effect = np.abs(ours - theirs).max(), np.abs(theirs - plain).max()
    print(f"difference {difference:.1e}, effect of the adapter {effect:.1e}")
    assert difference < TOLERANCE
    assert effect > VISIBLE


def random_adapter(base: Base, lora: LoraConfig) -> Adapter:
    rng = np.random.default_rng(1)
    adapter = init_adapter(jax.random.key(0), base.config, lora)

    def fill(x):
        return (0.15 * rng.normal(size=x.shape)).astype(np.float32)

    return jax.tree.map(fill, adapter._replace(scale=None))._replace(scale=adapter.scale)


OURS = {
    "blocks_and_ends": LoraConfig(rank=4, alpha=2, embed_rank=4),
    "other_rank_at_the_ends": LoraConfig(rank=3, alpha=1, embed_rank=7),
    "smaller_rank_at_the_ends": LoraConfig(rank=5, alpha=2.5, embed_rank=2),
    "some_blocks_and_ends": LoraConfig(rank=4, alpha=2, embed_rank=2, blocks=(0, 2)),
    "one_block": LoraConfig(rank=4, alpha=4, blocks=(1,)),
    "attention": LoraConfig(rank=2, alpha=2, targets=("q", "k", "v", "o")),
    **{name: LoraConfig(rank=2, alpha=2, targets=(name,)) for name in LAYER_MATRICES},
}


@pytest.mark.parametrize("case", OURS)
def test_an_adapter_of_ours_in_peft(gqa, case, tmp_path):
    adapter = random_adapter(gqa, OURS[case])
    save_peft(adapter, tmp_path / "x", gqa.config, "base", OURS[case], {"seed": 1})
    check(gqa, adapter, in_peft(gqa, tmp_path / "x"))


@pytest.mark.parametrize("case", ["blocks_and_ends", "some_blocks_and_ends"])
def test_an_adapter_of_ours_on_every_kind_of_base(base, case, tmp_path):
    adapter = random_adapter(base, OURS[case])
    save_peft(adapter, tmp_path / "x", base.config, "base")
    check(base, adapter, in_peft(base, tmp_path / "x"))


def test_only_the_embedding_or_only_the_head(base, tmp_path):
    adapter = random_adapter(base, OURS["blocks_and_ends"])
    for kept in ("embed", "head"):
        part = Adapter({}, None, None, adapter.scale)
        part = part._replace(**{kept: getattr(adapter, kept)})
        save_peft(part, tmp_path / kept, base.config, "base")
        check(base, part, in_peft(base, tmp_path / kept))


def test_scales_that_differ_by_block(gqa, tmp_path):
    adapter = random_adapter(gqa, OURS["other_rank_at_the_ends"])
    adapter = adapter._replace(scale=np.array([0.3, -0.7, 0, 0.2], np.float32))
    save_peft(adapter, tmp_path / "x", gqa.config, "base")
    check(gqa, adapter, in_peft(gqa, tmp_path / "x"))


def test_the_comparison_notices_a_wrong_scale_and_a_wrong_factor(gqa, tmp_path):
    """PEFT loads both without an error."""
    import safetensors.numpy

    adapter = random_adapter(gqa, OURS["blocks_and_ends"])
    save_peft(adapter, tmp_path / "x", gqa.config, "base")
    path = tmp_path / "x" / "adapter_config.json"
    sound = path.read_text()
    path.write_text(json.dumps(json.loads(sound) | {"lora_alpha": 2.01}))
    with pytest.raises(AssertionError):
        check(gqa, adapter, in_peft(gqa, tmp_path / "x"))
    path.write_text(sound)
    weights = tmp_path / "x" / "adapter_model.safetensors"
    tensors = safetensors.numpy.load_file(weights)
    name = "base_model.model.model.layers.2.self_attn.k_proj.lora_B.weight"
    tensors[name] = np.roll(tensors[name], 1, 0)
    safetensors.numpy.save_file(tensors, weights)
    with pytest.raises(AssertionError):
        check(gqa, adapter, in_peft(gqa, tmp_path / "x"))


ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
THEIRS: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": ["q_proj", "v_proj"]},
    "all_linear_rslora": {"target_modules": "all-linear", "use_rslora": True},
    "ends": {"target_modules": ["embed_tokens", "lm_head"]},
    "ends_and_blocks": {"target_modules": [*ALL, "embed_tokens", "lm_head"]},
    "some_blocks": {"target_modules": ALL, "layers_to_transform": [0, 2]},
    "one_block": {"target_modules": ALL, "layers_to_transform": 1},
    "some_blocks_and_ends_by_short_name": {
        "target_modules": ["up_proj", "embed_tokens", "lm_head"],
        "layers_to_transform": [1],
        "layers_pattern": "layers",
    },
    "full_names": {
        "target_modules": ["q_proj", "model.embed_tokens", "model.layers.0.mlp.up_proj"],
        "layers_to_transform": [2],
    },
    "regular_expression": {"target_modules": r"(.*\.[02]\..*(q|down)_proj)|lm_head"},
    "excluded": {"target_modules": ALL, "exclude_modules": ["down_proj", "0.mlp.up_proj"]},
    "excluded_by_expression": {"target_modules": ALL, "exclude_modules": r".*\.1\..*"},
    "patterns": {
        "target_modules": [*ALL, "embed_tokens"],
        # PEFT sorts patterns as it saves: where two fit, it cannot load its own file.
        "rank_pattern": {"q_proj": 2, r"layers\.1\.mlp.*": 6, "embed_tokens": 3},
        "alpha_pattern": {"^model.layers.0.self_attn.q_proj": 3, "layers.[12].mlp.*": 9},
    },
    "patterns_rslora": {
        "target_modules": ["q_proj", "k_proj", "down_proj", "lm_head", "embed_tokens"],
        "rank_pattern": {"self_attn.k_proj": 1, "lm_head": 5},
        "alpha_pattern": {"down_proj": 1.5, "lm_head": 7},
        "use_rslora": True,
    },
    "other_starts": {"target_modules": ALL, "init_lora_weights": "gaussian"},
    "orthogonal": {"target_modules": ALL, "init_lora_weights": "orthogonal"},
}


def made_by_peft(base: Base, folder: Path, dtype=None, **settings):
    """Saves a random adapter of PEFT; returns its logits."""
    import torch
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    torch.manual_seed(2)
    settings = {"r": 4, "lora_alpha": 6, "task_type": "CAUSAL_LM"} | settings
    model = get_peft_model(base.model(), PeftConfig(**settings)).eval()
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
            if dtype is not None:
                parameter.data = parameter.data.to(getattr(torch, dtype)).float()
    logits = base.theirs(model)
    if dtype is not None:
        model = model.to(getattr(torch, dtype))
    model.save_pretrained(folder)
    return logits


@pytest.mark.parametrize("case", THEIRS)
def test_an_adapter_of_peft_here(gqa, case, tmp_path):
    logits = made_by_peft(gqa, tmp_path, **THEIRS[case])
    check(gqa, load_peft(tmp_path, gqa.config, gqa.params), logits)


@pytest.mark.parametrize("case", ["ends_and_blocks", "patterns_rslora"])
def test_an_adapter_of_peft_on_every_kind_of_base(base, case, tmp_path):
    logits = made_by_peft(base, tmp_path, **THEIRS[case])
    check(base, load_peft(tmp_path, base.config, base.params), logits)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_an_adapter_of_peft_in_half_precision(gqa, dtype, tmp_path):
    logits = made_by_peft(gqa, tmp_path, dtype, **THEIRS["ends_and_blocks"])
    check(gqa, load_peft(tmp_path, gqa.config, gqa.params), logits)


def test_there_and_back_again(gqa, tmp_path):
    logits = made_by_peft(gqa, tmp_path / "theirs", **THEIRS["patterns"])
    adapter = load_peft(tmp_path / "theirs", gqa.config, gqa.params)
    save_peft(adapter, tmp_path / "ours", gqa.config, "base")
    np.testing.assert_allclose(in_peft(gqa, tmp_path / "ours"), logits, atol=TOLERANCE)


def test_a_base_that_peft_changed_is_refused(gqa, tmp_path):
    """Starts such as PiSSA's take the adapter's start out of the base's weights."""
    for name, start in (("pissa", "pissa"), ("olora", "olora")):
        made_by_peft(gqa, tmp_path / name, target_modules=ALL, init_lora_weights=start)
        with pytest.raises(UserError, match=f'init_lora_weights is "{start}"'):
            load_peft(tmp_path / name, gqa.config, gqa.params)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"use_dora": True}, "use_dora is true"),
        ({"bias": "all"}, 'bias is "all"'),
        ({"lora_bias": True}, "lora_bias is true"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is"),
        ({"trainable_token_indices": [1, 2]}, "trainable_token_indices is"),
        ({"layer_replication": [(0, 2), (1, 3)]}, "layer_replication is"),
        ({"task_type": "SEQ_CLS"}, 'task_type is "SEQ_CLS"'),
    ],
)
def test_what_peft_can_and_we_cannot_is_refused(gqa, tmp_path, settings, words):
    if settings.get("task_type"):
        made_by_peft(gqa, tmp_path, target_modules=ALL)
        path = tmp_path / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    else:
        made_by_peft(gqa, tmp_path, target_modules=ALL, **settings)
    with pytest.raises(UserError, match=words):
        load_peft(tmp_path, gqa.config, gqa.params)


def test_other_methods_are_refused(gqa, tmp_path):
    from peft import IA3Config, LoHaConfig, get_peft_model

    for name, config in (
        ("LOHA", LoHaConfig(r=2, target_modules=["q_proj"])),
        ("IA3", IA3Config(target_modules=["k_proj"], feedforward_modules=[])),
    ):
        get_peft_model(gqa.model(), config).save_pretrained(tmp_path / name)
        with pytest.raises(UserError) as caught:
            load_peft(tmp_path / name, gqa.config, gqa.params)
        assert name in str(caught.value)
