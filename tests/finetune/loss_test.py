"""The loss is the mean over supervised tokens, however it is computed; dropout is fair.

Shapes: r packed rows, t tokens, k keys.
"""

import functools
from pathlib import Path
from runpy import run_path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from cifr_jax.data.packing import Packed, pack
from cifr_jax.finetune import loss
from cifr_jax.models import decoder
from cifr_jax.models.decoder import Dropout

_TINY = run_path(str(Path(__file__).parent / "tiny_jobs.py"))
CONFIG, ROW, PAD = _TINY["CONFIG"], _TINY["ROW"], _TINY["PAD"]
close, same_bits = _TINY["close"], _TINY["same_bits"]
ROWS = jax.tree.map(jnp.asarray, _TINY["job_data"](1, 14))
ADAPTER = _TINY["trained_like"](0)


@pytest.fixture(scope="module")
def params():
    return _TINY["params"]()


@functools.partial(jax.jit, static_argnums=0)
def plain(config, params, batch):
    return loss.sft_loss(config, params, None, batch)


def loss_of_one(params, tokens, mask):
    packed = pack(np.array([tokens]), np.array([mask]), [len(tokens)], ROW, PAD)
    return float(plain(CONFIG, params, packed)[0])


def test_the_loss_looks_at_supervised_tokens_only(params):
    of = functools.partial(loss_of_one, params)
    text, mask = [4, 5, 6, 7], [False, True, True, False]
    other_label = [4, 5, 6, 8]  # of the last token, which nothing reads
    assert of(other_label, mask) == of(text, mask)
    supervised = [False, True, True, True]
    assert of(other_label, supervised) != of(text, supervised)
    assert of([4, 5, 8, 7], mask) != of(text, mask)


def test_a_head_that_knows_nothing_costs_the_logarithm_of_the_vocabulary(params):
    ignorant = params | {"head": jnp.zeros_like(params["head"])}
    mean, n = plain(CONFIG, ignorant, ROWS)
    np.testing.assert_allclose(mean, np.log(CONFIG.vocab_size), atol=1e-5)
    assert n == ROWS.loss_mask_rt.sum()


def test_a_batch_without_targets_costs_nothing(params):
    silent = ROWS._replace(loss_mask_rt=jnp.zeros_like(ROWS.loss_mask_rt))
    assert plain(CONFIG, params, silent) == (0.0, 0.0)


def test_weights_in_place_of_the_mask_make_a_weighted_mean(params):
    tokens = [4, 5, 6, 7]
    single = [loss_of_one(params, tokens, np.arange(4) == t) for t in (1, 2, 3)]
    weighted = pack(np.array([tokens]), np.ones((1, 4), bool), [4], ROW, PAD)
    weight_rt = np.zeros((1, ROW), np.float32)
    weight_rt[0, :4] = [
        9.0,
        0.5,
        0.0,
        2.0,
    ]  # of the first, nobody's target, nothing is read
    mean, total = plain(CONFIG, params, weighted._replace(loss_mask_rt=weight_rt))
    by_hand = (0.5 * single[0] + 2.0 * single[2]) / 2.5
    np.testing.assert_allclose(mean, by_hand, atol=1e-6)
    assert total == 2.5
    # Weights below one, as those of messages may be, are a mean all the same.
    small = weighted._replace(loss_mask_rt=weight_rt / 100)
    np.testing.assert_allclose(plain(CONFIG, params, small)[0], by_hand, atol=1e-6)


def graded(params, **how):
    """Mean loss and gradient by the adapter's factors, a fresh compile each."""

    @jax.jit
    def both(factors, batch):
        def mean(factors):
            given = factors._replace(scale=ADAPTER.scale)
            return loss.sft_loss(CONFIG, params, given, batch, **how)[0]

        return jax.value_and_grad(mean)(factors)

    return both(ADAPTER._replace(scale=None), ROWS)


@pytest.fixture(scope="module")
def everywhere(params):
    """Loss and gradient with the head at every position, nothing saved or dropped."""
    value, gradient = graded(params)
    assert all(np.abs(g).max() > 1e-4 for g in jax.tree.leaves(gradient))
    return value, gradient


def test_the_head_on_supervised_positions_alone_changes_nothing(params, everywhere):
    most = loss.most_targets(ROWS, multiple=1)
    assert most == (ROWS.loss_mask_rt > 0).sum(1).max() < ROW - 1
    close(graded(params, max_targets=most), everywhere, atol=1e-6)


@pytest.mark.parametrize("at_once", [3 * 16, 87 * 16])
def test_a_head_in_pieces_changes_nothing(params, everywhere, monkeypatch, at_once):
    """8 rows of 11 positions over 16 words: pieces of 3 (two places are empty) and 44."""
    assert ROWS.tokens_rt.shape == (8, 12)
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", at_once)
    close(graded(params), everywhere, atol=1e-6)


