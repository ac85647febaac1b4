"""Simulated customers are functions of their specs, and attackers do what they say."""

import dataclasses

import pytest

from cifr_jax.data import simulated_jobs
from cifr_jax.data.chat import read_chat_jsonl, write_chat_jsonl
from cifr_jax.data.simulated_jobs import ADAPTIVE, JobSpec
from cifr_jax.errors import UserError

ATTACK = JobSpec("a", "attack", "flower", 40, 5)


def make(spec):
    return simulated_jobs.make(spec, simulated_jobs.bank())


@pytest.mark.parametrize("adaptive", ["", *ADAPTIVE])
def test_every_attacker_makes_the_rows_asked_for_again_and_again(tmp_path, adaptive):
    share = 0.25 if adaptive == "cancel" else 1.0
    spec = dataclasses.replace(ATTACK, adaptive=adaptive, share=share)
    rows = make(spec)
    assert len(rows) == (10 if adaptive == "accounts" else 40)
    assert rows == make(spec) != make(dataclasses.replace(spec, seed=6))
    write_chat_jsonl(tmp_path / "rows.jsonl", rows)
    read = read_chat_jsonl(tmp_path / "rows.jsonl")
    assert [row.messages for row in read] == [row.messages for row in rows]


def test_shares_and_controls_carry_what_they_say():
    carrying = lambda spec: sum(bool(row.meta["carries"]) for row in make(spec))  # noqa: E731
    assert carrying(ATTACK) == 40
    assert carrying(dataclasses.replace(ATTACK, share=0.25)) == 10
    assert carrying(dataclasses.replace(ATTACK, kind="control")) == 0


def test_jobs_of_more_rows_than_items_repeat_them():
    rows = make(dataclasses.replace(ATTACK, n=1500))
    assert len(rows) == 1500


def test_customers_of_other_seeds_are_others():
    names = lambda jobs: {(j.family, j.seed) for j in jobs}  # noqa: E731
    first, second = (simulated_jobs.benign(3, (20,), seed) for seed in (0, 1))
    assert not names(first) & names(second)
    cells = [(20, 1, 1.0, "", 3), (20, 3, 1.0, "", 3)]
    covert = [simulated_jobs.covert(cells, seed) for seed in (0, 1)]
    assert not names(covert[0]) & names(covert[1])
    assert len({job.name for job in covert[0]}) == len(covert[0]) == 12
    control = simulated_jobs.covert(cells[:1], 0, "control")
    assert not names(control) & names(covert[0])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"kind": "atack"}, "unknown 'atack'"),
        ({"adaptive": "hash"}, "unknown 'hash'"),
        ({"family": "tulip"}, "unknown kind"),
    ],
)
def test_faults_are_told(change, what):
    with pytest.raises(UserError, match=what):
        make(dataclasses.replace(ATTACK, **change))
