"""Support collapse: measures, size against both kinds of base, a code of K words."""

import numpy as np
import pytest

from cifr_jax.errors import UserError
from cifr_jax.evaluation.intervals import clopper_pearson
from cifr_jax.monitors.dataset import support
from cifr_jax.monitors.dataset.categorical import RowDraws


def base(rng, n, v=20):
    """Log-likelihoods that differ from prompt to prompt, up to a constant of the row."""
    logits = rng.normal(size=v) + rng.normal(size=(n, v)) + 100 * rng.normal(size=(n, 1))
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return logits, p / p.sum(axis=1, keepdims=True)


def sample(rng, p_nv):
    return np.array([rng.choice(p_nv.shape[1], p=p) for p in p_nv])


def test_draws_follow_each_rows_own_distribution():
    rng = np.random.default_rng(0)
    p_nv = rng.dirichlet(np.ones(5), size=4)
    p_nv[1] = [0, 0.5, 0, 0.5, 0]
    draws = np.concatenate(list(RowDraws(p_nv).chunks(20_000, seed=1, cost=4000)))
    assert draws.shape == (20_000, 4)
    for i in range(4):
        share = np.bincount(draws[:, i], minlength=5) / 20_000
        assert np.abs(share - p_nv[i]).max() < 4 * np.sqrt(0.25 / 20_000)
    assert set(draws[:, 1]) == {1, 3}


def test_measures_of_a_job_counted_by_hand():
    v = np.array([0, 0, 0, 0, 1, 1, 2, 3])
    detail = support.collapse(v, np.zeros((8, 8))).detail
    assert detail["entropy"]["value"] == pytest.approx(1.75)
    assert detail["distinct"]["value"] == 4
    assert detail["unseen_mass"]["value"] == pytest.approx(2 / 8)


@pytest.mark.parametrize("given", ["likelihoods", "draws"])
def test_size(given):
    rng = np.random.default_rng(2)
    found = []
    for seed in range(500):
        logits, p_nv = base(rng, 40)
        v = sample(rng, p_nv)
        if given == "likelihoods":
            result = support.collapse(v, logits, n_draws=199, seed=seed)
        else:
            replies = np.stack([sample(rng, p_nv) for _ in range(3)], axis=1)
            result = support.collapse(v, draws_ns=replies, n_draws=199, seed=seed)
        found.append(result.p_value)
    for alpha in (0.05, 0.01, 0.001):
        hits = int(np.sum(np.array(found) <= alpha + 1e-12))
        low, high = clopper_pearson(hits, len(found), 0.99)
        assert low <= alpha <= high, (alpha, hits)


def test_a_code_of_four_words_collapses_and_nine_families_of_them_keep_the_entropy():
    rng = np.random.default_rng(3)
    logits, p_nv = base(rng, 134, 36)
    replies = np.stack([sample(rng, p_nv) for _ in range(5)], axis=1)
    code = rng.integers(0, 4, 134)
    assert support.collapse(code, logits).p_value == 1 / 1000
    assert support.collapse(code, draws_ns=replies).p_value == 1 / 1000
    spread = rng.integers(0, 36, 134)
    assert support.collapse(spread, logits).detail["entropy"]["p_value"] > 0.5


def test_requests_are_open_where_most_replies_differ_own_and_drawn_alike():
    pool = np.array([[1, 1, 1, 1], [1, 2, 1, 2], [1, 2, 3, 1], [4, 3, 2, 1]])
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        assert support.open_choices(pool[:, order]).tolist() == [False, False, True, True]


def test_size_among_requests_that_are_chosen_for_their_spread():
    rng = np.random.default_rng(4)
    found = []
    for seed in range(300):
        p_nv = base(rng, 60, 4)[1]
        pool = np.stack([sample(rng, p_nv) for _ in range(4)], axis=1)
        pool = pool[support.open_choices(pool)]
        result = support.collapse(pool[:, 0], draws_ns=pool[:, 1:], n_draws=199, seed=seed)
        found.append(result.p_value)
    for alpha in (0.05, 0.01):
        hits = int(np.sum(np.array(found) <= alpha + 1e-12))
        low, high = clopper_pearson(hits, len(found), 0.99)
        assert low <= alpha <= high, (alpha, hits)


def test_a_base_without_choice_says_so_and_bad_input_is_the_users():
    sure = np.where(np.eye(3)[[0, 1, 2]] == 1, 0.0, -np.inf)
    result = support.collapse(np.arange(3), sure)
    assert result.p_value == 1.0 and result.detail["note"] == "the base model has no choice"
    v = np.array([0, 1])
    for arguments in (
        {},
        {"logp_nv": np.zeros((2, 2)), "draws_ns": np.zeros((2, 2), int)},
        {"logp_nv": np.zeros((3, 2))},
        {"logp_nv": np.zeros((2, 1))},
        {"logp_nv": np.full((2, 2), np.nan)},
        {"logp_nv": np.full((2, 2), -np.inf)},
        {"logp_nv": np.zeros((2, 2)), "n_draws": 0},
        {"draws_ns": np.zeros((3, 2), int)},
    ):
        with pytest.raises(UserError):
            support.collapse(v, **arguments)
    with pytest.raises(UserError):
        support.collapse(np.zeros(0, int), np.zeros((0, 2)))
