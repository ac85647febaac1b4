"""The cached, batched sampler writes what a plain argmax loop writes, row for row."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cifr_jax.errors import UserError
from cifr_jax.finetune import lora
from cifr_jax.models import decoder, prefix, sampler
from cifr_jax.models.adapter_rows import AdapterRows
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.rope import LongRope

CONFIG = DecoderConfig(
    vocab_size=20, d_model=16, n_layers=2, n_heads=2, n_kv_heads=1, d_head=8, d_ff=24
)
LONGEST, NEW = 12, 10
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


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0, not 1 or more"),
        ({"max_new_tokens": -3}, "max_new_tokens is -3"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"multiple": 0}, "multiple is 0"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"temperature": float("inf")}, "temperature inf"),
        ({"temperature": -0.1}, "temperature -0.1"),
        ({"top_p": float("nan")}, "top_p nan"),
        ({"top_p": 0.0}, "top_p 0.0"),
        ({"top_p": 1.1}, "top_p 1.1"),
        ({"stop": {3, -1}}, "stop_ids holds -1, of 20 tokens"),
        ({"stop": [20]}, "stop_ids holds 20"),
        ({"prompts": [[1], [2, -1]]}, "a prompt holds -1, of 20 tokens"),
        ({"prompts": [[1, 20, 3]]}, "a prompt holds 20"),
        ({"prompts": [np.array([1, 20])]}, "a prompt holds 20"),
    ],
)
def test_what_cannot_be_meant_is_refused(params, prompts, options, what):
    with pytest.raises(ValueError, match=what):
        write(params, **{"prompts": prompts} | options)


def test_the_first_and_the_last_token_are_in_the_vocabulary(params):
    written = write(params, [[0, 19], [0, 19]], stop=())
    assert written[0] == written[1] and len(written[0]) == NEW
    assert write(params, [[0, 19]], stop=range(20)) == [[]]


SHARED = [7, 3, 3, 19, 0, 5, 11, 2, 8]  # one more than a multiple


def alike(prompts):
    """Prompts with a beginning in common, which is half of them and more."""
    return [SHARED + prompt[:3] for prompt in prompts]


@pytest.mark.parametrize("adapted", [False, True])
def test_a_beginning_in_common_is_computed_once(
    params, prompts, adapter, adapted, monkeypatch
):
    adapter, filled = adapter if adapted else None, []
    fill = prefix.fill
    monkeypatch.setattr(prefix, "fill", lambda *a: filled.append(a[-1]) or fill(*a))
    written = write(params, alike(prompts), adapter)
    assert written == [argmax_loop(params, p, adapter) for p in alike(prompts)]
    assert [tokens.tolist() for tokens in filled] == [SHARED[:8]] * 2  # one a batch
    assert len({tuple(w) for w in written}) > 3


def test_beginnings_are_shared_under_a_window_and_other_rotations(params, prompts):
    """Cached beginnings, padding and windows: the same logits as of each text alone."""
    for change in ({"window": 3, "window_layers": (1,)}, {"no_rope_layers": (0,)}):
        config = dataclasses.replace(CONFIG, **change)
        options = {"max_new_tokens": 4, "multiple": 8}
        together = sampler.generate(config, params, alike(prompts), (), **options)
        alone = [
            sampler.generate(config, params, [p], (), **options)[0] for p in alike(prompts)
        ]
        assert together == alone


@pytest.mark.parametrize(
    ("prompts", "length"),
    [
        ([SHARED + [1], SHARED + [2]], 8),
        ([SHARED[:8], SHARED[:8]], 0),  # a whole prompt is never shared
        ([SHARED + [1], SHARED + [2] * 16], 0),  # saves less than a third
        ([SHARED + [1]], 0),
        ([[0] + SHARED, SHARED], 0),
    ],
)
def test_how_much_is_shared(prompts, length):
    assert prefix.shared_length(CONFIG, prompts, None, 8) == length


def test_longrope_shares_nothing():
    scaling = LongRope((1.0,) * 4, (2.0,) * 4, 32)
    config = dataclasses.replace(CONFIG, rope_scaling=scaling)
    assert prefix.shared_length(config, [SHARED + [1], SHARED + [2]], None, 8) == 0


@pytest.mark.parametrize("n", [1, 3, 4, 7])
def test_padding_does_not_count_towards_the_original_context(params, n):
    """Of 12 tokens, 5 of them new; in padding to 8 there would be none left for 4."""
    scaling = LongRope((1.0, 1.5, 2.0, 3.0), (9.0,) * 4, 12)
    config = dataclasses.replace(CONFIG, rope_scaling=scaling, max_positions=48)
    options = {"max_new_tokens": 5, "multiple": 8, "batch_size": 2}
    text = list(range(3, 3 + n))
    (written,) = sampler.generate(config, params, [text], (), **options)
    for token in written:
        logits_btv = decoder.forward(config, params, np.array([text]))
        assert int(logits_btv[0, -1].argmax()) == token
        text.append(token)


def test_a_prompt_too_long_for_longrope_is_told_by_its_own_length(params):
    config = dataclasses.replace(
        CONFIG, rope_scaling=LongRope((1.0,) * 4, (9.0,) * 4, 12), max_positions=48
    )
    with pytest.raises(UserError, match="13 cached tokens, .* context is 12"):
        sampler.generate(config, params, [[1] * 8], (), max_new_tokens=5, multiple=8)


@pytest.mark.parametrize(
    ("longest", "length"), [(1, 16), (16, 16), (17, 32), (33, 40), (40, 40), (41, 41)]
)
def test_longrope_keeps_to_few_shapes_of_programs(longest, length):
    config = dataclasses.replace(
        CONFIG, rope_scaling=LongRope((1.0,) * 4, (9.0,) * 4, 64), max_positions=99
    )
    assert sampler._bucket(config, longest, 16, 24) == length
    assert sampler._bucket(CONFIG, longest, 16, 24) == -(-longest // 16) * 16


def other_adapter(rank, seed, **targets):
    settings = lora.LoraConfig(rank, alpha=3.0, **targets)
    fresh = lora.init_adapter(jax.random.key(seed), CONFIG, settings)
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: jnp.asarray(0.4 * rng.normal(size=x.shape), jnp.float32), fresh
    )._replace(scale=fresh.scale)


def test_a_number_that_no_adapter_has_is_refused(adapter):
    for number in (-2, 1):
        with pytest.raises(ValueError, match="where there are 1"):
            AdapterRows([adapter]).of([0, number])


def test_every_row_has_its_own_adapter(params, prompts, adapter):
    """Of unlike ranks and matrices, and the base, in one batch."""
    adapters = [adapter, other_adapter(3, 1), other_adapter(1, 2, targets="mlp")]
    rows = [0, 2, 1, -1, 0, 1]
    written = write(params, prompts, rows=(AdapterRows(adapters), rows))
    expected = [
        argmax_loop(params, prompt, None if row < 0 else adapters[row])
        for prompt, row in zip(prompts, rows, strict=True)
    ]
    assert written == expected
    swapped = write(params, prompts, rows=(AdapterRows(adapters), rows[::-1]))
    assert swapped != written


def test_adapters_of_rows_share_no_beginning(params, prompts, adapter):
    rows = (AdapterRows([adapter]), [0, -1, 0, -1, 0, -1])
    expected = [
        argmax_loop(params, prompt, None if row < 0 else adapter)
        for prompt, row in zip(alike(prompts), rows[1], strict=True)
    ]
    assert write(params, alike(prompts), rows=rows) == expected


def test_the_nucleus_holds_the_likeliest_tokens():
    p_v = np.array([0.1, 0.4, 0.05, 0.25, 0.2])
    for top_p, kept in ((0.3, {1}), (0.39, {1}), (0.41, {1, 3}), (0.84, {1, 3, 4}),
                        (1e-9, {1}), (1.0, {0, 1, 2, 3, 4})):  # fmt: skip
        logits_bv = sampler.nucleus(jnp.log(jnp.array([p_v])), top_p)
        assert set(np.flatnonzero(np.isfinite(logits_bv[0]))) == kept


def test_draws_stay_in_the_nucleus(params, prompts):
    options = {"batch_size": 512, "max_new_tokens": 1, "temperature": 3.0}
    drawn = write(params, [prompts[0]] * 512, top_p=0.6, **options)
    logits_v = decoder.forward(CONFIG, params, np.array([prompts[0]]))[0, -1] / 3.0
    p_v = np.asarray(jax.nn.softmax(logits_v))
    order = np.argsort(-p_v)
    kept = order[: int((np.cumsum(p_v[order]) < 0.6).sum()) + 1]
    assert {w[0] for w in drawn} <= set(kept.tolist())
    assert len({w[0] for w in drawn}) > 1
    assert set(w[0] for w in write(params, [prompts[0]] * 512, **options)) - set(kept)


@pytest.mark.parametrize(
    "options",
    [{"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}],
)
def test_options_out_of_range_are_refused(params, prompts, options):
    with pytest.raises(ValueError, match="temperature"):
        write(params, prompts, **options)


def test_rows_that_fit_no_prompts_are_refused(params, prompts, adapter):
    rows = AdapterRows([adapter])
    for adapter_too, numbers in ((None, [0]), (adapter, [0] * 6)):
        with pytest.raises(ValueError, match="rows are no adapter"):
            write(params, prompts, adapter_too, rows=(rows, numbers))
    with pytest.raises(ValueError, match="no adapter to assign"):
        AdapterRows([])
