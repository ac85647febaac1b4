"""The rearrangements: each is one that the null allows, and each is as likely."""

import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from cifr_jax.errors import UserError
from cifr_jax.monitors.dataset.shuffles import Shuffles


@st.composite
def layouts(draw):
    n = draw(st.integers(1, 24))
    column = lambda high: st.lists(st.integers(0, high), min_size=n, max_size=n)  # noqa: E731
    return tuple(np.array(draw(column(high))) for high in (2, 6, 2))


@settings(max_examples=60, deadline=None)
@given(layouts(), st.integers(0, 1000))
def test_every_draw_keeps_strata_clusters_and_copies(layout, seed):
    strata, cluster, copy = layout
    n = strata.size
    shuffles = Shuffles(strata, cluster, copy)
    draws = shuffles.draw(64, np.random.default_rng(seed))
    assert (np.sort(draws, axis=1) == np.arange(n)).all()
    assert (strata[draws] == strata).all()
    unit = np.unique(np.stack([cluster, strata, copy], 1), axis=0, return_inverse=True)[1]
    unit = unit.reshape(-1)
    for blocks in (cluster, unit):
        for block in np.unique(blocks):
            sources = blocks[draws[:, blocks == block]]
            assert (sources == sources[:, :1]).all()  # whole blocks move, none is split
    sizes = np.bincount(unit)
    assert (sizes[unit[draws]] == sizes[unit]).all()
    fixed = (draws == np.arange(n)).all(axis=0)
    assert (fixed == ~shuffles.movable_n).all()  # 64 draws move whatever can move


def test_all_moves_of_two_items_of_two_texts_are_as_likely():
    shuffles = Shuffles(np.zeros(4, int), np.array([0, 0, 1, 1]), np.arange(4))
    draws = shuffles.draw(8000, np.random.default_rng(0))
    seen = Counter(map(tuple, draws.tolist()))
    assert len(seen) == 8  # 2 swaps within, for each item, by 2 orders of the items
    assert chisquare(list(seen.values())).pvalue > 1e-3


def test_rows_of_no_cluster_take_every_place_as_often():
    strata = np.array([0, 1, 0, 0, 1])
    draws = Shuffles(strata).draw(6000, np.random.default_rng(1))
    seen = Counter(map(tuple, draws.tolist()))
    assert len(seen) == 6 * 2
    assert chisquare(list(seen.values())).pvalue > 1e-3


def test_copies_stay_together_and_unlike_items_stay_apart():
    # Item 0: a text twice and another once; item 1: three texts.
    cluster, copy = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 2, 3, 4])
    draws = Shuffles(np.zeros(6, int), cluster, copy).draw(200, np.random.default_rng(0))
    assert (draws[:, :3] == [0, 1, 2]).all()
    assert len({tuple(d) for d in draws[:, 3:].tolist()}) == 6


def test_memory_does_not_grow_with_the_number_of_shuffles():
    shuffles = Shuffles(np.zeros(20_000, int))
    peaks = []
    for total in (300, 1500):
        tracemalloc.start()
        drawn = sum(len(piece) for piece in shuffles.chunks(total, seed=0))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert drawn == total
    assert peaks[1] < 1.1 * peaks[0]


def test_no_rows_and_bad_rows():
    assert Shuffles(np.zeros(0, int)).draw(3, np.random.default_rng(0)).shape == (3, 0)
    for bad in ([[1]], [0.5], ["a"]):
        with pytest.raises(UserError):
            Shuffles(bad)
    with pytest.raises(UserError):
        Shuffles([0, 0], [0])
