"""Captured activations equal an independent transformer's, prompt by prompt.

The reference below is plain NumPy in fp64: one text at a time, no padding, no batch, no
scan, adapters merged into dense weights. Shapes: t tokens, d model width, n heads, h head.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cifr_jax.activations.capture import _pooled, buckets, capture, capture_tokens
from cifr_jax.data.chat import Message
from cifr_jax.finetune import lora
from cifr_jax.models import decoder
from cifr_jax.models.config import DecoderConfig
from cifr_jax.testing import tiny_model

CONFIG = DecoderConfig(
    vocab_size=20, d_model=16, n_layers=3, n_heads=4, n_kv_heads=2, d_head=4, d_ff=24
)
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def params():
    fresh = decoder.Decoder(CONFIG, rngs=nnx.Rngs(0)).split()
    return fresh | {"embed": 40 * fresh["embed"]}


@pytest.fixture(scope="module")
def adapter():
    settings = lora.LoraConfig(rank=2, alpha=2.0, embed_rank=3)
    fresh = lora.init_adapter(jax.random.key(0), CONFIG, settings)
    rng = np.random.default_rng(3)
    filled = jax.tree.map(
        lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), jnp.float32), fresh
    )
    return filled._replace(scale=fresh.scale)


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(1)
    return [rng.integers(0, 20, n).tolist() for n in (7, 1, 8, 9, 23, 3, 16, 17, 2)]


def dense(params, adapter):
    """fp64 weights with the adapter merged in: W + scale * A^T B."""
    w = jax.tree.map(lambda x: np.asarray(x, float), params)

    def product(a, b):
        return np.asarray(a, float).T @ np.asarray(b, float)

    if adapter is not None:
        scale = np.asarray(adapter.scale, float)
        for name, ab in adapter.layers.items():
            for l in range(CONFIG.n_layers):
                w["layers"][name][l] += scale[l] * product(ab["a"][l], ab["b"][l])
        w["embed"] += scale[-1] * product(adapter.embed["a"], adapter.embed["b"])
    return w


def residual_stream(w, text):
    """`[l, t, d]` after every block."""
    t, n, h = len(text), CONFIG.n_heads, CONFIG.d_head
    frequency = CONFIG.rope_theta ** (-np.arange(0, h, 2) / h)
    angle = np.arange(t)[:, None] * frequency
    turn = np.exp(1j * angle)[:, None]

    def norm(x, scale):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + CONFIG.norm_eps) * scale

    def rotated(x_tnh):  # the halves of a head are real and imaginary parts
        z = (x_tnh[..., : h // 2] + 1j * x_tnh[..., h // 2 :]) * turn
        return np.concatenate([z.real, z.imag], -1)

    x = w["embed"][text]
    streams = []
    for l in range(CONFIG.n_layers):
        m = {name: value[l] for name, value in w["layers"].items()}
        y = norm(x, m["attn_norm"])
        q, k = (rotated((y @ m[name]).reshape(t, -1, h)) for name in "qk")
        v = (y @ m["v"]).reshape(t, -1, h)
        heads = []
        for head in range(n):
            group = head // (n // CONFIG.n_kv_heads)
            score = q[:, head] @ k[:, group].T / np.sqrt(h)
            score[np.triu_indices(t, 1)] = -np.inf
            p = np.exp(score - score.max(-1, keepdims=True))
            heads.append(p / p.sum(-1, keepdims=True) @ v[:, group])
        x = x + np.concatenate(heads, -1) @ m["o"]
        y = norm(x, m["mlp_norm"])
        gate = y @ m["gate"]
        x = x + (gate / (1 + np.exp(-gate)) * (y @ m["up"])) @ m["down"]
        streams.append(x)
    return np.stack(streams)


@pytest.mark.parametrize("adapted", [False, True])
def test_pools_equal_an_independent_transformer(params, texts, adapter, adapted):
    adapter = adapter if adapted else None
    found = capture_tokens(CONFIG, params, texts, adapter, batch_size=2, multiple=8)
    assert {pool: x.dtype for pool, x in found.items()} == {"last": "f4", "mean": "f4"}
    w = dense(params, adapter)
    for i, text in enumerate(texts):
        stream_ltd = residual_stream(w, text)
        np.testing.assert_allclose(found["last"][:, i], stream_ltd[:, -1], atol=TOLERANCE)
        np.testing.assert_allclose(found["mean"][:, i], stream_ltd.mean(1), atol=TOLERANCE)
        assert np.abs(stream_ltd).max() < 20  # so that the tolerance means something


@pytest.mark.parametrize(("batch_size", "multiple"), [(1, 12), (9, 32), (4, 5)])
def test_buckets_and_batches_change_nothing(params, texts, batch_size, multiple):
    one = capture_tokens(CONFIG, params, texts, batch_size=2, multiple=8)
    other = capture_tokens(CONFIG, params, texts, batch_size=batch_size, multiple=multiple)
    for pool in one:
        np.testing.assert_allclose(other[pool], one[pool], atol=TOLERANCE)


def test_neighbours_in_a_batch_change_nothing(params, texts):
    one = capture_tokens(CONFIG, params, texts, batch_size=2, multiple=8)
    others = [texts[0], *([[5] * len(text) for text in texts[1:]])]
    again = capture_tokens(CONFIG, params, others, batch_size=2, multiple=8)
    for pool in one:
        np.testing.assert_array_equal(again[pool][:, 0], one[pool][:, 0])
        assert np.abs(again[pool][:, 2] - one[pool][:, 2]).max() > 0.01


def test_one_compile_for_each_bucket(params, texts):
    before = _pooled._cache_size()
    lengths_of_buckets = {-(-len(text) // 8) for text in texts}
    capture_tokens(CONFIG, params, texts * 2, batch_size=3, multiple=8)
    assert _pooled._cache_size() - before == len(lengths_of_buckets) == 3
    capture_tokens(CONFIG, params, texts[::-1] * 3, batch_size=3, multiple=8)
    assert _pooled._cache_size() - before == 3


def test_every_text_is_in_one_batch_and_no_batch_is_too_long():
    lengths = np.random.default_rng(0).integers(1, 60, 200)
    seen = []
    for index, padded in buckets(lengths, 7, 8):
        assert 1 <= len(index) <= 7
        assert padded % 8 == 0
        assert (padded - 8 < lengths[index]).all() and (lengths[index] <= padded).all()
        seen += index.tolist()
    assert sorted(seen) == list(range(200))


def test_one_pool_alone_and_progress(params, texts):
    done = []
    both = capture_tokens(CONFIG, params, texts, batch_size=2, multiple=8)
    mean = capture_tokens(
        CONFIG, params, texts, None, ["mean"], 2, multiple=8, progress=done.append
    )
    assert list(mean) == ["mean"]
    np.testing.assert_allclose(mean["mean"], both["mean"], atol=1e-6)
    assert done == sorted(done) and done[-1] == len(texts) and len(done) > 3


def test_chats_are_captured_where_the_assistant_would_begin():
    lm = tiny_model()
    chats = [[Message("user", "hi")], [Message("system", "be"), Message("user", "ho")]]
    texts = [lm.tokenizer.encode_chat(c, add_generation_prompt=True) for c in chats]
    assert texts[0][-1] not in lm.tokenizer.encode_chat(chats[0])
    given = capture(lm, chats, pools=("last",), batch_size=2)
    expected = capture_tokens(lm.config, lm.params, texts, pools=("last",), batch_size=2)
    np.testing.assert_array_equal(given["last"], expected["last"])


def test_no_texts_give_no_columns(params):
    assert capture_tokens(CONFIG, params, [])["last"].shape == (3, 0, 16)


def test_faults_are_named(params):
    with pytest.raises(ValueError, match=r"unknown pools \['first'\]; known: last, mean"):
        capture_tokens(CONFIG, params, [[1]], pools=("last", "first"))
    with pytest.raises(ValueError, match="text 1 is empty"):
        capture_tokens(CONFIG, params, [[1], []])
