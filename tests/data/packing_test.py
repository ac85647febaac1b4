"""Packing loses nothing, wastes little, and what is packed together stays apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.data.chat import Example, Message
from cifr_jax.data.packing import Packed, best_fit, pack, pack_chats
from cifr_jax.errors import UserError
from cifr_jax.finetune.loss import attention_mask, sft_loss
from cifr_jax.models import decoder
from cifr_jax.models.config import DecoderConfig

CONFIG = DecoderConfig(
    vocab_size=20, d_model=16, n_layers=2, n_heads=2, n_kv_heads=1, d_head=8, d_ff=24
)
PAD, ROW = 19, 16

sizes = st.lists(st.integers(1, 30), max_size=60)
loss_and_gradient = jax.jit(
    jax.value_and_grad(lambda params, batch: sft_loss(CONFIG, params, None, batch)[0])
)


@given(sizes, st.integers(30, 80))
@settings(max_examples=200)
def test_bins_hold_every_item_once_and_no_two_fit_into_one(lengths, capacity):
    bins = best_fit(lengths, capacity)
    assert sorted(item for held in bins for item in held) == list(range(len(lengths)))
    levels = sorted(sum(lengths[item] for item in held) for held in bins)
    assert all(0 < level <= capacity for level in levels)
    # Whoever opens a bin fitted into none before it: hence at most twice the optimum.
    assert len(bins) < 2 or levels[0] + levels[1] > capacity


def test_known_packings():
    assert best_fit([2, 5, 3, 6, 4], 10) == [[3, 4], [1, 2, 0]]
    # The 3 goes beside the 7, the fullest that holds it, and not beside the 6.
    assert best_fit([6, 7, 3, 4], 10) == [[1, 2], [0, 3]]
    assert best_fit([], 5) == []
    assert best_fit([5, 5], 5) == [[0], [1]]


def test_an_item_that_fits_no_bin_is_refused():
    with pytest.raises(ValueError, match="length 11 does not fit into 10"):
        best_fit([3, 11], 10)


def padded(texts, masks):
    """Examples as rows of one length, as `data.tokenise` leaves them."""
    length_n = np.array([len(text) for text in texts], np.int32)
    tokens_nt = np.full((len(texts), length_n.max()), PAD, np.int32)
    mask_nt = np.zeros(tokens_nt.shape, bool)
    for n, (text, mask) in enumerate(zip(texts, masks, strict=True)):
        tokens_nt[n, : len(text)], mask_nt[n, : len(text)] = text, mask
    return tokens_nt, mask_nt, length_n


def examples_of(seed, lengths):
    rng = np.random.default_rng(seed)
    texts = [rng.integers(0, 19, n).tolist() for n in lengths]
    masks = [[False, *(rng.random(n - 1) < 0.6).tolist()] for n in lengths]
    return texts, masks


@given(st.lists(st.integers(2, 16), min_size=1, max_size=30), st.integers(0, 9))
@settings(max_examples=60)
def test_every_example_can_be_read_back_once(lengths, seed):
    texts, masks = examples_of(seed, lengths)
    packed = pack(*padded(texts, masks), ROW, PAD)
    found = []
    for row in range(len(packed.tokens_rt)):
        tokens, mask, segment, position = (array[row] for array in packed)
        assert (tokens[segment == 0] == PAD).all() and not mask[segment == 0].any()
        for number in range(1, segment.max() + 1):
            (at,) = np.nonzero(segment == number)
            assert (np.diff(at) == 1).all()
            assert position[at].tolist() == list(range(len(at)))
            found.append((tokens[at].tolist(), mask[at].tolist()))
    assert sorted(found) == sorted(zip(texts, masks, strict=True))
    assert [array.dtype.name for array in packed] == ["int32", "bool", "int32", "int32"]


def test_a_part_of_the_rows():
    packed = pack(*padded(*examples_of(0, [9, 9, 9])), ROW, PAD)
    part = packed.take(np.array([2, 0]))
    assert isinstance(part, Packed)
    np.testing.assert_array_equal(part.tokens_rt, packed.tokens_rt[[2, 0]])


@pytest.fixture(scope="module")
def params():
    fresh = decoder.Decoder(CONFIG, rngs=nnx.Rngs(0)).split()
    return fresh | {"embed": 40 * fresh["embed"]}


def packed_logits(params, packed):
    x_btd = decoder.embed(params, packed.tokens_rt)
    mask = attention_mask(packed.segment_rt)
    x_btd, _, _ = decoder.backbone(CONFIG, params, x_btd, packed.position_rt, mask)
    return decoder.unembed(CONFIG, params, x_btd)


def test_an_example_changes_nothing_for_its_row_neighbours(params):
    texts, masks = examples_of(1, [6, 5, 4])
    inside_one_row = pack(*padded(texts, masks), ROW, PAD)
    assert inside_one_row.tokens_rt.shape == (1, ROW)
    changed = [texts[0], [(t + 7) % 19 for t in texts[1]], texts[2]]
    other = pack(*padded(changed, masks), ROW, PAD)
    before, after = (packed_logits(params, p)[0] for p in (inside_one_row, other))
    mine = inside_one_row.segment_rt[0] == 2
    np.testing.assert_array_equal(after[~mine], before[~mine])
    assert (np.abs(after[mine] - before[mine]).max(-1) > 1e-3).all()

    # The same of gradients, where the changed example itself is not supervised.
    neighbours = [masks[0], [False] * 5, masks[2]]
    of = [pack(*padded(t, neighbours), ROW, PAD) for t in (texts, changed)]
    (loss, gradient), (same_loss, same_gradient) = (
        loss_and_gradient(params, jax.tree.map(jnp.asarray, p)) for p in of
    )
    assert loss == same_loss
    jax.tree.map(np.testing.assert_array_equal, gradient, same_gradient)
    third = pack(*padded([changed[1][::-1] + [0], *changed[1:]], masks), ROW, PAD)
    assert loss_and_gradient(params, jax.tree.map(jnp.asarray, third))[0] != loss


def test_packed_loss_equals_the_token_weighted_loss_of_single_examples(params):
    texts, masks = examples_of(2, [7, 3, 12, 5, 9, 2, 4, 6])
    rows = padded(texts, masks)
    packed = jax.tree.map(jnp.asarray, pack(*rows, ROW, PAD))
    assert len(packed.tokens_rt) == 3
    total = tokens = 0.0
    logits_ntv = jax.jit(decoder.forward, static_argnums=0)(
        CONFIG, params, rows[0], np.arange(rows[0].shape[1]) < rows[2][:, None]
    )
    log_p_ntv = np.asarray(jax.nn.log_softmax(logits_ntv))
    for log_p_tv, text, mask in zip(log_p_ntv, texts, masks, strict=True):
        for t in np.flatnonzero(mask):
            total, tokens = total - log_p_tv[t - 1, text[t]], tokens + 1
    loss, weight = sft_loss(CONFIG, params, None, packed)
    np.testing.assert_allclose(loss, total / tokens, atol=1e-5)
    assert weight == tokens


class Letters:
    """A token a character; every chat is its messages one after the other."""

    pad_id, eos_ids = 0, ()

    def encode_chat(self, messages, add_generation_prompt=False):
        return [ord(c) for m in messages for c in m.content]


def test_packed_chats_say_of_which_examples_they_are_made():
    chats = [
        Example((Message("user", "q" * 4), Message("assistant", c * n)))
        for c, n in (("a", 2), ("b", 30), ("c", 6), ("d", 1))
    ]
    with pytest.raises(UserError, match="example 1: 34 tokens"):
        pack_chats(chats, Letters(), ROW)
    packed, made_of = pack_chats(chats, Letters(), 16, "split")
    seen = {example for items in made_of for example in items}
    assert seen == {0, 1, 2, 3}
    for tokens_t, segment_t, items in zip(
        packed.tokens_rt, packed.segment_rt, made_of, strict=True
    ):
        for segment, example in enumerate(items, 1):
            letters = {chr(t) for t in tokens_t[segment_t == segment]}
            assert letters <= {"q", "abcd"[example]}
