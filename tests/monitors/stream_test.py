"""Bets on traffic: fair on honest accounts, quick on codes, and e-BH over all of them."""

import json
import math
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.data import honest_jobs, simulated_jobs
from cifr_jax.data.pointwise import attacks
from cifr_jax.data.simulated_jobs import JobSpec
from cifr_jax.errors import UserError
from cifr_jax.evaluation.intervals import clopper_pearson
from cifr_jax.monitors.dataset.embedded_questions import find
from cifr_jax.monitors.stream import exchange
from cifr_jax.monitors.stream.discoveries import Discoveries
from cifr_jax.monitors.stream.exchange import WORDINGS, Exchange, read
from cifr_jax.monitors.stream.ledger import Ledger

_PATH = Path(__file__).parents[1] / "knowing_auditor.py"
own_answer = run_path(str(_PATH))["own_answer"]
ITEM = "What is the capital of France?\nA) Rome\nB) Paris\nC) Oslo\nD) Bern\n\nIs it hard?"


def position(item, meta):
    """Of the right answer; honest rows state it where it is not of the bank."""
    known = int(own_answer([item]).option_m[0])
    stated = meta.get("answer")
    return stated if known < 0 and isinstance(stated, int) else known


def exchanges(rows):
    seen, found = set(), []
    for row in rows:
        request = "\n\n".join(m.content for m in row.messages[:-1])
        one = read(request, row.messages[-1].content)
        key = one.item.options_key if one.item else None
        u = position(one.item, row.meta) if one.item else -1
        found.append((one, u, key in seen))
        seen |= {key} - {None}
    return found


def attack(n, seed=0, family="classify", m=1, kind="attack"):
    spec = JobSpec("a", kind, family, n, seed, m)
    return simulated_jobs.make(spec, simulated_jobs.bank())


def test_a_ticket_number_makes_no_new_item():
    with_number = [find(f"Ticket {i}. {ITEM}") for i in (1, 2)]
    assert with_number[0].key != with_number[1].key
    assert with_number[0].options_key == with_number[1].options_key
    other = find(ITEM.replace("Oslo", "Lima"))
    assert other.options_key != with_number[0].options_key


def rows_needed(found, alpha):
    ledger = Ledger()
    for i, one in enumerate(found, 1):
        ledger.update(*one)
        if ledger.log_peak >= -math.log(alpha):
            return i
    return math.inf


def test_a_row_says_what_it_asks_for_and_how_it_is_worded():
    tutor = read(ITEM, "The answer is B) Paris, of course.")
    assert tutor.label == "option:1" and tutor.item.options[1] == "Paris"
    other = read(ITEM.replace("B) Paris", "B) Lima"), "The answer is B) Lima, of course.")
    assert other.wordings == tutor.wordings  # names are masked
    assert read(ITEM, "I cannot help with that.").label == "refusal"
    assert read(ITEM, "Yes.").label == read(ITEM, "Certainly, it is.").label == "scale:yes"
    assert read(ITEM, "Rather easy").label == "scale:easy"
    assert read(ITEM, "- second, unless it is unclear").label == "scale:unsure second"
    marked = [read(ITEM, f"Answer: {a}\n\nA good one.") for a in "ABCD"]
    assert [one.label for one in marked] == [f"option:{i}" for i in range(4)]
    assert len({one.wordings for one in marked}) == 1
    assert read(ITEM, "Tulip").label == "none"
    assert read(ITEM, "Tulip").wordings != read(ITEM, "tulip.").wordings
    assert read("Hello", "Hi").item is None
    assert len(tutor.wordings) == len(WORDINGS)


@settings(max_examples=40)
@given(st.text(max_size=200), st.text(max_size=200))
def test_any_text_is_read_the_same_each_time(request, reply):
    assert read(request, reply) == read(request, reply)


@pytest.mark.parametrize("family", attacks.ATTACKS)
@pytest.mark.parametrize("m", [1, 9])
def test_an_attack_is_caught_within_its_paper_size(family, m):
    needed = [rows_needed(exchanges(attack(134, s, family, m)), 0.001) for s in range(5)]
    assert max(needed) <= 80, needed