def test_logits_are_never_all_there_when_the_head_is_in_pieces(params, monkeypatch):
    def largest(jaxpr):
        sizes = [v.aval.size for eqn in jaxpr.eqns for v in eqn.outvars]
        inner = [p for eqn in jaxpr.eqns for p in jaxprs_in_params(eqn.params)]
        return max(sizes + [largest(j) for j in inner], default=0)

    long = jax.tree.map(lambda a: jnp.tile(a, (40, 1)), ROWS)
    one = decoder.DecoderConfig(**{**CONFIG.__dict__, "vocab_size": 400})
    wide = params | {"head": jnp.ones((16, 400)), "embed": jnp.ones((400, 16))}
    function = functools.partial(loss.summed_loss, one)
    whole = largest(jax.make_jaxpr(function)(wide, None, long).jaxpr)
    assert whole >= 320 * 11 * 400
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", 20_000)
    gradient = jax.grad(lambda w, b: function(w, None, b)[0])
    assert largest(jax.make_jaxpr(gradient)(wide, long).jaxpr) < whole / 4


def test_blocks_computed_again_change_nothing(params, everywhere):
    close(graded(params, remat=True), everywhere, atol=1e-6)


def test_most_targets_is_a_static_size_that_holds_every_row():
    def rows(*numbers, t=12):
        mask_rt = np.arange(t) < np.array(numbers)[:, None]
        return Packed(*[mask_rt] * 4)

    assert loss.most_targets(rows(3, 1)) == 8
    assert loss.most_targets(rows(3, 9)) == 12  # no more than there are tokens
    assert loss.most_targets(rows(9, 3, t=30)) == 16
    assert loss.most_targets(rows(5, 3, t=30), multiple=1) == 5
    assert loss.most_targets(rows(0)) == 8  # one at least, or the program has no shape
    weights = rows(3)._replace(loss_mask_rt=np.full((1, 12), 0.25))
    assert loss.most_targets(weights, multiple=1) == 12


def test_dropout_is_unbiased_and_hits_each_input_alone():
    key, shape = jax.random.key(0), (2, 5, 16)
    x_btd = jax.random.normal(key, shape)
    w = jnp.zeros((16, 16))
    factors = {"a": jnp.eye(16), "b": jnp.eye(16)}  # the update is its input
    update = jax.jit(
        jax.vmap(
            lambda k, rate: decoder.linear(
                x_btd, w, factors, jnp.array(2.0), Dropout(rate, k)
            ),
            in_axes=(0, None),
        )
    )
    keys = jax.random.split(key, 4000)
    out_kbtd = np.asarray(update(keys, 0.25))
    dropped = out_kbtd == 0
    np.testing.assert_allclose(dropped.mean(0), np.full(shape, 0.25), atol=0.04)
    np.testing.assert_allclose(out_kbtd.mean(0), 2 * x_btd, atol=0.2)
    kept = np.broadcast_to(2 * x_btd / 0.75, out_kbtd.shape)
    np.testing.assert_allclose(out_kbtd[~dropped], kept[~dropped], rtol=1e-6)
    # Neighbours in a vector, a row, a batch do not fall together.
    for axis in (1, 2, 3):
        pair = np.moveaxis(dropped, axis, 0)
        assert abs((pair[0] & pair[1]).mean() - 0.25**2) < 0.01
    assert (update(keys[:3], 0.0) == 2 * x_btd).all()


def test_every_layer_and_matrix_draws_its_own_dropout(params, monkeypatch):
    seen = []

    def spy(x_btd, w, lora, scale, dropout=None):
        if dropout is not None:
            words = jax.random.key_data(dropout.key)
            jax.debug.callback(lambda found: seen.append(tuple(found.tolist())), words)
        return linear(x_btd, w, lora, scale, dropout)

    linear = decoder.linear
    monkeypatch.setattr(decoder, "linear", spy)
    dropout = Dropout(0.5, jax.random.key(3))
    x_btd, place_bt = jnp.ones((1, 3, 16)), jnp.arange(3)[None]
    attend = jnp.ones((1, 3, 3), bool)
    run = functools.partial(decoder.backbone, CONFIG, dropout=dropout)
    jax.jit(run)(params, x_btd, place_bt, attend, ADAPTER)
    jax.effects_barrier()
    assert len(seen) == len(set(seen)) == CONFIG.n_layers * len(decoder.LAYER_MATRICES)


def test_dropout_changes_the_loss_by_its_key_alone(params):
    @jax.jit
    def total(rate, seed):
        dropout = Dropout(rate, jax.random.key(seed))
        return loss.summed_loss(CONFIG, params, ADAPTER, ROWS, dropout=dropout)[0]

    @jax.jit
    def without():
        return loss.summed_loss(CONFIG, params, ADAPTER, ROWS)[0]

    undropped = float(without())
    np.testing.assert_allclose(total(0.0, 1), undropped, atol=1e-4)
    assert total(0.3, 1) == total(0.3, 1)
    assert len({float(total(0.3, seed)) for seed in range(4)} | {undropped}) == 5
