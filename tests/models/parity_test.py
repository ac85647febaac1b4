"""The decoder computes what transformers computes.

The goldens (made by tests/goldens/make_goldens.py) are read without torch. Largest absolute
difference of a logit measured over them: 1e-5, at logits of order one to five. Random
models of every family, beside live transformers, are in families_parity_test.py.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from cifr_jax.models import decoder
from cifr_jax.models.families.registry import FAMILIES
from cifr_jax.models.hf_folder import load_hf_folder, save_hf_folder
from cifr_jax.models.loading import load

GOLDENS = Path(__file__).parents[1] / "goldens"
CASES = sorted(folder.name for folder in (GOLDENS / "llama").iterdir())
FOLDERS = [f"llama/{case}" for case in CASES]
FOLDERS += sorted(f"families/{folder.name}" for folder in (GOLDENS / "families").iterdir())
TOLERANCE = 3e-5

forward = jax.jit(decoder.forward, static_argnums=0)


def expected_of(folder: str) -> dict[str, np.ndarray]:
    with np.load(GOLDENS / folder / "expected.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def largest_difference(logits_btv, expected_btv, mask_bt) -> float:
    return float(np.abs(np.asarray(logits_btv) - expected_btv)[np.asarray(mask_bt)].max())


@pytest.mark.parametrize("folder", FOLDERS)
def test_logits_equal_those_of_transformers(folder):
    golden = expected_of(folder)
    config, params, _ = load_hf_folder(GOLDENS / folder)
    logits = forward(config, params, golden["tokens_bt"], golden["mask_bt"])
    difference = largest_difference(logits, golden["logits_btv"], golden["mask_bt"])
    print(f"{folder}: largest difference {difference:.1e}")
    assert difference < TOLERANCE


def test_there_is_a_golden_of_every_family():
    families = {load_hf_folder(GOLDENS / folder)[0].family for folder in FOLDERS}
    assert families == set(FAMILIES)


def test_goldens_cover_the_claimed_variants():
    configs = [load_hf_folder(GOLDENS / "llama" / case)[0] for case in CASES]
    kinds = {(c.n_kv_heads == c.n_heads, c.n_kv_heads == 1 < c.n_heads) for c in configs}
    assert kinds == {(True, False), (False, False), (False, True)}  # MHA, GQA, MQA
    assert {c.tie_embeddings for c in configs} == {True, False}
    assert any(c.rope_scaling for c in configs)
    assert any(c.n_heads % 2 and c.d_head * c.n_heads != c.d_model for c in configs)


def test_left_padding_gives_the_logits_of_right_padding():
    golden = expected_of("llama/gqa_llama3")
    config, params, _ = load_hf_folder(GOLDENS / "llama" / "gqa_llama3")
    tokens, mask, expected = (golden[k] for k in ("tokens_bt", "mask_bt", "logits_btv"))
    shifts = (~mask).sum(1)

    def roll(rows):
        return np.stack([np.roll(row, n, 0) for row, n in zip(rows, shifts, strict=True)])

    assert shifts.max() > 0
    logits = forward(config, params, roll(tokens), roll(mask))
    assert largest_difference(logits, roll(expected), roll(mask)) < TOLERANCE


@pytest.mark.parametrize("broken", ["rope_theta", "rope_scaling", "norm_eps"])
def test_parity_notices_a_wrong_config(broken):
    """The tolerance is tight enough to see each of these settings."""
    case = "mha_tied" if broken == "norm_eps" else "gqa_llama3"
    golden = expected_of(f"llama/{case}")
    config, params, _ = load_hf_folder(GOLDENS / "llama" / case)
    wrong = {"rope_theta": 10000.0, "rope_scaling": None, "norm_eps": 1e-6}[broken]
    config = dataclasses.replace(config, **{broken: wrong})
    logits = forward(config, params, golden["tokens_bt"], golden["mask_bt"])
    difference = largest_difference(logits, golden["logits_btv"], golden["mask_bt"])
    assert difference > 10 * TOLERANCE


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
def test_live_chat_template_parity_of_a_saved_tokenizer(tmp_path):
    pytest.importorskip("transformers")
    from transformers import AutoTokenizer

    from cifr_jax.data.chat import Message
    from cifr_jax.models.tokenizer import ChatTokenizer

    cases = json.loads((GOLDENS / "chat" / "expected.json").read_text(encoding="utf-8"))
    shutil.copy(GOLDENS / "chat" / "tokenizer.json", tmp_path)
    settings = {"chat_template": cases[0]["template"], "bos_token": cases[0]["bos"]}
    settings |= {"eos_token": "<|im_end|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    ours = ChatTokenizer.from_folder(tmp_path)
    ours.save(tmp_path / "saved")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "saved")
    for case in cases[:6]:
        messages = [Message(role, text) for role, text in case["chat"]]
        dicts = [{"role": m.role, "content": m.content} for m in messages]
        ids = theirs.apply_chat_template(dicts, return_dict=False)
        assert ours.encode_chat(messages) == ids
        assert ours.encode(case["rendered"][-20:]) == theirs.encode(
            case["rendered"][-20:], add_special_tokens=False, split_special_tokens=True
        )


@pytest.mark.parity
@pytest.mark.smollm2
@pytest.mark.filterwarnings("default")
def test_live_parity_on_smollm2(tmp_path):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    config, params, tokenizer, _ = load("smollm2")
    save_hf_folder(tmp_path, config, params, tokenizer)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).eval().float()
    ids = np.array([tokenizer.encode("The sea was calm, and 12 boats lay at the quay.")])
    with torch.no_grad():
        expected = theirs(torch.tensor(ids)).logits.numpy()
    mask = np.ones_like(ids, bool)
    difference = largest_difference(forward(config, params, ids, mask), expected, mask)
    print(
        f"largest difference {difference:.2e} at logits up to {np.abs(expected).max():.1f}"
    )
    assert difference < 5e-4  # fp32 rounding over thirty layers, logits up to 30
