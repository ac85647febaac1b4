"""Scores equal what log-softmax of plain logits gives, and what generation would write."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import log_softmax

from cifr_jax.finetune import lora
from cifr_jax.models import decoder, prefix, sampler, scoring
from cifr_jax.models.adapter_rows import AdapterRows
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.rope import LongRope

CONFIG = DecoderConfig(
    vocab_size=18, d_model=16, n_layers=2, n_heads=2, n_kv_heads=2, d_head=8, d_ff=24
)
FIRST_IDS = (3, 0, 17)
forward = jax.jit(decoder.forward, static_argnums=0)


@pytest.fixture(scope="module")
def params():
    fresh = decoder.Decoder(CONFIG, rngs=nnx.Rngs(1)).split()
    return fresh | {"embed": 40 * fresh["embed"], "head": 30 * fresh["head"]}


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    lengths = [(1, 1), (5, 3), (2, 9), (10, 6), (7, 1), (3, 4), (13, 1)]
    return [[rng.integers(0, 18, n).tolist() for n in pair] for pair in lengths]


def score(params, texts, **options):
    given = {"batch_size": 4, "multiple": 8, "first_ids": FIRST_IDS} | options
    prompts, continuations = zip(*texts, strict=True)
    return scoring.score(CONFIG, params, prompts, continuations, **given)


@pytest.fixture(scope="module")
def adapter():
    fresh = lora.init_adapter(jax.random.key(0), CONFIG, lora.LoraConfig(2))
    return fresh._replace(layers=jax.tree.map(lambda x: x + 0.1, fresh.layers))


@pytest.mark.parametrize("adapted", [False, True])
def test_scores_equal_a_direct_computation(params, texts, adapter, adapted):
    adapter = adapter if adapted else None
    scores = score(params, texts, adapter=adapter)
    tokens_nt = np.array([[*p, *c] + [0] * (16 - len(p + c)) for p, c in texts])
    logits_ntv = forward(CONFIG, params, tokens_nt, np.ones(tokens_nt.shape, bool), adapter)
    log_p_ntv = log_softmax(np.asarray(logits_ntv, float), -1)
    for i, (prompt, continuation) in enumerate(texts):
        start = len(prompt) - 1
        log_p_tv = log_p_ntv[i, start : start + len(continuation)]
        of_tokens = log_p_tv[np.arange(len(continuation)), continuation]
        first_v = log_p_tv[0]
        assert scores.length_n[i] == len(continuation)
        np.testing.assert_allclose(scores.log_prob_n[i], of_tokens.sum(), atol=2e-5)
        np.testing.assert_allclose(
            scores.first_entropy_n[i], -(np.exp(first_v) * first_v).sum(), atol=1e-5
        )
        np.testing.assert_allclose(
            scores.first_log_prob_nk[i], first_v[list(FIRST_IDS)], atol=1e-5
        )
        assert scores.greedy_n[i] == (log_p_tv.argmax(-1) == continuation).all()


def test_greedy_is_what_the_sampler_writes(params, texts):
    prompts = [prompt for prompt, _ in texts]
    answers = sampler.generate(
        CONFIG, params, prompts, (), max_new_tokens=5, batch_size=8, multiple=16
    )
    assert score(params, list(zip(prompts, answers, strict=True))).greedy_n.all()
    for wrong_at in (0, 2, 4):
        changed = [
            [*a[:wrong_at], (a[wrong_at] + 1) % 18, *a[wrong_at + 1 :]] for a in answers
        ]
        assert not score(params, list(zip(prompts, changed, strict=True))).greedy_n.any()


def test_probabilities_of_all_continuations_sum_to_one(params):
    ends = [[[4, 2], [v]] for v in range(18)]
    np.testing.assert_allclose(np.exp(score(params, ends).log_prob_n).sum(), 1, atol=1e-5)


def test_scores_do_not_depend_on_the_batch(params, texts):
    together = score(params, texts)
    for i, text in enumerate(texts):
        alone = score(params, [text])
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_allclose(a[i], b[0], atol=1e-6)


def test_one_compile_for_each_bucket(params, texts):
    before = scoring._score_batch._cache_size()
    many = [[[*prompt[:-1], v], end] for prompt, end in texts for v in range(3)]
    score(params, many, batch_size=5)  # padded to 8 and 16 tokens, six batches
    assert scoring._score_batch._cache_size() - before == 2
    score(params, many[::-1], batch_size=5)
    assert scoring._score_batch._cache_size() - before == 2


def test_nothing_to_score(params):
    empty = scoring.score(CONFIG, params, [], [])
    assert empty.log_prob_n.shape == (0,)
    for pair in ([[1], []], [[], [1]]):
        with pytest.raises(ValueError, match="an empty prompt or continuation"):
            score(params, [[[1], [2]], pair])
    for pair, token in (([[18], [0]], 18), ([[1], [0, 18]], 18), ([[-1], [2]], -1)):
        with pytest.raises(ValueError, match=f"token {token} of a vocabulary of 18"):
            score(params, [[[1], [2]], pair])
    with pytest.raises(ValueError, match="token 20 of a vocabulary of 18"):
        score(params, [[[1], [2]]], first_ids=(20,))


def branches(n_prompts: int, n_ends: int) -> list:
    """Texts in which several continuations go on from each prompt, in no order."""
    rng = np.random.default_rng(3)
    found = []
    for i in range(n_prompts):
        prompt = [i, *rng.integers(0, 18, 5 + 3 * i).tolist()]
        ends = [rng.integers(0, 18, 1 + k % 4).tolist() for k in range(n_ends)]
        found += [[prompt, end] for end in ends]
    return [found[i] for i in rng.permutation(len(found))]


KINDS = {
    "plain": {},
    "windows": {"window": 4, "window_layers": (0,)},
    "no rotation": {"no_rope_layers": (1,)},
    "half a head rotates": {"d_rotary": 4},
    "longrope": {"rope_scaling": LongRope((1.0,) * 4, (2.0,) * 4, 8, 2.0)},
    "caps": {"attention_cap": 2.0, "logit_cap": 3.0},
}


@pytest.mark.parametrize("adapted", [False, True], ids=["base", "adapted"])
@pytest.mark.parametrize("kind", KINDS)
def test_continuations_of_one_prompt_are_scored_as_each_alone(
    params, adapter, kind, adapted, monkeypatch
):
    """In a row they neither see nor move one another, whatever the attention."""
    config = dataclasses.replace(CONFIG, **KINDS[kind])
    monkeypatch.setattr(sys.modules[__name__], "CONFIG", config)
    texts, seen = branches(3, 9), []
    # Each block weighs its factors by a scale of its own.
    scaled = adapter._replace(scale=jnp.array([0.5, 2.0, 1.0])) if adapted else None
    alone = [score(params, [text], adapter=scaled) for text in texts]
    inner = scoring._batch
    monkeypatch.setattr(
        scoring, "_batch", lambda rows, *a: seen.append(len(rows)) or inner(rows, *a)
    )
    together = score(params, texts, batch_size=8, adapter=scaled)
    # Rows, of 27 texts; a longrope text turns by its whole length, so each has its own.
    assert sum(seen) == (27 if kind == "longrope" else 3)
    for name, found_n in together._asdict().items():
        expected_n = np.concatenate([getattr(one, name) for one in alone])
        np.testing.assert_allclose(found_n, expected_n, atol=1e-5)


def test_rows_of_several_texts_are_filled_to_a_bound(params, monkeypatch):
    monkeypatch.setattr(scoring, "_TOGETHER", 6)
    texts = branches(2, 7)
    rows = scoring._together([p for p, _ in texts], np.array([len(e) for _, e in texts]), 6)
    assert sorted(i for row in rows for i in row) == list(range(14))
    for row in rows:
        assert len({tuple(texts[i][0]) for i in row}) == 1
        assert sum(len(texts[i][1]) for i in row) <= 6
    one_by_one = [score(params, [text]).log_prob_n[0] for text in texts]
    np.testing.assert_allclose(score(params, texts).log_prob_n, one_by_one, atol=1e-5)


def test_a_beginning_in_common_is_computed_once_and_changes_no_score(params, monkeypatch):
    rng = np.random.default_rng(2)
    prompt, filled = rng.integers(0, 18, 20).tolist(), []
    texts = [
        [[*prompt, i], rng.integers(0, 18, n).tolist()]
        for i, n in enumerate((1, 2, 3, 2, 1, 3, 2, 1))
    ]
    alone = [score(params, [text]) for text in texts]
    fill = prefix.fill
    monkeypatch.setattr(prefix, "fill", lambda *a: filled.append(a[-1]) or fill(*a))
    together = score(params, texts, batch_size=8)
    assert [len(tokens) for tokens in filled] == [16]
    for name, found_n in together._asdict().items():
        expected_n = np.concatenate([getattr(one, name) for one in alone])
        np.testing.assert_allclose(found_n, expected_n, atol=1e-5)


def test_every_text_under_its_own_adapter(params, texts, adapter):
    rows = [0, -1, 0, 0, -1, -1, 0]
    found = score(params, texts, rows=(AdapterRows([adapter]), rows))
    for i, row in enumerate(rows):
        alone = score(params, [texts[i]], adapter=adapter if row == 0 else None)
        np.testing.assert_allclose(found.log_prob_n[i], alone.log_prob_n[0], atol=1e-5)
    both = [score(params, texts, adapter=a).log_prob_n for a in (None, adapter)]
    assert np.abs(both[0] - both[1]).min() > 1e-3
    with pytest.raises(ValueError, match="rows are no adapter"):
        score(params, texts, rows=(AdapterRows([adapter]), [0]))
