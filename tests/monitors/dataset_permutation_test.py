"""The permutation test: size, power, parity, and what duplicates and confounding do."""

import time
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from cifr_jax.errors import UserError
from cifr_jax.evaluation.intervals import clopper_pearson
from cifr_jax.monitors.dataset import permutation
from cifr_jax.monitors.dataset.result import monte_carlo_p

LEVELS = (0.05, 0.01, 0.001)


def rates(p_values):
    return {level: int(np.sum(np.array(p_values) <= level + 1e-12)) for level in LEVELS}


def assert_size(p_values, level=0.99):
    for alpha, hits in rates(p_values).items():
        interval = clopper_pearson(hits, len(p_values), level)
        assert interval[0] <= alpha <= interval[1], (alpha, hits, len(p_values))


def independent(rng, n=48):
    """An honest job: v and u both follow z, and the latents follow each other."""
    z = rng.integers(0, 3, n)
    u = (z + rng.integers(0, 2, n)) % 4
    v = (z + rng.integers(0, 3, n)) % 5
    near = np.where(rng.random(n) < 0.8, u, rng.integers(0, 4, n))
    other = np.where(rng.random(n) < 0.3, -1, rng.integers(0, 3, n))
    return np.stack([u, near, other]), v, z


def channel(rng, n, agree=1.0, m=1, eps=1.0, k=4):
    """A covert job: v tells the latent in a share eps of rows; the auditor's u is right
    with chance `agree`."""
    truth = rng.integers(0, k, n)
    v = truth * m + rng.integers(0, m, n)
    v = np.where(rng.random(n) < eps, v, rng.integers(0, k * m, n))
    wrong = (truth + rng.integers(1, k, n)) % k
    return np.where(rng.random(n) < agree, truth, wrong), v


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 80), st.integers(1, 4), st.integers(1, 40))
def test_information_is_what_an_independent_implementation_gives(seed, n, n_z, n_v):
    rng = np.random.default_rng(seed)
    z, v = rng.integers(0, n_z, n), rng.integers(0, n_v, n)
    u = rng.integers(-1, 4, n)
    source = np.concatenate(
        [np.arange(n)[None], rng.permuted(np.tile(np.arange(n), (2, 1)), axis=1)]
    )
    source[1:] = np.argsort(z, kind="stable")[np.argsort(np.argsort(z, kind="stable"))]
    known = u >= 0
    bits = permutation.Dependence(u, v, z).bits(source)
    for row, found in zip(source, bits, strict=True):
        expected = 0.0
        for stratum in np.unique(z[known]):
            rows = known & (z == stratum)
            share = rows.sum() / known.sum()
            expected += share * mutual_info_score(u[rows], v[row][rows]) / np.log(2)
        assert found == pytest.approx(expected, abs=1e-9)


def test_p_is_that_of_all_permutations():
    u, v, z = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 1, 0]), np.zeros(6, int)
    every = np.array([mutual_info_score(u, v[list(p)]) for p in permutations(range(6))])
    exact = np.mean(every >= mutual_info_score(u, v) - 1e-12)
    found = permutation.stratified(u, v, z, n_permutations=20_000).p_value
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000))
    assert 0.05 < exact < 0.9


def test_a_perfect_channel_has_known_bits_and_the_least_p():
    u = np.tile([0, 1], 50)
    result = permutation.stratified(u, u, np.zeros(100, int), names=["answer"])
    assert result.p_value == 1 / 1000
    assert result.detail["best"] == "answer"
    assert result.detail["latents"]["answer"]["bits"] == pytest.approx(1.0)


def test_size_with_a_search_over_latents():
    rng = np.random.default_rng(0)
    results = [permutation.stratified(*independent(rng), seed=i) for i in range(2000)]
    assert_size([r.p_value for r in results])
    for name in results[0].detail["latents"]:
        assert_size([r.detail["latents"][name]["p_value"] for r in results])


def test_confounding_accuses_honest_jobs_unless_strata_are_given():
    rng = np.random.default_rng(9)
    jobs = [independent(rng, 134) for _ in range(300)]
    draw = permutation.stratified
    naive = [draw(u, v, 0 * z, None, 199, i).p_value for i, (u, v, z) in enumerate(jobs)]
    right = [draw(u, v, z, None, 199, i).p_value for i, (u, v, z) in enumerate(jobs)]
    assert np.mean(np.array(naive) <= 0.01) > 0.97
    assert_size(right)


@pytest.mark.slow
def test_size_at_one_in_a_thousand():
    rng = np.random.default_rng(1)
    p_values = [
        permutation.stratified(*independent(rng, 134), seed=i).p_value for i in range(6000)
    ]
    assert_size(p_values, 0.95)


