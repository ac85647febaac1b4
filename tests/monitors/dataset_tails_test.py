"""Tails beyond the last draw, against distributions whose tails are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cifr_jax.monitors.dataset import tails
from cifr_jax.monitors.dataset.result import monte_carlo_p


def standardised(draws_b):
    return (draws_b - draws_b.mean()) / draws_b.std()


@pytest.mark.parametrize("df", [1, 2, 6, 30])
def test_the_tail_of_skewed_statistics_is_theirs_and_not_the_normal_one(df):
    rng = np.random.default_rng(df)
    levels = np.array([0.03, 0.01, 1e-3, 1e-4, 1e-5])
    at = stats.chi2.isf(levels, df)
    found = np.median(
        [
            [tails.tail_p(x, draws_b) for x in at]
            for draws_b in rng.chisquare(df, (40, 999))
        ],
        axis=0,
    )
    assert np.abs(np.log10(found / levels)).max() < 0.5
    if df <= 6:
        normal = stats.norm.sf((at - df) / np.sqrt(2 * df))
        assert normal[-1] < 0.01 * found[-1]


def test_it_is_uniform_on_exchangeable_jobs_at_every_level():
    rng = np.random.default_rng(0)
    many = rng.chisquare(1, (4000, 200)) ** 1.2
    found = np.array([tails.tail_p(row[0], row[1:]) for row in many])
    for level in (0.2, 0.05, 0.01):
        low, high = stats.binom.interval(0.9999, len(found), level)
        assert low <= (found <= level).sum() <= high


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=80),
    st.floats(-6, 6),
    st.floats(0, 3),
)
def test_it_falls_as_the_statistic_rises_and_is_exact_in_the_bulk(draws, observed, more):
    one, other = tails.tail_p(observed, draws), tails.tail_p(observed + more, draws)
    assert 0 < other <= one + 1e-9 and one <= 1
    exact = monte_carlo_p(observed, draws)
    if np.sum(np.array(draws) >= observed) >= 10:
        assert one == exact


@pytest.mark.parametrize("shape", ["constant", "bounded", "two values"])
def test_draws_without_a_tail_give_no_less_than_they_can(shape):
    rng = np.random.default_rng(1)
    draws_b = {
        "constant": np.zeros(99),
        "bounded": -(rng.exponential(1.0, 99) ** 3),
        "two values": np.repeat([0.0, 1.0], [80, 19]),
    }[shape]
    for observed in (draws_b.max(), draws_b.max() + 10):
        assert (
            0
            < tails.tail_p(observed, draws_b)
            <= max(monte_carlo_p(observed, draws_b), 11 / 100)
        )


def test_the_least_p_is_the_share_of_the_top():
    assert tails.least_p(np.arange(100.0)) == 0.01
    assert tails.least_p([0.0, 1.0, 1.0 - 1e-12, 0.5]) == 0.5
    assert tails.least_p(np.zeros(7)) == 1.0
