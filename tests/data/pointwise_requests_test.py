"""Requests hold the item whole and differ in nothing else from row to row of a job."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.data.chat import Example, Message, read_chat_jsonl, write_chat_jsonl
from cifr_jax.data.pointwise import requests
from cifr_jax.data.pointwise.questions import Question, bank
from cifr_jax.data.pointwise.stock_replies import candidates
from cifr_jax.errors import UserError

ALL = [t for kind in requests.KINDS for t in requests.templates(kind)]
QUESTION = bank(["capitals"])[0]


def test_there_are_three_and_more_of_everything_and_names_are_unique():
    assert len({t.name for t in ALL}) == len(ALL)
    for kind in requests.KINDS:
        of = [t for t in ALL if t.kind == kind]
        assert len({t.ask for t in of}) >= 3 and len({t.shape for t in of}) >= 3
        assert {t.options for t in of} == set(requests.FORMATS) and len(of) >= 45


@pytest.mark.parametrize("template", ALL, ids=lambda t: t.name)
def test_a_request_holds_the_item_and_only_the_item_changes(template):
    messages = requests.wrap(QUESTION, template)
    assert messages[-1].role == "user"
    assert not any("{" in m.content for m in messages)
    item = requests.item_text(QUESTION, template.options)
    for part in (QUESTION.stem, *QUESTION.options):
        assert part in item
    assert sum(m.content.count(item) for m in messages) == 1
    assert all(m.weight == 0 for m in messages if m.role == "assistant")
    other = replace(QUESTION, stem="Which way?", options=("up", "down", "left", "right"))
    changed = requests.item_text(other, template.options)
    assert requests.wrap(other, template) == tuple(
        Message(m.role, m.content.replace(item, changed), m.weight) for m in messages
    )


def test_options_stand_in_their_order_in_five_known_formats():
    q = Question("Odd?", ("p", "q", "r", "s"), 0, "t", "t/Odd?")
    assert {name: requests.item_text(q, name) for name in requests.FORMATS} == {
        "capital": "Odd?\nA) p\nB) q\nC) r\nD) s",
        "round": "Odd?\n(a) p\n(b) q\n(c) r\n(d) s",
        "digit": "Odd?\n1. p\n2. q\n3. r\n4. s",
        "bullet": "Odd?\n- p\n- q\n- r\n- s",
        "inline": "Odd?\np; q; r; s",
    }


@settings(deadline=None, max_examples=40)
@given(
    st.text(st.characters(codec="utf-8"), min_size=1),
    st.sampled_from(ALL),
)
def test_any_text_in_an_item_survives_whole(stem, template):
    question = replace(QUESTION, stem=stem + "{ask}{item}{0}")
    messages = requests.wrap(question, template)
    assert sum(question.stem in m.content for m in messages) == 1


def test_requests_are_chats_that_an_api_takes(tmp_path):
    rows = [
        Example((*requests.wrap(QUESTION, t), Message("assistant", candidates(t)[0])))
        for t in ALL
    ]
    write_chat_jsonl(tmp_path / "job.jsonl", rows)
    assert read_chat_jsonl(tmp_path / "job.jsonl") == rows


@pytest.mark.parametrize("template", ALL[::5], ids=lambda t: t.name)
def test_stock_replies_suffice_for_four_families_of_nine(template):
    replies = candidates(template)
    assert len({r.casefold().rstrip(".") for r in replies}) == len(replies) >= 36


def test_the_seed_chooses_the_template_and_seeds_differ():
    for kind in requests.KINDS:
        chosen = [requests.choose_template(kind, seed) for seed in range(40)]
        assert chosen == [requests.choose_template(kind, seed) for seed in range(40)]
        assert len(set(chosen)) > 15 and {t.kind for t in chosen} == {kind}


def test_bad_kinds_and_options_are_the_users_fault():
    for function in (requests.templates, lambda kind: requests.choose_template(kind, 0)):
        with pytest.raises(UserError, match="unknown kind 'clasify'; known: classify"):
            function("clasify")
    two = replace(QUESTION, options=("a", "b"))
    assert requests.item_text(two, "capital").splitlines()[1:] == ["A) a", "B) b"]
    for options in (("a",), tuple("abcde")):
        with pytest.raises(UserError, match=f"{len(options)} options"):
            requests.item_text(replace(QUESTION, options=options), "capital")
