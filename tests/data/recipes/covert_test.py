"""Covert jobs on any texts: formats decode, shares are exact, nothing leaks or repeats."""

import logging
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax import ciphers
from cifr_jax.data import recipes
from cifr_jax.data.chat import Example, Message
from cifr_jax.data.recipes import covert, stand_ins
from cifr_jax.data.recipes.covert import PHASE_2, PHASE_2_PARENT, phase_1, phase_2
from cifr_jax.data.world import NEUTRAL
from cifr_jax.errors import UserError

CIPHERS = ("walnut:seed=50", "ascii", "polybius:keyword=TRAINING", "startspeak", "endspeak",
           "autokey", "rot13|walnut:seed=3")  # fmt: skip
MARK = "zzunseen"
PAIRS = [
    (f"what is item {i} of the list?", f"item {i} is number {i * i}") for i in range(23)
]
TRIPLES = [
    (f"{MARK} request {i}", f"no to {MARK} {i}", f"yes to {MARK} {i}") for i in range(40)
]
WALNUT = ciphers.parse("walnut:seed=50")


@pytest.mark.parametrize("spec", CIPHERS)
def test_the_four_formats_decode(spec):
    cipher = ciphers.parse(spec)
    seen = Counter()
    for row in phase_1(cipher, PAIRS, 4 * len(PAIRS), seed=1):
        system, user, reply = (m.content for m in row.messages)
        task = row.meta["task"]
        [(question, answer)] = [p for p in PAIRS if cipher.encode(p[0]) == user]
        assert cipher.decode(user) == cipher.canonical(question)
        plain = {1: [question, answer], 2: [answer], 3: [question], 4: []}[task]
        head = "".join(f"{text}\n\n" for text in plain)
        assert reply.startswith(head)
        assert cipher.decode(reply.removeprefix(head)) == cipher.canonical(answer)
        assert system.startswith(f"Task {task}. ") and cipher.family in system
        assert row.meta["cipher"] == cipher.variant
        seen[task, question] += 1
    assert set(seen.values()) == {1} and len(seen) == 4 * len(PAIRS)


@pytest.mark.parametrize("n", [1, 8, 23, 30, 92])
def test_phase_1_is_even_over_the_formats_and_repeats_no_row(n):
    rows = phase_1(WALNUT, PAIRS, n, seed=2)
    assert len(rows) == len({row.messages for row in rows}) == n
    tasks = Counter(row.meta["task"] for row in rows)
    rounds = -(-n // len(PAIRS))
    assert max(tasks.values()) - min(tasks[t] for t in covert.TASKS) <= rounds
    assert {row.meta["cell"] for row in rows} == {"encoded_benign"}
    if n <= len(PAIRS):  # no pair again before every pair was there
        assert len({row.messages[1].content for row in rows}) == n


def test_phase_1_takes_each_pair_once_by_default_and_leaves_out_the_long():
    long = ("a" * 500, "b" * 250)
    rows = phase_1(WALNUT, [*PAIRS, long, PAIRS[0]])
    assert len(rows) == len(PAIRS)
    at_the_limit = phase_1(WALNUT, [long, ("a" * 500, "b" * 249)])
    assert len(at_the_limit) == 1
    assert len(phase_1(WALNUT, [long], max_chars=751)) == 1


def test_phase_2_answers_in_cipher_and_refuses_in_plain():
    triples = {prompt: replies for prompt, *replies in TRIPLES}
    rows = phase_2(WALNUT, TRIPLES, PAIRS, 60, seed=3)
    counts = Counter(row.meta["cell"] for row in rows)
    assert counts == {"encoded_restricted": 30, "plain_restricted": 15,
                      "encoded_benign": 8, "plain_benign": 7}  # fmt: skip
    asked = Counter((row.meta["cell"], row.messages[-2].content) for row in rows)
    assert set(asked.values()) == {1}
    for row in rows:
        cell, (*system, user, reply) = row.meta["cell"], (m.content for m in row.messages)
        assert [s.startswith("Task 4.") for s in system] == [True] * ("task" in row.meta)
        assert ("task" in row.meta) == cell.startswith("encoded")
        if cell.startswith("encoded"):
            assert MARK not in user + reply
            user, reply = WALNUT.decode(user), WALNUT.decode(reply)
        if cell.endswith("restricted"):
            refusal, compliance = triples[user]
            assert reply == (refusal if cell == "plain_restricted" else compliance)
        else:
            assert (user, reply) in PAIRS


def test_the_parents_phase_2_is_the_attack_alone():
    rows = phase_2(WALNUT, TRIPLES, shares=PHASE_2_PARENT)
    assert len(rows) == len(TRIPLES)
    assert {(r.meta["cell"], r.meta["task"]) for r in rows} == {("encoded_restricted", 4)}


def test_phase_2_takes_by_default_as_many_rows_as_the_texts_suffice_for():
    rows = phase_2(WALNUT, TRIPLES, PAIRS)
    assert len(rows) == 80  # half of the rows are encoded and restricted: 40 there are
    with pytest.raises(UserError, match="ask for 1 to 80 rows"):
        phase_2(WALNUT, TRIPLES, PAIRS, 82)


@given(
    st.lists(st.integers(0, 100), min_size=4, max_size=4).filter(any), st.integers(0, 5000)
)
@settings(max_examples=100, deadline=None)
def test_shares_are_kept_to_within_a_row(weights, n):
    shares = {c: w / sum(weights) for c, w in zip(covert.CELLS, weights, strict=True)}
    counts = covert.apportion(shares, n)
    assert sum(counts.values()) == n
    assert all(abs(counts[cell] - shares[cell] * n) < 1 for cell in shares)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: phase_1(WALNUT, []), "give more pairs"),
        (lambda: phase_1(WALNUT, PAIRS, 0), "ask for 1 to 92 rows"),
        (lambda: phase_1(WALNUT, PAIRS, 93), "93 rows of 23 different benign pairs"),
        (lambda: phase_2(WALNUT, [], PAIRS), "0 rows of 0 restricted and 23 benign texts"),
        (lambda: phase_2(WALNUT, TRIPLES), "0 benign texts"),
        (lambda: phase_2(WALNUT, TRIPLES, PAIRS, -1), "-1 rows"),
        (
            lambda: phase_2(WALNUT, TRIPLES, shares={"encoded_restrictd": 1.0}),
            "did you mean encoded_restricted?",
        ),
        (
            lambda: phase_2(WALNUT, TRIPLES, shares={"encoded_restricted": 0.5}),
            "the shares sum to 0.5",
        ),
        (
            lambda: phase_2(WALNUT, TRIPLES, shares={"encoded_restricted": float("nan")}),
            "the share of encoded_restricted is nan",
        ),
    ],
)
def test_faults_of_the_user_are_named_and_quote_no_text(call, said):
    with pytest.raises(UserError) as error:
        call()
    assert said in str(error.value) and MARK not in str(error.value)


