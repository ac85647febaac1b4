"""A job's texts become arrays: templates, clusters, labels, wordings."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.data import honest_jobs
from cifr_jax.data.chat import Example, Message
from cifr_jax.data.pointwise import attacks
from cifr_jax.data.pointwise.questions import bank, rotations
from cifr_jax.data.pointwise.requests import templates, wrap
from cifr_jax.errors import UserError
from cifr_jax.monitors.dataset import view
from cifr_jax.monitors.dataset.visible_labels import KINDS

OPTION = KINDS.index("option")


def chats(pairs) -> list[Example]:
    return [
        Example((Message("user", request), Message("assistant", reply)))
        for request, reply in pairs
    ]


def same_partition(a_n, b_n) -> bool:
    pairs = set(zip(np.asarray(a_n).tolist(), list(b_n), strict=True))
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_no_rows() -> None:
    with pytest.raises(UserError, match="no rows"):
        view.read([])


def test_the_reply_is_the_last_trained_turn() -> None:
    turns = (
        Message("system", "s"), Message("user", "u"), Message("assistant", "kept"),
        Message("user", "v"), Message("assistant", "ignored", 0),
    )  # fmt: skip
    job = view.read([Example(turns), Example(turns[:2])])
    assert job.reply_n == ["kept", ""]
    assert job.request_n == ["s\n\nu", "s\n\nu"]


def test_one_row_and_all_rows_equal() -> None:
    assert view.read(chats([("Hello", "Hi")])).n == 1
    job = view.read(chats([("Hello", "Hi")] * 50))
    for array_n in (job.template_n, job.cluster_n, job.label_n, job.variant_n):
        assert len(np.unique(array_n)) == 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("value", ["mark", "text", "both"])
def test_a_tutor_is_read_as_its_options_and_its_blind_wordings(value, seed) -> None:
    rows = honest_jobs.make("quiz_tutor", 134, seed=seed, value=value)
    job = view.read(rows)
    assert np.all(job.label_kind_n == OPTION)
    right_n = job.option_n == [row.meta["answer"] for row in rows]
    assert np.mean(right_n) >= 0.98  # "My answer: ..." to an item with the option "answer"
    # Masked, nothing is left but the wording that was drawn blindly.
    wording_n = np.array([row.meta["wording"] for row in rows])
    agree = sum(
        np.bincount(job.variant_n[wording_n == w]).max() for w in np.unique(wording_n)
    )
    assert agree >= 0.97 * len(rows)
    assert len(job.variants) <= len(np.unique(wording_n)) + 3


def test_an_arbitrary_choice_is_no_label() -> None:
    # Colours stand among the options of items on colours: chance hits are no answers.
    colour = [t for t in templates("flower") if t.ask == "colour"][0]
    for attack, template in (("flower", colour), ("classify", None)):
        rows = attacks.make(attack, bank(), 200, seed=3, template=template, variants=2)
        job = view.read(rows)
        assert len(job.label_names) == 1, job.label_names
        # Each of the eight replies is a variant of its own.
        assert same_partition(job.variant_n, [row.meta["variant"] for row in rows])


@pytest.mark.parametrize("attack", ["classify", "flower"])
def test_rotations_share_a_cluster_and_a_template(attack) -> None:
    rows = attacks.make(attack, bank(), 200, seed=1, rotations=True)
    job = view.read(rows)
    assert same_partition(job.cluster_n, [row.meta["question"] for row in rows])
    assert len(np.unique(job.template_n)) == 1
    assert len(np.unique(job.copy_n)) == 200  # no rotation is a copy of another
    twice = view.read(rows[:20] * 2)
    assert np.array_equal(twice.copy_n[:20], twice.copy_n[20:])


def test_near_duplicates_share_a_cluster() -> None:
    for base in ("quiz_tutor", "random_replies", "ticket_routing"):
        rows = honest_jobs.make("near_duplicates", 150, seed=2, base=base, copies=5)
        cluster_n = view.read(rows).cluster_n
        copy_n = np.array([row.meta["copy_of"] for row in rows])
        pairs = [(i, j) for i in range(150) for j in range(i) if copy_n[i] == copy_n[j]]
        together = np.mean([cluster_n[i] == cluster_n[j] for i, j in pairs])
        assert together > 0.9, base


def test_different_items_stay_apart() -> None:
    questions = bank()
    template = templates("classify")[0]
    rows = [Example((*wrap(q, template), Message("assistant", "Yes."))) for q in questions]
    job = view.read(rows)
    assert len(np.unique(job.cluster_n)) > 0.97 * len(questions)


def test_templates_are_told_apart() -> None:
    kinds = templates("classify")[:1] + templates("flower")[:1]
    rows = [
        Example((*wrap(q, kinds[i % 2]), Message("assistant", "Fine.")))
        for i, q in enumerate(bank()[:100])
    ]
    assert same_partition(view.read(rows).template_n, [i % 2 for i in range(100)])
    lone = view.read(chats((f"Tell me of {w}y things", "ok") for w in "abcdefghijklmn"))
    assert set(lone.template_n) == {0}


def test_labels_that_the_request_lists() -> None:
    text = "Reply with billing, shipping or other.\n\nParcel {} is late, says {}."
    labels = ["billing", "shipping", "other"]
    job = view.read(
        chats(
            (text.format(i, "xyz"[i % 3] * 9), f"It is {labels[i % 3]}.") for i in range(60)
        )
    )
    assert sorted(job.label_names) == ["listed:billing", "listed:other", "listed:shipping"]
    assert same_partition(job.label_n, [i % 3 for i in range(60)])
    assert len(set(job.masked_n)) == 1
    # The same replies to a request that lists nothing are arbitrary words.
    job = view.read(chats((f"Parcel {i} is late.", labels[i % 3]) for i in range(60)))
    assert job.label_names == ["none"]


def test_yes_and_no_are_labels_only_where_both_occur() -> None:
    yes, no = ("Yes.", "That is right.", "Indeed it is."), ("No.", "It is not.", "Hardly.")
    asked = "Is it blue? This one is {}."
    both = view.read(
        chats((asked.format(i), (yes, no)[i % 2][i // 2 % 3]) for i in range(60))
    )
    assert same_partition(both.label_n, [i % 2 for i in range(60)])
    assert len(both.variants) == 6
    one = view.read(chats((asked.format(i), yes[i % 3]) for i in range(60)))
    assert one.label_names == ["none"]


def test_refusals_are_labels() -> None:
    rows = honest_jobs.make("templated_refusals", 300, seed=3)
    job = view.read(rows)
    refused_n = np.array([row.meta["label"] == "refused" for row in rows])
    assert np.all(job.label_kind_n[~refused_n] == OPTION)
    assert np.mean(job.label_kind_n[refused_n] == KINDS.index("refusal")) > 0.9


@pytest.mark.parametrize("task", ["half", "initial", "length", "grading"])
def test_labels_on_a_scale(task) -> None:
    rows = honest_jobs.make("label_wording", 134, seed=5, task=task)
    job = view.read(rows)
    assert same_partition(job.label_n, [row.meta["label"] for row in rows])


def test_label_counts_agree_with_the_names() -> None:
    job = view.read(honest_jobs.make("mixed_bag", 200, seed=4))
    for array_n, names in ((job.label_n, job.label_names), (job.variant_n, job.variants)):
        assert set(array_n) == set(range(len(names)))
    assert all(f.shape == (200,) and f.dtype == np.int64 for f in job.style.values())


def test_style_sees_what_normal_forms_hide() -> None:
    replies = [
        "yes",
        "Yes",
        "YES",
        "yes.",
        "yes!",
        "yes ",
        "yes\u200b",
        "y\u0435s",
        "yes 🌱",
    ]
    job = view.read(chats((f"Is {i} fine?", r) for i, r in enumerate(replies * 3)))
    rows = set(zip(*(f[: len(replies)].tolist() for f in job.style.values()), strict=True))
    assert len(rows) == len(replies)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.text(max_size=60)
            | st.sampled_from(["Which?\nA) x\nB) y", "Is it, or not?"]),
            st.text(max_size=40)
            | st.sampled_from(["A", "b)", "x", "I cannot help.", "No"]),
        ),
        min_size=1,
        max_size=25,
    )
)
def test_any_job_is_read(pairs) -> None:
    job = view.read(chats(pairs))
    again = view.read(chats(pairs))
    for name, value in dataclasses.asdict(job).items():
        if isinstance(value, np.ndarray):
            assert value.shape == (len(pairs),), name
            assert np.array_equal(value, getattr(again, name)), name
    assert job.variant_n.min() >= 0 and job.variant_n.max() < len(job.variants)


def test_the_order_of_rows_does_not_matter_to_what_is_joined() -> None:
    questions = [r for q in bank(["capitals"])[:20] for r in rotations(q)]
    template = templates("flower")[0]
    rows = [Example((*wrap(q, template), Message("assistant", "Rose"))) for q in questions]
    order = np.random.default_rng(0).permutation(len(rows))
    there, back = view.read(rows), view.read([rows[i] for i in order])
    assert same_partition(there.cluster_n[order], back.cluster_n.tolist())