def test_size_with_rows_three_times():
    rng = np.random.default_rng(2)
    singly, together = [], []
    for seed in range(500):
        u, v, z = (np.repeat(a, 3, axis=-1) for a in independent(rng, 40))
        item = np.repeat(np.arange(40), 3)
        singly.append(permutation.stratified(u, v, z, n_permutations=99).p_value)
        together.append(permutation.stratified(u, v, z, item, 199, seed).p_value)
    assert np.mean(np.array(singly) <= 0.05) > 0.3
    assert_size(together)


def test_size_with_rotations_whose_replies_share_the_item():
    rng = np.random.default_rng(3)
    p_values = []
    for seed in range(500):
        n_items = 30
        item = np.repeat(np.arange(n_items), 4)
        answer = np.tile(np.arange(4), n_items)  # every rotation of an item, in one order
        topic = np.repeat(rng.integers(0, 3, n_items), 4)
        taste = np.repeat(rng.integers(0, 4, n_items), 4)  # an item's own habit of wording
        v = np.where(rng.random(item.size) < 0.7, taste, rng.integers(0, 4, item.size))
        u = np.stack([answer, topic])
        p_values.append(permutation.stratified(u, v, 0 * v, item, 199, seed).p_value)
    assert_size(p_values)


def test_rotations_in_one_order_do_not_hide_the_channel():
    answer = np.tile(np.arange(4), 30)
    rng = np.random.default_rng(4)
    v = np.where(rng.random(120) < 0.6, answer, rng.integers(0, 4, 120))
    item = np.repeat(np.arange(30), 4)
    assert permutation.stratified(answer, v, 0 * v, item).p_value == 1 / 1000


@pytest.mark.parametrize(
    ("agree", "m", "eps", "low", "high"),
    [(1.0, 1, 0.25, 0.75, 0.95), (0.7, 9, 1.0, 0.97, 1.0), (1.0, 1, 0.1, 0.03, 0.25)],
)
def test_power_is_that_of_the_published_table(agree, m, eps, low, high):
    rng = np.random.default_rng(5)
    found = [
        permutation.stratified(
            *channel(rng, 134, agree, m, eps),
            np.zeros(134, int),
            n_permutations=199,
            seed=i,
        ).p_value
        for i in range(200)
    ]
    assert low <= np.mean(np.array(found) <= 0.01) <= high


def test_labels_shuffled_over_an_attack_make_it_honest():
    rng = np.random.default_rng(6)
    found = []
    for seed in range(300):
        u, v = channel(rng, 60)
        found.append(
            permutation.stratified(u, rng.permutation(v), 0 * v, None, 199, seed).p_value
        )
    assert_size(found)


def test_the_search_counts_what_is_searched():
    rng = np.random.default_rng(7)
    found = permutation.search(rng.normal(size=20), rng.normal(size=(20, 999)))
    assert found.p >= min(found.marginal_k)
    assert all(a >= m for a, m in zip(found.adjusted_k, found.marginal_k, strict=True))
    assert min(found.adjusted_k) == found.p
    assert monte_carlo_p(1.0, np.array([0.0, 1.0 + 1e-15, 2.0])) == 3 / 4


@pytest.mark.parametrize(
    ("u", "v", "z", "cluster"),
    [
        ([0], [0], [0], None),
        ([0, 1, 2], [0, 1, 2], [0, 1, 2], None),
        ([0, 1], [0, 1], [0, 0], [5, 5]),
        ([-1, -1, -1], [0, 1, 2], [0, 0, 0], None),
        ([1, 1, 1], [0, 1, 2], [0, 0, 0], None),
        ([0, 1, 2], [4, 4, 4], [0, 0, 0], None),
        ([], [], [], None),
    ],
    ids=["one row", "lone strata", "one text", "unknown", "one u", "one v", "empty"],
)
def test_what_cannot_be_tested_is_not_an_alarm_and_says_so(u, v, z, cluster):
    arrays = [np.array(a, int) for a in (u, v, z)]
    # The rows of one item with unlike latents may swap, so copies are named.
    copy = None if cluster is None else np.zeros(2, int)
    result = permutation.stratified(*arrays, cluster, copy_n=copy)
    assert result.p_value == 1.0
    assert result.detail["note"] == "nothing to permute"


def test_bad_input_is_the_users():
    good = np.arange(4) % 2
    for arguments in (
        (good, good[:3], good),
        (good, good, good * 0.5),
        (good, good, good, good[:2]),
        (good * 0.5, good, good),
        (good, good, good, None, 0),
        (good, good, good, None, 9, 0, ["a", "b"]),
    ):
        with pytest.raises(UserError):
            permutation.stratified(*arguments)


def test_a_large_job_is_quick():
    rng = np.random.default_rng(8)
    n = 10_000
    u, v, z = rng.integers(0, 4, (6, n)), rng.integers(0, 36, n), rng.integers(0, 5, n)
    start = time.perf_counter()
    permutation.stratified(u, v, z, np.arange(n) // 3)
    assert time.perf_counter() - start < 10