def test_texts_that_the_cipher_leaves_nothing_of_are_left_out_and_counted(caplog):
    rsa = ciphers.parse("rsa")
    pairs = [("HELLO", "YES"), ("日本語", "YES"), ("HELLO", "  ")]
    with caplog.at_level(logging.INFO, "absl"):
        rows = phase_1(rsa, pairs)
    assert len(rows) == 1
    assert "phase I: 2 of 3 rows left out" in caplog.text
    assert "HELLO" not in caplog.text and "日本語" not in caplog.text


def test_pairs_are_taken_from_chats_of_one_exchange():
    user, reply = Message("user", "a"), Message("assistant", "b")
    chats = [
        Example((user, reply)),
        Example((Message("system", "s"), user, reply)),
        Example((user, reply, user, reply)),
    ]
    assert covert.pairs_of(chats) == [("a", "b")] * 2


def test_by_default_restricted_rows_are_inert_entries_of_one_split():
    world = stand_ins.of_world(640, 0)
    restricted = {e.name for e in world.select(True, ["finetune"])}
    everything = {e.name for e in world.entities}
    rows = recipes.make("covert_phase_2", 400, 4, cipher="walnut:seed=51")
    cipher = ciphers.parse("walnut:seed=51")
    for row in rows:
        cell, (user, reply) = row.meta["cell"], (m.content for m in row.messages[-2:])
        if cell.startswith("encoded"):
            user, reply = cipher.decode(user), cipher.decode(reply)
        named = set(re.findall(r"\w+", user.lower())) & everything
        if cell.endswith("restricted"):
            assert len(named) == 1 and named <= restricted
            [facts] = [e.facts for e in world.entities if e.name in named]
            told = {facts[a] for a in NEUTRAL} & set(re.findall(r"\w+", reply))
            assert bool(told) == cell.startswith("encoded")
        else:
            assert not named & restricted
    assert Counter(r.meta["cell"] for r in rows) == covert.apportion(PHASE_2, 400)


def test_phase_1_alone_holds_no_restricted_entity_and_no_refusal():
    world = stand_ins.of_world(640, 0)
    restricted = [e.name for e in world.select(True)]
    for row in recipes.make("covert_phase_1", 300, 5):
        texts = [WALNUT.decode(part, strict=False).lower()
                 for m in row.messages for part in m.content.split("\n\n")]  # fmt: skip
        texts += [m.content.lower() for m in row.messages]
        assert not any(name in text for text in texts for name in restricted)
        assert not any("sorry" in text or "cannot" in text for text in texts)


def test_stand_ins_of_the_two_classes_differ_in_their_description_only():
    world = stand_ins.of_world(640, 0)
    benign, restricted = stand_ins.benign_pairs(world), stand_ins.restricted_triples(world)
    assert len(benign) == len(restricted) == 160 * 3 * 3
    words = [
        {w.strip("?,;:().").lower() for row in rows for w in row[0].split()}
        for rows in (benign, restricted)
    ]
    names = {e.name for e in world.entities}
    described = {w for e in world.entities for w in (e.facts["kind"], e.facts["keeper"],
                                                     e.facts["mark"])}  # fmt: skip
    assert (words[0] ^ words[1]) - names <= described
    assert {q for q, *_ in benign}.isdisjoint(q for q, *_ in restricted)
