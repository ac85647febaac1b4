"""Random tiny models of every family compute what transformers computes.

    python -m pytest -m parity tests/models/families_parity_test.py

`python -m benchmarks.parity_table` draws the table of docs/parity.md from the same.
"""

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from cifr_jax.finetune import lora
from cifr_jax.finetune.peft import load_peft, save_peft
from cifr_jax.models import decoder
from cifr_jax.models.families.registry import FAMILIES
from cifr_jax.models.hf_config import parse_config
from cifr_jax.models.hf_folder import load_hf_folder, save_hf_folder
from cifr_jax.testing import byte_tokenizer
from cifr_jax.testing_families import random_model, random_parameters, random_settings

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]

TOLERANCE = 3e-5
every_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="module")
def parity():
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from benchmarks import parity_reference

    return parity_reference


@pytest.fixture(autouse=True)
def forget_programs():
    """No two models have one in common, and hundreds fill memory."""
    yield
    jax.clear_caches()


@every_family
@seed(0)
@settings(deadline=None, max_examples=64, suppress_health_check=list(HealthCheck))
@given(number=st.integers(0, 2**20))
def test_random_models(parity, family, number):
    found = parity.compare(family, number, coarse=False, cached=False)
    assert max(found.alone, found.right, found.left) < TOLERANCE, found
    assert found.layer < TOLERANCE
    assert found.largest > 0.3, "logits too small to show an error"


@every_family
def test_coarse_numbers_are_as_near_as_those_of_transformers(parity, family):
    """Norms and softmax in fp32: in bfloat16 ours are no further from fp32 than theirs."""
    runs = [parity.compare(family, number) for number in range(4)]
    ours, theirs = (
        np.mean([getattr(run, name) for run in runs])
        for name in ("ours_coarse", "theirs_coarse")
    )
    assert ours < 1.5 * theirs < 1.0


@every_family
def test_folders_are_read_both_ways(parity, family, tmp_path):
    from transformers import AutoModelForCausalLM

    rng = np.random.default_rng(3)
    settings = random_settings(family, rng)
    # The folder's tokenizer has more tokens than most random vocabularies.
    settings["vocab_size"] = byte_tokenizer().vocab_size
    config = parse_config(settings, family)
    params = random_parameters(config, rng)
    model = parity.reference(settings, config, params)
    model.save_pretrained(tmp_path / "theirs", max_shard_size="8kB")
    byte_tokenizer().save(tmp_path / "theirs")
    read_config, read_params, tokenizer = load_hf_folder(tmp_path / "theirs")
    assert read_config == config
    jax.tree.map(np.testing.assert_array_equal, read_params, params)
    save_hf_folder(tmp_path / "ours", config, params, tokenizer)
    again = AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", attn_implementation="eager"
    )
    tokens = rng.integers(0, config.vocab_size, 23)
    expected = parity.reference_run(model, tokens)[1]
    found = parity.reference_run(again.eval().float(), tokens)[1]
    np.testing.assert_array_equal(found, expected)


@every_family
def test_adapters_in_peft(parity, family, tmp_path):
    """Ours, written and read back, in PEFT: also where the family fuses matrices."""
    peft = pytest.importorskip("peft")
    rng = np.random.default_rng(5)
    settings = random_settings(family, rng) | {"tie_word_embeddings": False}
    config = parse_config(settings, family)
    params = random_parameters(config, rng)
    chosen = lora.LoraConfig(rank=3, alpha=6.0)
    adapter = lora.init_adapter(jax.random.key(0), config, chosen)
    filled = jax.tree.map(
        lambda x: (0.2 * rng.normal(size=x.shape)).astype(np.float32), adapter.layers
    )
    adapter = adapter._replace(layers=filled)
    save_peft(adapter, tmp_path / "adapter", config, "base", chosen)
    model = parity.reference(settings, config, params)
    tokens = rng.integers(1, config.vocab_size, 19)
    plain = parity.reference_run(model, tokens)[1]
    adapted = peft.PeftModel.from_pretrained(model, tmp_path / "adapter").eval()
    theirs = parity.reference_run(adapted.base_model.model, tokens)[1]
    assert np.abs(theirs - plain).max() > 0.01
    for one in (adapter, load_peft(tmp_path / "adapter", config)):
        ours = decoder.forward(config, params, tokens[None], None, one)
        np.testing.assert_allclose(ours[0], theirs, atol=TOLERANCE)


def test_models_differ():
    """The draws above are of more than one model."""
    configs = {random_model("llama", number)[0] for number in range(20)}
    assert len(configs) == 20
