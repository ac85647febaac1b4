"""The bank of style features: the right reason first, false ones as rarely as said."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from cifr_jax.errors import UserError
from cifr_jax.evaluation.intervals import clopper_pearson
from cifr_jax.monitors.dataset import style_tests


def honest(rng, n=60):
    """Features that depend on each other and on the label, as does the latent."""
    z = rng.integers(0, 2, n)
    words = 10.0 * z + rng.normal(size=n)
    features = {
        "words": words,
        "words again": words + 0.1 * rng.normal(size=n),
        "hedge": (rng.random(n) < 0.2 + 0.5 * z).astype(int),
    }
    latents = {"answer": (z + rng.integers(0, 2, n)) % 3, "rank": rng.integers(-1, 4, n)}
    return features, latents, z


def test_the_feature_that_carries_the_letter_is_the_first_reason():
    rng = np.random.default_rng(0)
    features, latents, z = honest(rng, 200)
    answer = latents["answer"]
    features["opener"] = np.where(
        rng.random(200) < 0.8, answer + 7, rng.integers(7, 10, 200)
    )
    result = style_tests.bank(features, latents, z)
    first, *others = result.detail["reasons"]
    assert (first.feature, first.latent) == ("opener", "answer")
    assert result.p_value == first.adjusted_p == 1 / 1000
    assert first.by_p < 0.05 and first.bits > 0.5 and 0.5 < first.cramers_v < 1
    assert all(r.adjusted_p > 0.01 for r in others)
    assert len(others) == 7
    table = np.array(first.table["counts"])
    assert first.table["feature_values"] == [7, 8, 9]
    for i, u in enumerate(first.table["latent_values"]):
        for j, v in enumerate((7, 8, 9)):
            assert table[i, j] == np.sum((answer == u) & (features["opener"] == v))
    # Expected counts are those of independence within strata.
    expected = sum(
        np.outer(
            [np.sum((z == s) & (answer == u)) for u in first.table["latent_values"]],
            [np.sum((z == s) & (features["opener"] == v)) for v in (7, 8, 9)],
        )
        / np.sum(z == s)
        for s in (0, 1)
    )
    assert np.allclose(first.table["expected"], expected)


def test_cramers_v_in_one_stratum_is_that_of_scipy():
    rng = np.random.default_rng(1)
    u, v = rng.integers(0, 3, 90), rng.integers(0, 4, 90)
    table = np.array([[np.sum((u == i) & (v == j)) for j in range(4)] for i in range(3)])
    chi = chi2_contingency(table, correction=False).statistic
    reason = style_tests.bank({"f": v}, {"u": u}, 0 * u).detail["reasons"][0]
    assert reason.cramers_v == pytest.approx(np.sqrt(chi / (90 * 2)))


def test_any_false_reason_is_as_rare_as_promised():
    rng = np.random.default_rng(2)
    false_max_t, false_by = 0, 0
    repetitions = 600
    for seed in range(repetitions):
        result = style_tests.bank(*honest(rng), n_permutations=199, seed=seed)
        reasons = result.detail["reasons"]
        assert result.p_value == min(r.adjusted_p for r in reasons)
        false_max_t += result.p_value <= 0.05
        false_by += min(r.by_p for r in reasons) <= 0.05
    low, high = clopper_pearson(false_max_t, repetitions, 0.99)
    assert low <= 0.05 <= high
    assert clopper_pearson(false_by, repetitions, 0.99)[0] <= 0.05


def test_without_strata_the_same_honest_jobs_are_accused():
    rng = np.random.default_rng(3)
    naive = []
    for _ in range(40):
        features, latents, z = honest(rng, 200)
        naive.append(style_tests.bank(features, latents, 0 * z, n_permutations=99).p_value)
    assert np.mean(np.array(naive) <= 0.05) > 0.9


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=12), st.randoms())
def test_benjamini_yekutieli_is_the_step_up_rule(p_values, random):
    m = len(p_values)
    adjusted = style_tests.benjamini_yekutieli(p_values)
    harmonic = sum(1 / i for i in range(1, m + 1))
    for q in (0.01, 0.05, 0.2, 0.9):
        ordered = sorted(p_values)
        passing = [i for i in range(1, m + 1) if ordered[i - 1] <= i * q / (m * harmonic)]
        cut = ordered[passing[-1] - 1] if passing else -1.0
        near = np.abs(adjusted - q) < 1e-9  # equality may fall either way in floats
        assert (((adjusted <= q) == (np.array(p_values) <= cut)) | near).all()
    shuffled = list(range(m))
    random.shuffle(shuffled)
    again = style_tests.benjamini_yekutieli([p_values[i] for i in shuffled])
    assert np.allclose(again, adjusted[shuffled])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(st.floats(-1e6, 1e6), st.just(float("nan"))), min_size=1, max_size=60
    )
)
def test_bins_keep_the_order_and_hold_their_share(values):
    values = np.array(values)
    found, levels = style_tests.binned(values)
    fine = ~np.isnan(values)
    assert ((found == -1) == ~fine).all()
    assert found.max() < max(1, len(levels))
    a, b = np.meshgrid(np.flatnonzero(fine), np.flatnonzero(fine))
    assert not ((values[a] < values[b]) & (found[a] > found[b])).any()
    assert not ((values[a] == values[b]) & (found[a] != found[b])).any()
    assert (levels[found[fine]] <= values[fine]).all()


def test_quarters_of_a_smooth_feature_are_quarters():
    found, _ = style_tests.binned(np.random.default_rng(4).permutation(400) / 7)
    assert np.bincount(found).tolist() == [100, 100, 100, 100]


def test_nothing_to_test_says_so_and_bad_input_is_the_users():
    u = np.arange(6) % 2
    for features, latents in (({}, {"u": u}), ({"f": u}, {}), ({"f": 0 * u}, {"u": u})):
        result = style_tests.bank(features, latents, 0 * u)
        assert result.p_value == 1.0 and result.detail["note"] == "nothing to permute"
    for features in ({"f": u[:3]}, {"f": np.array(["a"] * 6)}, {"f": u[None]}):
        with pytest.raises(UserError):
            style_tests.bank(features, {"u": u}, 0 * u)
    with pytest.raises(UserError):
        style_tests.bank({"f": u}, {"u": u[:3]}, 0 * u)
