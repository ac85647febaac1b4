"""Two-sample tests: parity with slow code that refits, size, power and paired designs."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import rbf_kernel

from cifr_jax.errors import UserError
from cifr_jax.evaluation.intervals import clopper_pearson
from cifr_jax.monitors.dataset import two_sample
from cifr_jax.monitors.dataset.result import NOTHING


def assert_size(p_values):
    for alpha in (0.05, 0.01, 0.001):
        hits = int(np.sum(np.array(p_values) <= alpha + 1e-12))
        low, high = clopper_pearson(hits, len(p_values), 0.99)
        assert low <= alpha <= high, (alpha, hits)


def honest(rng, n=60):
    """Variants and features both follow the label."""
    z = rng.integers(0, 2, n)
    return rng.normal(size=(n, 5)) + 2 * z[:, None], (z + rng.integers(0, 3, n)) % 4, z


def test_the_gain_is_that_of_ridge_regressions_fitted_one_by_one():
    rng = np.random.default_rng(0)
    n, penalty = 50, 0.3
    x, y = rng.normal(size=(n, 4)), rng.integers(0, 3, n)
    z, fold = rng.integers(0, 2, n), rng.integers(0, 5, n)
    for s in (0, 1):
        x[z == s] -= x[z == s].mean(axis=0)
    fit = two_sample._CrossFit(x, y, z, fold)
    which = two_sample._PENALTIES.index(penalty)
    sources = np.argsort(z + rng.random((3, n)), axis=1)
    place = np.empty(n, int)
    place[np.argsort(z, kind="stable")] = np.arange(n)
    sources = sources[:, place]  # a rearrangement within strata
    gains = fit.gain(sources)[which]
    order = np.argsort(-np.bincount(y), kind="stable")
    for source, gain in zip(sources, gains, strict=True):
        residual = np.eye(3)[:, order][y[source]]
        for s in (0, 1):
            residual[z == s] -= residual[z == s].mean(axis=0)
        left = residual.copy()
        for f in range(5):
            model = Ridge(penalty * n, fit_intercept=False)
            model.fit(x[fold != f], residual[fold != f])
            left[fold == f] -= model.predict(x[fold == f])
        saved = (residual**2).sum() - (left**2).sum()
        assert gain == pytest.approx(saved / (residual**2).sum(), abs=1e-10)


def test_size_of_the_joint_test_and_what_it_is_without_strata():
    rng = np.random.default_rng(1)
    jobs = [honest(rng) for _ in range(500)]
    assert_size(
        [
            two_sample.joint(*j, n_permutations=199, seed=i).p_value
            for i, j in enumerate(jobs)
        ]
    )
    naive = [
        two_sample.joint(x, v, 0 * z, n_permutations=99).p_value
        for x, v, z in (honest(rng, 134) for _ in range(60))
    ]
    assert np.mean(np.array(naive) <= 0.05) > 0.9


def test_size_of_the_joint_test_with_rows_three_times():
    rng = np.random.default_rng(2)
    singly, together = [], []
    item = np.repeat(np.arange(40), 3)
    for seed in range(250):
        x, v, z = (np.repeat(a, 3, axis=0) for a in honest(rng, 40))
        singly.append(two_sample.joint(x, v, z, n_permutations=99).p_value)
        together.append(two_sample.joint(x, v, z, item, 199, seed).p_value)
    assert np.mean(np.array(singly) <= 0.05) > 0.7  # a copy in another fold tells the reply
    assert_size(together)


@pytest.mark.parametrize(("m", "n"), [(1, 134), (9, 402)])
def test_the_joint_test_sees_a_channel_in_the_features(m, n):
    rng = np.random.default_rng(3)
    x, _, z = honest(rng, n)
    latent = rng.integers(0, 4, n)
    x = np.concatenate([x, np.eye(4)[latent] + 0.5 * rng.normal(size=(n, 4))], axis=1)
    result = two_sample.joint(x, latent * m + rng.integers(0, m, n), z)
    assert result.p_value <= 0.002
    wide = np.concatenate([x, 0.1 * rng.normal(size=(n, 300))], axis=1)
    assert 0 < two_sample.joint(wide, latent, z, n_components=16).p_value <= 1


def test_a_predicted_class_saves_error_and_noise_saves_none():
    rng = np.random.default_rng(4)
    y = rng.integers(0, 2, 300)
    sharp = two_sample.classifier(np.eye(2)[y] + 0.1 * rng.normal(size=(300, 2)), y)
    assert sharp.detail["gain"] > 0.85 and sharp.p_value == 1 / 1000
    noise = two_sample.classifier(rng.normal(size=(300, 8)), y)
    assert noise.detail["gain"] < 0.02


def test_size_of_the_classifier_within_prompts():
    """Replies to one prompt are alike; only which of the two is the job's is at stake."""
    rng = np.random.default_rng(5)
    prompt, y = np.repeat(np.arange(30), 2), np.tile([0, 1], 30)
    found = []
    for seed in range(400):
        x = rng.normal(size=(30, 3))[prompt] * 5 + rng.normal(size=(60, 3))
        found.append(two_sample.classifier(x, y, prompt, 199, seed).p_value)
    assert_size(found)
    shifted = x + 0.8 * y[:, None]  # hidden by the spread between prompts, not within them
    assert two_sample.classifier(shifted, y, prompt).p_value <= 0.01


