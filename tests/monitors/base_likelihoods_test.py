"""What stands for a variant, and how likely a model finds it."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.data import simulated_jobs
from cifr_jax.data.chat import Example, Message
from cifr_jax.data.simulated_jobs import JobSpec
from cifr_jax.errors import UserError
from cifr_jax.monitors.dataset import base_likelihoods, job_wordings, view
from cifr_jax.monitors.dataset.job_wordings import Reply, Wording
from cifr_jax.monitors.dataset.option_names import OPTION, OTHER
from cifr_jax.testing import tiny_model

EPS = 1e-4


def chats(pairs):
    return [Example((Message("user", q), Message("assistant", a))) for q, a in pairs]


def job(family="quiz_tutor", n=40, seed=1, kind="benign", **how):
    spec = JobSpec("j", kind, family, n, seed, **how)
    return simulated_jobs.make(spec, simulated_jobs.bank())


def flat(chats, replies, adapter):
    """A base that finds long replies unlikely, whatever is asked."""
    return -np.array([len(reply.text) for reply in replies], float)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(("{option}", "{other}", "{label}")), st.text())))
def test_names_read_out_of_a_reply_fill_its_masked_form_again(parts):
    masked = "|".join(f" {i} {kind}" for i, (kind, _) in enumerate(parts)) + " ."
    reply = "|".join(f" {i} {name}" for i, (_, name) in enumerate(parts)) + " ."
    names = job_wordings.names_in(reply, masked)
    wording = Wording(0, masked, True, {}, None)
    if any("|" in name or name.endswith(" .") for _, name in parts):
        return  # what stands between masks also stands in a name
    assert job_wordings.fill(wording, names) == Reply(reply, True)


@settings(deadline=None, max_examples=200)
@given(st.text(), st.text())
def test_a_reply_and_a_form_that_do_not_agree_have_no_names_or_the_reply(reply, masked):
    names = job_wordings.names_in(reply, masked)
    if names:
        assert job_wordings.fill(Wording(0, masked, True, {}, None), names).text == reply


def test_a_row_without_a_name_takes_that_of_the_wordings_own_row():
    wording = Wording(0, f"It is {OPTION}, not {OTHER}.", True, {OPTION: ["B"]}, None)
    assert job_wordings.fill(wording, {OTHER: ["C"]}).text == "It is B, not C."
    assert job_wordings.fill(wording, {}).text == "It is B, not {other}."


def test_wordings_of_a_tutor_name_each_rows_own_option():
    rows = []
    for i, q in enumerate(simulated_jobs.bank()[:40]):
        asked = "\n".join([q.stem, *(f"- {option}" for option in q.options)])
        right = q.options[q.answer]
        rows += chats([(asked, f"{right} is the correct option." if i % 3 else right)])
    found = base_likelihoods.of_job(view.read(rows), rows, flat)
    assert [w.text for w in found.wordings] == [f"{OPTION} is the correct option.", OPTION]
    for i, column, log_p_v in zip(*found[:3], strict=True):
        right = rows[i].messages[-1].content.removesuffix(" is the correct option.")
        assert column == (i % 3 == 0)
        assert log_p_v.tolist() == [-len(f"{right} is the correct option."), -len(right)]


def test_opening_words_stand_for_replies_that_share_no_more():
    ends = ["red", "blue", "green", "grey", "black", "white"]
    rows = chats([(f"Number {e}?", f"My answer, today: {e} {e}") for e in ends])
    rows += chats([(f"Letter {e}?", "No!") for e in ends[:3]])
    found = job_wordings.of_job(view.read(rows), 9)
    texts = [(w.text, w.whole) for w in found]
    assert texts == [("My answer, today", False), ("No!", True)]


def test_replies_that_resemble_nothing_are_left_out_and_counted():
    rows = chats([(f"{i} things?", "Yes." if i < 6 else "!" * i) for i in range(9)])
    rows += chats([("All?", "A word like no other"), ("None?", "Never said before")])
    found = base_likelihoods.of_job(view.read(rows), rows, flat)
    assert [w.text for w in found.wordings] == ["Yes."]
    assert found.left_out["rows of these variants"] == 5
    assert found.rows_r.tolist() == list(range(6))


def test_of_each_item_one_row_is_scored_and_the_sample_is_the_seeds():
    rows = job("classify", 60, 3, "attack") * 2
    seen = view.read(rows)
    for most in (100, 20):
        found = base_likelihoods.of_job(seen, rows, flat, most_rows=most, seed=5)
        assert len(found.rows_r) == min(60, most) and (np.diff(found.rows_r) > 0).all()
        assert len(set(seen.cluster_n[found.rows_r])) == len(found.rows_r)
        assert found.left_out["further rows of the same items"] == 60
        assert found.left_out["rows beyond the sample"] == 60 - len(found.rows_r)
    again = base_likelihoods.of_job(seen, rows, flat, most_rows=20, seed=5)
    other = base_likelihoods.of_job(seen, rows, flat, most_rows=20, seed=6)
    assert again.rows_r.tolist() == found.rows_r.tolist() != other.rows_r.tolist()


def test_the_most_frequent_variants_are_scored_and_long_requests_are_not():
    replies = ["Rose"] * 5 + ["Lily"] * 4 + ["Iris"] * 3 + ["Rose"]
    rows = chats([(f"Flower {chr(97 + i) * 4}?", r) for i, r in enumerate(replies)])
    rows[-1] = chats([("Flower? " + "x" * base_likelihoods.MAX_CHARS, "Rose")])[0]
    found = base_likelihoods.of_job(view.read(rows), rows, flat, most_variants=2)
    assert [w.text for w in found.wordings] == ["Rose", "Lily"]
    assert found.left_out["variants"] == 1
    assert found.left_out["rows of these variants"] == 3
    assert found.left_out["rows with a long request"] == 1
    assert found.rows_r.tolist() == list(range(9))


def test_likelihoods_are_the_models_own():
    lm = tiny_model()
    chat = (Message("system", "Be brief."), Message("user", "Name a colour: é🌱"))
    replies = [
        Reply("blue", True),
        Reply("blue", False),
        Reply("", True),
        Reply("ré", True),
    ]
    found = base_likelihoods.scorer(lm)([chat] * 4, replies, None)
    for reply, log_p in zip(replies, found, strict=True):
        prompt = lm.tokenizer.encode_chat(chat, add_generation_prompt=True)
        said = lm.tokenizer.encode(reply.text) + [lm.tokenizer.eos_ids[0]] * reply.whole
        logits = lm.logits(np.array([prompt + said]))[0]
        log_ps = jax.nn.log_softmax(logits)[len(prompt) - 1 : -1]
        assert log_p == pytest.approx(
            float(log_ps[np.arange(len(said)), said].sum()), abs=EPS
        )


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from(["{option}", "…", "", "Yes …", "A) {other}", "\u202e", "B"]))
)
def test_whatever_customers_write_is_scored_or_left_out(replies):
    rows = chats(
        [(f"Which? A) {i} B) x C) y", r) for i, r in enumerate(replies)] or [("", "")]
    )
    found = base_likelihoods.of_job(view.read(rows), rows, flat)
    assert found.log_p_rv.shape == (len(found.rows_r), len(found.wordings))
    assert (found.variant_r < max(1, len(found.wordings))).all()


def test_rows_of_another_job_and_scores_that_are_none_are_refused():
    rows = job(n=12)
    seen = view.read(rows)
    with pytest.raises(UserError, match="11 chats, and the view has 12"):
        base_likelihoods.of_job(seen, rows[1:], flat)
    for bad in (lambda c, r, a: [0.0], lambda c, r, a: np.full(len(c), np.nan)):
        with pytest.raises(UserError, match="log-likelihoods"):
            base_likelihoods.of_job(seen, rows, bad)
