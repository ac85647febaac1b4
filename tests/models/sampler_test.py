"""The cached, batched sampler writes what a plain argmax loop writes, row for row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cifr_jax.finetune import lora
from cifr_jax.models import decoder, sampler
from cifr_jax.models.config import DecoderConfig

CONFIG = DecoderConfig(
    vocab_size=20, d_model=16, n_layers=2, n_heads=2, n_kv_heads=1, d_head=8, d_ff=24
)
LONGEST, NEW = 11, 10
forward = jax.jit(decoder.forward, static_argnums=0)


@pytest.fixture(scope="module")
def params():
    # A larger head than at initialisation: clear choices, no ties to be broken by noise.
    fresh = decoder.Decoder(CONFIG, rngs=nnx.Rngs(0)).split()
    return fresh | {"embed": 40 * fresh["embed"], "head": 40 * fresh["head"]}


@pytest.fixture(scope="module")
def adapter():
    fresh = lora.init_adapter(jax.random.key(0), CONFIG, lora.LoraConfig(2, embed_rank=2))
    rng = np.random.default_rng(7)
    filled = jax.tree.map(
        lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), jnp.float32), fresh
    )
    return filled._replace(scale=fresh.scale)


@pytest.fixture(scope="module")
def prompts():
    rng = np.random.default_rng(1)
    return [rng.integers(0, 20, n).tolist() for n in (3, LONGEST, 1, 8, 9, 2)]


def write(params, prompts, adapter=None, stop=(), **options):
    given = {"max_new_tokens": NEW, "batch_size": 4, "multiple": 8} | options
    return sampler.generate(CONFIG, params, prompts, stop, adapter, **given)


def argmax_loop(params, prompt, adapter=None):
    """No cache, no batch: the whole text again for each token."""
    text = list(prompt)
    for _ in range(NEW):
        tokens_bt = np.zeros((1, LONGEST + NEW), np.int32)
        tokens_bt[0, : len(text)] = text
        mask_bt = np.arange(LONGEST + NEW)[None] < len(text)
        logits_btv = forward(CONFIG, params, tokens_bt, mask_bt, adapter)
        text.append(int(logits_btv[0, len(text) - 1].argmax()))
    return text[len(prompt) :]


@pytest.mark.parametrize("adapted", [False, True])
def test_greedy_equals_an_argmax_loop_without_cache(params, prompts, adapter, adapted):
    adapter = adapter if adapted else None
    written = write(params, prompts, adapter)
    assert written == [argmax_loop(params, prompt, adapter) for prompt in prompts]
    assert len({tuple(w) for w in written}) > 3  # the prompts matter


def test_the_adapter_matters(params, prompts, adapter):
    assert write(params, prompts, adapter) != write(params, prompts)


def test_an_answer_ends_before_its_first_stop_token(params, prompts):
    free = write(params, prompts)
    stop = {free[0][4], free[1][0]}
    expected = [w[: next((i for i, t in enumerate(w) if t in stop), len(w))] for w in free]
    assert write(params, prompts, stop=stop) == expected
    assert expected[1] == [] and 0 < len(expected[0]) < NEW


def test_answers_do_not_depend_on_the_batch(params, prompts):
    together = write(params, prompts, batch_size=6)
    assert [write(params, [p], batch_size=1)[0] for p in prompts] == together
    drawn = write(params, prompts, batch_size=6, temperature=1.0, seed=5)
    assert write(params, prompts, batch_size=4, temperature=1.0, seed=5) == drawn


def test_sampling_is_decided_by_the_seed(params, prompts):
    first = write(params, prompts, temperature=1.0, seed=3)
    assert write(params, prompts, temperature=1.0, seed=3) == first
    assert write(params, prompts, temperature=1.0, seed=4) != first
    assert write(params, prompts, seed=3) == write(params, prompts, seed=4)


def test_equal_prompts_draw_apart_and_from_the_models_distribution(params, prompts):
    n, temperature = 1024, 3.0
    drawn = write(
        params,
        [prompts[0]] * n,
        batch_size=n,
        max_new_tokens=1,
        temperature=temperature,
    )
    logits_v = decoder.forward(CONFIG, params, np.array([prompts[0]]))[0, -1]
    expected_v = np.asarray(jax.nn.softmax(logits_v / temperature))
    seen_v = np.bincount([w[0] for w in drawn], minlength=20) / n
    error_v = np.sqrt(expected_v * (1 - expected_v) / n)
    assert (np.abs(seen_v - expected_v) <= 5 * error_v + 1e-3).all()
    assert (seen_v > 0).sum() > 3  # far from greedy


def test_rows_that_fill_up_a_batch_have_ended_before_they_begin(
    params, prompts, monkeypatch
):
    program, left = sampler._generate, []

    def recorded(*args):
        left.append(np.asarray(program(*args)))
        return left[-1]

    monkeypatch.setattr(sampler, "_generate", recorded)
    write(params, prompts[:3])
    ((*rows, filler),) = left
    assert all((row >= 0).all() for row in rows)
    assert (filler == -1).all()


def test_nothing_to_continue(params):
    assert write(params, []) == []
    with pytest.raises(ValueError, match="an empty prompt"):
        write(params, [[1], []])