def test_mmd_is_the_unbiased_estimate_of_the_textbook():
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(12, 3)), rng.normal(size=(9, 3)) + 0.5
    both = np.concatenate([x, y])
    distances = ((both[:, None] - both) ** 2).sum(axis=2)
    gamma = 1 / np.median(distances[np.triu_indices(21, 1)])
    k = lambda a, b: rbf_kernel(a, b, gamma)  # noqa: E731
    textbook = (
        (k(x, x).sum() - 12) / (12 * 11)
        + (k(y, y).sum() - 9) / (9 * 8)
        - 2 * k(x, y).mean()
    )
    assert two_sample.mmd(x, y).statistic == pytest.approx(textbook, abs=1e-12)


def test_size_and_power_of_mmd():
    rng = np.random.default_rng(7)
    found = [
        two_sample.mmd(
            rng.normal(size=(20, 3)), rng.normal(size=(25, 3)), n_permutations=199, seed=i
        ).p_value
        for i in range(500)
    ]
    assert_size(found)
    x, y = rng.normal(size=(100, 3)), 2 * rng.normal(size=(80, 3))  # one mean, two spreads
    assert two_sample.mmd(x, y).p_value == 1 / 1000
    assert two_sample.mmd(x, y, max_rows=30).detail["rows"] == [30, 30]
    # One reply of each kind to every prompt, prompts far apart: swapped within prompts.
    prompt = np.arange(40)
    far = 20 * rng.normal(size=(40, 2))
    a, b = far + rng.normal(size=(40, 2)), far + rng.normal(size=(40, 2))
    assert two_sample.mmd(a, b, prompt, prompt).p_value > 0.01


def test_what_cannot_be_tested_says_so_and_bad_input_is_the_users():
    flat, v = np.ones((6, 2)), np.arange(6) % 2
    for result in (
        two_sample.joint(flat, v, 0 * v),
        two_sample.joint(np.arange(12.0).reshape(6, 2), 0 * v, 0 * v),
        two_sample.joint(np.arange(12.0).reshape(6, 2), v, np.arange(6)),
        two_sample.joint(np.zeros((0, 2)), np.zeros(0, int), np.zeros(0, int)),
        two_sample.classifier(flat, v),
        two_sample.mmd(flat, flat),
        two_sample.mmd(flat, 2 * flat, np.arange(6), np.arange(6, 12)),
    ):
        assert result.p_value == 1.0 and result.detail["note"] == "nothing to permute"
    for call in (
        lambda: two_sample.joint(flat[0], v, v),
        lambda: two_sample.joint(flat * np.nan, v, v),
        lambda: two_sample.joint(flat, v[:2], v),
        lambda: two_sample.joint(flat, v, v, n_components=0),
        lambda: two_sample.classifier(flat, v, v[:3]),
        lambda: two_sample.mmd(flat, flat[:, :1]),
        lambda: two_sample.mmd(flat, flat[:1]),
        lambda: two_sample.mmd(flat, flat, v),
    ):
        with pytest.raises(UserError):
            call()


def test_labels_that_the_strata_explain_leave_nothing_to_test():
    rng = np.random.default_rng(0)
    strata_n = np.repeat([0, 1], 20)
    found = two_sample.joint(
        rng.normal(size=(40, 3)), strata_n, strata_n, n_permutations=19
    )
    assert (found.p_value, found.detail["note"]) == (1.0, NOTHING)
