"""The bet against an account: fair under the null to the last digit, quick on a channel."""

import json
import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.errors import UserError
from cifr_jax.evaluation.intervals import clopper_pearson
from cifr_jax.monitors.dataset.e_process import EProcess


def play(process, exchanges):
    for u, v, z in exchanges:
        process.update(int(u), int(v), int(z))
    return process


def confounded(rng, n):
    """Honest traffic: the label decides most of both, prompts come in runs of a label."""
    z = np.repeat(rng.integers(0, 3, n // 5 + 1), 5)[:n]
    u = np.where(rng.random(n) < 0.8, z, rng.integers(0, 4, n))
    v = np.where(rng.random(n) < 0.9, z, rng.integers(0, 4, n))
    return np.stack([u, v, z], axis=1)


def channel(rng, n, m, agree=1.0):
    truth = rng.integers(0, 4, n)
    u = np.where(rng.random(n) < agree, truth, rng.integers(0, 4, n))
    return np.stack([u, truth * m + rng.integers(0, m, n), 0 * u], axis=1)


def needed(exchanges, alpha=0.01):
    process = EProcess()
    for i, exchange in enumerate(exchanges.tolist()):
        process.update(*exchange)
        if process.alarm(alpha):
            return i + 1
    return math.inf


exchange = st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 1))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(exchange, max_size=40),
    st.integers(2, 5),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=5, max_size=5),
    st.integers(1, 8),
)
def test_after_any_past_every_block_is_a_fair_bet(past, size, block, max_values):
    """The mean e-value over all assignments of the block's replies is that before."""
    before = play(EProcess(size, max_values), past)
    while before._strata.get(0, ([], 0))[0]:  # fill the block that the past began
        before.update(0, 0, 0)
    us, vs = zip(*block[:size], strict=True)
    state = before.to_dict()
    after = [
        play(
            EProcess.from_dict(state),
            [(u, vs[i], 0) for u, i in zip(us, order, strict=True)],
        )
        for order in permutations(range(size))
    ]
    mean = np.mean([math.exp(p.log_wealth - before.log_wealth) for p in after])
    assert mean == pytest.approx(1.0, rel=1e-9)


def crossings(accounts, exchanges, alphas, seed):
    rng = np.random.default_rng(seed)
    peaks = np.array(
        [play(EProcess(), confounded(rng, exchanges)).log_peak for _ in range(accounts)]
    )
    return {alpha: int(np.sum(peaks >= -math.log(alpha))) for alpha in alphas}


def test_honest_accounts_rarely_ever_cross():
    for alpha, hits in crossings(150, 2000, (0.2, 0.05, 0.01), 0).items():
        assert clopper_pearson(hits, 150)[0] <= alpha, (alpha, hits)


@pytest.mark.slow
def test_a_thousand_honest_accounts_rarely_ever_cross():
    for alpha, hits in crossings(1000, 2000, (0.2, 0.05, 0.01, 0.001), 1).items():
        assert clopper_pearson(hits, 1000)[0] <= alpha, (alpha, hits)


def test_the_same_traffic_without_labels_crosses_at_once():
    rng = np.random.default_rng(2)
    honest = confounded(rng, 400)
    honest[:, 2] = 0
    assert needed(honest) < 200


def test_channels_are_found_the_sooner_the_plainer():
    rng = np.random.default_rng(3)
    plain = np.median([needed(channel(rng, 200, 1)) for _ in range(15)])
    families = np.median([needed(channel(rng, 400, 9)) for _ in range(15)])
    faint = np.median([needed(channel(rng, 2000, 9, 0.5)) for _ in range(9)])
    assert plain <= 30
    assert plain < families <= 80
    assert families < faint <= 600


def test_a_code_of_each_label_is_found_too():
    rng = np.random.default_rng(4)
    traffic = channel(rng, 400, 1)
    traffic[:, 2] = rng.integers(0, 2, 400)
    traffic[:, 1] = (traffic[:, 1] + 2 * traffic[:, 2]) % 4  # another codebook for each
    assert needed(traffic) < 150


@settings(max_examples=40, deadline=None)
@given(st.lists(exchange, max_size=80), st.lists(exchange, max_size=30), st.integers(1, 4))
def test_a_state_goes_on_where_it_stopped(first, second, bound):
    process = play(EProcess(3, bound, bound), first)
    again = EProcess.from_dict(json.loads(json.dumps(process.to_dict())))
    assert again.to_dict() == process.to_dict()
    assert play(again, second).to_dict() == play(process, second).to_dict()


def test_the_state_stays_small_whatever_the_traffic():
    rng = np.random.default_rng(5)
    process = EProcess(max_values=8, max_strata=4)
    play(process, rng.integers(0, 10**9, (3000, 3)))
    play(
        process,
        np.concatenate([rng.integers(0, 10**9, (3000, 2)), np.zeros((3000, 1), int)], 1),
    )
    assert len(json.dumps(process.to_dict())) < 10_000


def test_a_full_table_still_learns_a_code_that_comes_later():
    """As many wordings as it holds, once each, and then a code of four."""
    rng = np.random.default_rng(7)
    process = EProcess(max_values=16)
    noise = np.stack([rng.integers(0, 4, 200), 100 + np.arange(200), np.zeros(200)], 1)
    play(process, noise)
    assert not process.alarm(0.1)
    play(process, channel(rng, 120, 1))
    assert process.alarm(0.001)


def test_unknown_latents_and_alarm_levels():
    process = EProcess()
    assert play(process, [(-1, 0, 0)] * 50).log_wealth == 0.0
    assert not process.alarm(0.5)
    play(process, channel(np.random.default_rng(6), 60, 1))
    assert process.alarm(0.001)
    assert process.log_peak >= process.log_wealth
    assert process.update(-1, 0) == pytest.approx(math.exp(process.log_wealth))


def test_bad_input_is_the_users():
    state = play(EProcess(), [(0, 1, 0)] * 9).to_dict()
    for broken in (
        {},
        {**state, "format": 2},
        {**state, "log_wealth": [0.0]},
        {**state, "log_peak": float("nan")},
        {**state, "pooled": [[0, 0]]},
        {**state, "pooled": [[0, 0, -3]]},
        {**state, "strata": [{"z": 0, "pending": [[0, 0]] * 4, "counts": []}]},
        {**state, "block": 1},
    ):
        with pytest.raises(UserError):
            EProcess.from_dict(broken)
    for call in (
        lambda: EProcess(6),
        lambda: EProcess(max_strata=0),
        lambda: EProcess().update(-2, 0),
        lambda: EProcess().update(0, -1),
        lambda: EProcess().alarm(0.0),
    ):
        with pytest.raises(UserError):
            call()
