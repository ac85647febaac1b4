"""The randomisation test against the base: measured size, parity of its fit, power."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from cifr_jax.errors import UserError
from cifr_jax.evaluation.intervals import clopper_pearson
from cifr_jax.monitors.dataset import conditional_randomisation as crt
from cifr_jax.monitors.dataset.categorical import RowDraws
from cifr_jax.monitors.dataset.prediction_gain import held_out_bits
from cifr_jax.monitors.dataset.tilt import components, few_enough, fit_tilt


def job(rng, n, eps=0.0, n_v=8, d=6):
    """A house style for each label, a base that prefers other replies for other prompts,
    visible features that matter, and one latent that follows all of them. In a share eps
    of rows the reply tells the other latent."""
    x, z = rng.normal(size=(n, d)), rng.integers(0, 2, n)
    logp = 1.5 * rng.normal(size=(n, n_v)) + x[:, :1] * np.linspace(-1, 1, n_v)
    style, weights = rng.normal(size=(2, n_v)), 0.5 * rng.normal(size=(d, n_v))
    noise = rng.gumbel(size=(n, n_v))
    v = (style[z] + 0.7 * logp + x @ weights + noise).argmax(axis=1)
    visible = (x[:, 0] + z + rng.normal(size=n) > 0.5) + 2 * rng.integers(0, 2, n)
    hidden = rng.integers(0, 4, n)
    v = np.where(rng.random(n) < eps, hidden, v)
    return {
        "v_n": v,
        "logp_nv": logp,
        "u_kn": np.stack([visible, hidden]),
        "x_nd": x,
        "strata_n": z,
    }


def low_rates(n, repetitions, seed):
    rng = np.random.default_rng(seed)
    found = [
        crt.test(**job(rng, n), n_draws=199, seed=i).p_value for i in range(repetitions)
    ]
    return {
        alpha: clopper_pearson(
            int(np.sum(np.array(found) <= alpha + 1e-12)), repetitions, 0.99
        )
        for alpha in (0.05, 0.01, 0.001)
    }


@pytest.mark.parametrize(("n", "repetitions"), [(134, 250), (402, 150)])
def test_size_is_at_most_nominal_though_the_tilt_is_estimated(n, repetitions):
    for alpha, (low, high) in low_rates(n, repetitions, n).items():
        assert low <= alpha, (alpha, low, high)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "least"), [(134, 0.01), (402, 0.03)])
def test_measured_size(n, least):
    """Conservative on small jobs, where the fit takes up much of what there is."""
    low, high = low_rates(n, 4000, n)[0.05]
    assert low <= 0.05 and least <= high and (low + high) / 2 > least


def test_held_out_gain_is_that_of_plain_loops():
    """One Newton step on the other folds, tried on the fold; row by row."""
    rng = np.random.default_rng(7)
    p, c = rng.dirichlet(np.ones(3), size=11), rng.normal(size=(11, 2))
    v = rng.integers(0, 3, 11)
    fold = np.empty(11, int)
    fold[np.random.default_rng([4, 3]).permutation(11)] = np.arange(11) % 5
    total = 0.0
    for i in range(11):
        weight = np.zeros((3, 2))
        for k in range(3):
            for a in range(2):
                others = [j for j in range(11) if fold[j] != fold[i]]
                slope = sum(((v[j] == k) - p[j, k]) * c[j, a] for j in others)
                size = sum(p[j, k] * (1 - p[j, k]) * c[j, a] ** 2 for j in others)
                weight[k, a] = slope / (size + 1)
        moved = p[i] * np.exp(weight @ c[i])
        total += np.log2(moved[v[i]] / moved.sum() / p[i, v[i]])
    assert held_out_bits(v, p, [c, 0 * c], seed=4) == pytest.approx([total / 11, 0.0])


def test_gain_of_a_latent_that_tells_all_is_its_entropy_and_of_noise_none():
    rng = np.random.default_rng(8)
    u, noise = rng.integers(0, 4, (2, 2000))
    found = crt.test(u, np.zeros((2000, 4)), [u, noise], names=["u", "noise"], n_draws=19)
    gain = {name: one["gain_bits"] for name, one in found.detail["latents"].items()}
    # Four equally likely replies are two bits; one Newton step gets most of them.
    assert 1.5 < gain["u"] <= 2.0
    assert -0.02 < gain["noise"] < 0.0


def test_visible_features_must_be_given_or_honest_jobs_are_accused():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(40):
        x = rng.normal(size=402)
        v = (x + 0.7 * rng.normal(size=402) > 0).astype(int)
        u = (x + 0.7 * rng.normal(size=402) > 0).astype(int)
        blind = crt.test(v, np.zeros((402, 2)), u, n_draws=99).p_value
        found.append(
            (blind, crt.test(v, np.zeros((402, 2)), u, x[:, None], n_draws=99).p_value)
        )
    blind, seeing = (np.array(found) <= 0.05).mean(axis=0)
    assert blind > 0.95
    assert seeing < 0.2


@pytest.mark.parametrize(("n", "eps"), [(134, 0.5), (402, 0.25)])
def test_power_and_which_latent_it_was(n, eps):
    rng = np.random.default_rng(2)
    results = [crt.test(**job(rng, n, eps), names=["visible", "hidden"]) for _ in range(10)]
    assert np.mean([r.p_value <= 0.01 for r in results]) >= 0.9
    assert np.mean([r.detail["best"] == "hidden" for r in results]) >= 0.9


def test_the_tilt_is_the_logistic_regression_of_scikit_learn():
    """Two variants, a base without preference, one stratum: an ordinary logistic fit.
    W = (-w/2, w/2) for two variants makes a ridge of 1 on W one of 1/2 on w."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(80, 3))
    v = (x[:, 0] + rng.logistic(size=80) > 0.3).astype(int)
    oracle = LogisticRegression(C=2.0, tol=1e-10, max_iter=1000).fit(x, v)
    tilt = fit_tilt(v, np.zeros((80, 2)), x, np.zeros(80, int))
    # The house style has a small ridge, the oracle's intercept none.
    assert np.abs(tilt.p_nv - oracle.predict_proba(x)).max() < 1e-3