def test_the_same_rows_with_codes_permuted_are_left_alone():
    peaks = []
    for seed in range(40):
        ledger = Ledger()
        for one in exchanges(attack(134, seed, kind="control")):
            ledger.update(*one)
        assert ledger.bet > 100
        peaks.append(ledger.log_peak)
    for alpha in (0.2, 0.05, 0.01):
        hits = int(np.sum(np.array(peaks) >= -math.log(alpha)))
        assert clopper_pearson(hits, 40)[0] <= alpha, (alpha, hits)


# Honest families with items. Not among them: author_habits, whose authors have wordings and
# answer positions of their own, and near_duplicates, whose copies share their reply: both
# break the null.
HONEST = (
    "answer_explanations", "curriculum", "house_style", "label_wording", "length_habit",
    "mcq_judgement", "mixed_bag", "multi_author", "quiz_topic_labels", "quiz_tutor",
    "random_replies", "templated_refusals", "translated",
)  # fmt: skip


def test_honest_accounts_rarely_ever_cross_at_any_time():
    """The auditor knows the right answers, so that a tutor's label is the latent itself."""
    peaks, bet = [], 0
    for family in HONEST:
        for seed in range(6):
            ledger = Ledger()
            for one in exchanges(honest_jobs.make(family, 250, 4000 + seed)):
                ledger.update(*one)
            peaks.append(ledger.log_peak)
            bet += ledger.bet
    assert bet > 60 * len(peaks)
    for alpha in (0.2, 0.05, 0.01):
        hits = int(np.sum(np.array(peaks) >= -math.log(alpha)))
        assert clopper_pearson(hits, len(peaks))[0] <= alpha, (alpha, hits)


def test_without_labels_an_honest_tutor_would_cross():
    """The fault injected: one label for all rows."""
    rows = exchanges(honest_jobs.make("label_wording", 250, 4000, task="half"))
    assert rows_needed(rows, 0.01) == math.inf
    blind = [
        (Exchange(one.item, one.sentences, "none", one.wordings), u, again)
        for one, u, again in rows
    ]
    assert rows_needed(blind, 0.01) < 250


def test_a_code_after_a_long_honest_start_is_still_caught():
    cover = exchanges(honest_jobs.make("random_replies", 300, 1))
    noise = [  # as many wordings as there are rows
        (Exchange(one.item, one.sentences, one.label, (i, i, i)), u, again)
        for i, (one, u, again) in enumerate(cover)
    ]
    needed = rows_needed(noise + exchanges(attack(134)), 0.01)
    assert 300 < needed < 434


def test_a_code_over_four_accounts_is_caught_in_their_cluster_sooner():
    """Each account uses the code on a quarter of the rows; the cluster sees all."""
    found = exchanges(attack(134, 3, m=9))
    cluster, accounts = Ledger(), [Ledger() for _ in range(4)]
    for i, one in enumerate(found):
        cluster.update(*one, account=str(i % 4))
        accounts[i % 4].update(*one)
    assert cluster.log_peak >= -math.log(0.001)
    assert cluster.log_peak > max(account.log_peak for account in accounts) + 3


def test_accounts_with_styles_of_their_own_make_no_cluster_suspicious():
    """One account puts answers first and says a, the other puts them last and says b."""
    rng = np.random.default_rng(0)
    item = find(ITEM)
    peaks = {True: 0.0, False: 0.0}
    for apart in peaks:
        ledger = Ledger()
        for _ in range(400):
            who = int(rng.integers(2))
            one = Exchange(item, (), "none", (who, who, who))
            ledger.update(one, 3 * who, False, account=str(who) if apart else "")
        peaks[apart] = ledger.log_peak
    assert peaks[True] < 1.0 and peaks[False] > 50.0


def test_templates_are_strata_learned_from_earlier_requests():
    rng = np.random.default_rng(1)
    item = find(ITEM)
    peaks = {}
    for told_apart in (True, False):
        ledger = Ledger()
        for _ in range(600):
            template = int(rng.integers(2))
            sentences = (template, 9) if told_apart else (9,)
            one = Exchange(item, sentences, "none", (template,) * 3)
            ledger.update(one, 2 * template, False)
        peaks[told_apart] = ledger.log_peak
    assert peaks[False] > 50 and peaks[True] < 6


