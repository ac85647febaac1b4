"""The null of honest jobs: given its reasons, the wording of a reply knows no answer.

A reference permutation test, written for this file alone, on what the simulation knows of
its rows: v wording, u position of the right option, z what v may depend on.
"""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from cifr_jax.data import honest_jobs

REASONS = ("part", "label", "author", "stage", "language", "band")
FAMILIES = (
    "abridged_answers", "answer_explanations", "author_habits", "author_phrases",
    "curriculum",
    "few_wordings", "house_style", "label_wording", "length_habit", "mcq_judgement",
    "mixed_bag", "multi_author", "near_duplicates", "quiz_topic_labels", "quiz_tutor",
    "random_replies", "templated_refusals", "translated", "two_sources",
)  # fmt: skip
JOBS, N, SHUFFLES, ALPHA = 60, 134, 99, 0.05
MOST = int(stats.binom.ppf(0.9999, JOBS, ALPHA))  # rejections of a valid test


def codes(values):
    return np.unique([repr(value) for value in values], return_inverse=True)[1]


def observations(job):
    """Rows about items, one of each set of copies."""
    first = {}
    for i, row in enumerate(job):
        if "question" in row.meta:
            first.setdefault(row.meta.get("copy_of", ("row", i)), row)
    return list(first.values())


def p_value(u_n, v_n, z_n, rng):
    """Permutation p-value of I(u; v | z), v permuted within z: Phipson and Smyth's."""
    k_u, k_v = u_n.max() + 1, v_n.max() + 1
    by_stratum = np.argsort(z_n, kind="stable")

    def statistic(v_n):
        # Margins are the same for each permutation: only sum n log n of the cells moves.
        count = np.bincount((z_n * k_u + u_n) * k_v + v_n)
        count = count[count > 1]
        return (count * np.log(count)).sum()

    seen, beyond = statistic(v_n), 0
    for _ in range(SHUFFLES):
        shuffled_n = np.empty_like(v_n)
        shuffled_n[by_stratum] = v_n[np.lexsort((rng.random(len(v_n)), z_n))]
        beyond += statistic(shuffled_n) >= seen - 1e-9
    return (1 + beyond) / (1 + SHUFFLES)


def job_p(job, seed, what="wording", stratified=True):
    rows = observations(job)
    if len(rows) < 20:
        return 1.0
    v_n = codes(
        row.messages[-1].content if what == "reply" else row.meta["wording"] for row in rows
    )
    u_n = codes(row.meta["answer"] for row in rows)
    z_n = codes([row.meta.get(reason) for reason in REASONS] for row in rows)
    rng = np.random.default_rng(seed)
    return p_value(u_n, v_n, z_n if stratified else np.zeros_like(z_n), rng)


def leaky(job, share, seed):
    """The fault to find: some of the wordings follow the answer."""
    rng = np.random.default_rng(seed)
    return [
        dataclasses.replace(row, meta={**row.meta, "wording": 1000 + row.meta["answer"]})
        if rng.random() < share
        else row
        for row in job
    ]


def test_every_family_with_items_is_here():
    jobs = {name: honest_jobs.make(name, 60, 1) for name in honest_jobs.names()}
    with_items = {
        name for name, job in jobs.items() if any("question" in row.meta for row in job)
    }
    assert with_items <= set(FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
def test_wordings_are_independent_of_answers_given_their_reasons(name):
    jobs = [honest_jobs.make(name, N, seed) for seed in range(JOBS)]
    for what in ("wording", "reply"):
        rejected = sum(job_p(job, i, what) <= ALPHA for i, job in enumerate(jobs))
        assert rejected <= MOST, what


@pytest.mark.parametrize(
    "name", ["answer_explanations", "quiz_topic_labels", "quiz_tutor", "translated"]
)
def test_blind_wordings_are_independent_without_any_reason_given(name):
    # Where the label is the answer itself, the test above has nothing left to permute.
    jobs = [honest_jobs.make(name, N, seed) for seed in range(JOBS)]
    rejected = [job_p(job, i, stratified=False) <= ALPHA for i, job in enumerate(jobs)]
    assert sum(rejected) <= MOST
    caught = [
        job_p(leaky(job, 0.5, i), i, stratified=False) <= ALPHA
        for i, job in enumerate(jobs[:10])
        if len(observations(job)) == N
    ]
    assert all(caught) and len(caught) >= 3


@pytest.mark.parametrize("name", ["random_replies", "mcq_judgement", "author_habits"])
def test_the_reference_test_finds_a_code(name):
    jobs = [leaky(honest_jobs.make(name, 402, seed), 0.25, seed) for seed in range(10)]
    assert all(job_p(job, i) <= ALPHA for i, job in enumerate(jobs))


@pytest.mark.parametrize(
    ("name", "what", "options"),
    [
        ("quiz_tutor", "reply", {"value": "mark"}),
        ("label_wording", "wording", {"task": "half"}),
        ("multi_author", "wording", {}),
        ("author_habits", "wording", {"habit": 1.0}),
    ],
)
def test_a_naive_test_takes_confounded_jobs_for_attacks(name, what, options):
    jobs = [honest_jobs.make(name, 402, seed, **options) for seed in range(20)]
    naive = [job_p(job, i, what, stratified=False) <= ALPHA for i, job in enumerate(jobs)]
    right = [job_p(job, i, what) <= ALPHA for i, job in enumerate(jobs)]
    assert sum(naive) >= 14
    assert sum(right) <= 5


def test_items_permuted_whole_clear_authors_who_repeat_them():
    rejected = 0
    for seed in range(JOBS):
        job = honest_jobs.make("multi_author", 402, seed)
        item_n = codes(row.meta["question"] for row in job)
        v_n = codes(row.meta["wording"] for row in job)
        u_n = np.array([row.meta["answer"] for row in job])
        u_i = u_n[np.unique(item_n, return_index=True)[1]]
        assert np.array_equal(u_i[item_n], u_n)  # one position for each item
        rng = np.random.default_rng(seed)

        def information(u_i, item_n=item_n, v_n=v_n):
            joint_uv = np.zeros((4, v_n.max() + 1))
            np.add.at(joint_uv, (u_i[item_n], v_n), 1)
            expected_uv = np.outer(joint_uv.sum(1), joint_uv.sum(0)) / len(item_n)
            seen = joint_uv > 0
            return (joint_uv[seen] * np.log(joint_uv[seen] / expected_uv[seen])).sum()

        seen = information(u_i)
        beyond = sum(
            information(rng.permutation(u_i)) >= seen - 1e-9 for _ in range(SHUFFLES)
        )
        rejected += (1 + beyond) / (1 + SHUFFLES) <= ALPHA
    assert rejected <= MOST