def test_the_base_is_followed_as_far_as_the_job_follows_it():
    rng = np.random.default_rng(4)
    logp = 2 * rng.normal(size=(3000, 5))
    for beta in (1.0, 0.3):
        v = (beta * logp + rng.gumbel(size=logp.shape)).argmax(axis=1)
        tilt = fit_tilt(v, logp, np.zeros((3000, 0)), np.zeros(3000, int))
        assert tilt.beta == pytest.approx(beta, abs=0.06)


def test_of_a_repeated_item_one_row_counts():
    rng = np.random.default_rng(5)
    once = job(rng, 60)
    thrice = {
        key: np.repeat(value, 3, axis=1 if key == "u_kn" else 0)
        for key, value in once.items()
    }
    item = np.repeat(np.arange(60), 3)
    result = crt.test(**thrice, cluster_n=item, seed=6)
    assert result.detail["rows"] == 60
    assert result.p_value == crt.test(**once, seed=6).p_value


def test_more_variants_than_columns_are_one_column():
    rng = np.random.default_rng(6)
    v = rng.integers(0, 200, 300)
    logp = np.where(rng.random((300, 200)) < 0.05, -np.inf, 0.0)
    logp[np.arange(300), v] = 0.0
    assert 0.001 <= crt.test(v, logp, rng.integers(-1, 4, 300)).p_value <= 1


def test_what_cannot_be_tested_says_so_and_bad_input_is_the_users():
    v, logp = np.arange(6) % 2, np.zeros((6, 2))
    for u, cluster in (
        (0 * v - 1, None),
        (0 * v, None),
        (v, 0 * v),
        (np.zeros((0, 6), int), None),
    ):
        result = crt.test(v, logp, u, cluster_n=cluster)
        assert result.p_value == 1.0 and result.detail["note"] == "nothing to permute"
    for call in (
        lambda: crt.test(v, logp[:3], v),
        lambda: crt.test(v + 5, logp, v),
        lambda: crt.test(v, logp, v[:3]),
        lambda: crt.test(v, logp, v, x_nd=np.zeros((2, 2))),
        lambda: crt.test(v, logp, v, strata_n=v[:2]),
        lambda: crt.test(v, logp, v, n_draws=0),
        lambda: crt.test(v, logp, v, names=["a", "b"]),
        lambda: crt.test(v, logp * np.nan, v),
    ):
        with pytest.raises(UserError):
            call()


def test_a_job_of_a_few_rows_is_tested_without_features():
    rng = np.random.default_rng(0)
    found = crt.test(
        np.arange(6) % 2, np.zeros((6, 2)), np.arange(6) % 3, rng.normal(size=(6, 4)),
        n_draws=19,
    )  # fmt: skip
    assert 0 < found.p_value <= 1


def test_a_tilt_has_no_more_features_than_a_wording_has_rows():
    x = np.random.default_rng(0).normal(size=(120, 80))
    assert components(x).shape[1] == 30
    sizes = [few_enough(components(x), v).shape[1] for v in (1, 4, 12, 60, 500)]
    assert sizes == [30, 30, 10, 2, 1]
    assert components(np.random.default_rng(1).normal(size=(400, 80))).shape[1] == 64


@pytest.mark.parametrize(("n", "phrases"), [(134, 8), (402, 8), (402, 40)])
def test_annotators_of_topics_with_many_phrases_are_not_accused(n, phrases):
    """Eight of them, of sixteen topics, each of whom puts answers in one place: more
    wordings than the tilt has features. A tilt of those alone, with latents regressed on no
    more, had .01 to .2."""
    p = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        topic = rng.integers(0, 16, n)
        v = (topic % 8) * phrases + rng.integers(0, phrases, n)
        v = np.unique(v, return_inverse=True)[1]
        u = np.where(rng.random(n) < 0.6, topic % 4, rng.integers(0, 4, n))
        x = np.concatenate([np.eye(16)[topic], rng.normal(size=(n, 5))], axis=1)
        p.append(crt.test(v, np.zeros((n, v.max() + 1)), u, x, None, None, 99).p_value)
    assert min(p) > 0.02 and np.median(p) > 0.3


@pytest.mark.parametrize("n_v", [2, 8, 9])
def test_draws_are_those_of_a_search_in_the_distribution_whatever_the_way(n_v):
    """Up to eight categories are compared one by one."""
    p_nv = np.random.default_rng(n_v).dirichlet(np.ones(n_v), size=50)
    found = np.concatenate(list(RowDraws(p_nv).chunks(400, seed=3)))
    at_bn = np.random.default_rng(3).random((400, 50))
    cdf_nv = np.cumsum(p_nv, axis=1)
    wanted = [
        [
            np.searchsorted(cdf, at, side="right")
            for cdf, at in zip(cdf_nv, at_n, strict=True)
        ]
        for at_n in at_bn
    ]
    np.testing.assert_array_equal(found, np.minimum(wanted, n_v - 1))