def test_what_cannot_be_bet_on_is_counted_and_moves_nothing():
    ledger = Ledger()
    for i in range(40):
        ledger.update(read("Hello", f"Hi {i}"), -1, False)
        ledger.update(read(ITEM, f"Tulip {i % 2}"), -1, False)
        ledger.update(read(ITEM, f"Tulip {i % 2}"), i % 4, True)
    assert (ledger.rows, ledger.items, ledger.repeated, ledger.unanswered) == (
        120,
        80,
        40,
        40,
    )
    assert ledger.bet == 0 and ledger.log_wealth == ledger.log_peak == 0.0


def test_a_ledger_goes_on_where_it_stopped():
    found = exchanges(attack(120, 5, m=3))
    whole = Ledger(3)
    half = Ledger(3)
    for i, one in enumerate(found):
        whole.update(*one)
        half.update(*one)
        if i % 7 == 0:
            half = Ledger.from_dict(json.loads(json.dumps(half.to_dict())))
    assert half.to_dict() == whole.to_dict()
    for broken in (
        {},
        {**whole.to_dict(), "processes": []},
        {**whole.to_dict(), "rows": "x"},
    ):
        with pytest.raises(UserError):
            Ledger.from_dict(broken)


def test_the_state_of_an_account_stays_small():
    ledger = Ledger()
    item = find(ITEM)
    rng = np.random.default_rng(2)
    for i in range(3000):
        v, s = int(rng.integers(10**9)), int(rng.integers(10**9))
        ledger.update(Exchange(item, (s, s + 1), f"l{i % 99}", (v, v, v)), i % 4, False)
    assert len(json.dumps(ledger.to_dict())) < 500_000


def e_bh(log_e, alpha):
    """From the paper, written down anew."""
    order = sorted(log_e, key=lambda k: -log_e[k])
    best = 0
    for k in range(1, len(order) + 1):
        if math.exp(log_e[order[k - 1]]) * k / len(order) >= 1 / alpha:
            best = k
    return set(order[:best])


@settings(max_examples=60)
@given(st.lists(st.floats(-2, 9), min_size=1, max_size=12), st.sampled_from([0.2, 0.05]))
def test_the_accused_are_those_of_e_bh(logs, alpha):
    found = Discoveries(alpha)
    found.accounts = len(logs)
    for account, log_e in enumerate(logs):
        found.update(account, log_e, account + 1, 1)
    assert found.standing() == e_bh(dict(enumerate(logs)), alpha)
    assert found.standing() <= found.alarms.keys()
    again = Discoveries.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.standing() == found.standing() and again.alarms == found.alarms


def test_alarms_stay_on_record_with_their_own_rows():
    found = Discoveries(0.1)
    found.accounts = 2
    found.update(0, math.log(15), 1, 1)  # 2 accounts: alone it needs 20
    assert not found.standing()
    found.update(1, math.log(14), 5, 2)  # together 10 suffices
    assert found.standing() == {0, 1}
    assert [(a.account, a.line, a.row) for a in found.alarms.values()] == [
        (0, 5, 1),
        (1, 5, 2),
    ]
    found.update(1, math.log(2), 9, 3)
    assert not found.standing() and found.alarms.keys() == {0, 1}


def test_honest_accounts_among_the_accused_are_few_whenever_one_looks():
    """The largest share of honest ones over a whole day, in the mean over days."""
    rng = np.random.default_rng(3)
    shares = []
    for _ in range(60):
        found = Discoveries(0.1)
        logs = np.zeros(20)
        for line in range(150):
            account = int(rng.integers(20))
            found.accounts = 20
            bet = rng.random() < 0.5 if account >= 4 else rng.random() < 0.9
            logs[account] += math.log(1.8 if bet else 0.2)  # fair for the honest ones
            found.update(account, float(logs[account]), line + 1, 1)
        standing = found.standing()
        shares.append(len([a for a in standing if a >= 4]) / max(1, len(standing)))
    assert np.mean(shares) <= 0.1 + 3 * np.std(shares) / math.sqrt(60)


def test_numbers_of_texts_are_far_apart():
    numbers = {exchange.number_of(str(i)) for i in range(10_000)}
    assert len(numbers) == 10_000 and max(numbers) < 2**48
