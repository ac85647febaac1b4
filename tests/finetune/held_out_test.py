"""Held-out rows decide which adapter is kept and when a job stops.

Shapes: k slots, r packed rows, s steps.
"""

import dataclasses
from pathlib import Path
from runpy import run_path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifr_jax.finetune import fleet, loss
from cifr_jax.finetune.fleet import Job
from cifr_jax.finetune.optimiser import TrainConfig

_TINY = run_path(str(Path(__file__).parent / "tiny_jobs.py"))
CONFIG, RARE, job_data = _TINY["CONFIG"], _TINY["RARE"], _TINY["job_data"]
adapter, params, same_bits = _TINY["adapter"], _TINY["params"], _TINY["same_bits"]
RUN = TrainConfig(
    steps=9, batch_rows=2, learning_rate=0.03, warmup_steps=2, chunk=2, evaluate_every=2
)


def job(name, seed, held_out, **changes):
    rows = job_data(seed, 16).take(slice(0, 7))
    config = dataclasses.replace(RUN, seed=seed, **changes)
    return Job(name, adapter(seed, targets=("q", "down")), rows, config, held_out)


# Tokens are drawn by lot: nothing carries over to other rows, and a high rate spoils them.
JOBS = [
    job("spoils", 0, job_data(9, 12), steps=40, learning_rate=0.2, patience=2),
    job("learns", 1, job_data(1, 16).take(slice(0, 7)), patience=1),
    job("unwatched", 2, None, steps=3, patience=1),
    job("stays", 3, job_data(8, 3), steps=5, learning_rate=0.2),
]


def train(jobs, **how):
    return fleet.train(CONFIG, how.pop("params", None) or params(), jobs, **how)


@pytest.fixture(scope="module")
def watched():
    """All jobs through two slots: what they left, and every round."""
    rounds = []
    return train(JOBS, slots=2, observe=rounds.append), rounds


@jax.jit
def mean_loss(adapter, rows):
    return loss.sft_loss(CONFIG, params(), adapter, rows)[0]


def adapters_of(rounds, name):
    return {r.step: r.adapter for r in rounds if r.job == name}


def test_evaluations_are_at_their_steps_and_are_means_over_all_held_out_tokens(watched):
    tuned, rounds = watched
    assert {len(j.held_out.tokens_rt) % 2 for j in JOBS if j.held_out} == {0, 1}
    assert [step for step, _ in tuned[1].held_out] == [2, 4, 6, 8, 9]
    assert tuned[2].held_out == ()
    assert [step for step, _ in tuned[3].held_out] == [2, 4, 5]
    for one, of in zip(tuned, JOBS, strict=True):
        at = adapters_of(rounds, of.name)
        missing = 9 - len(of.held_out.tokens_rt) if of.held_out else 0
        for step, found in one.held_out:
            rows = jax.tree.map(
                lambda a, n=missing: np.pad(a, ((0, n), (0, 0))), of.held_out
            )
            np.testing.assert_allclose(found, mean_loss(at[step], rows), atol=1e-5)


def test_a_job_stops_after_as_many_evaluations_without_a_better_one(watched):
    spoiled, learned = watched[0][:2]
    losses = [found for _, found in spoiled.held_out]
    assert len(spoiled.losses) == spoiled.held_out[-1][0] < JOBS[0].config.steps
    since_best = [n - int(np.argmin(losses[: n + 1])) for n in range(len(losses))]
    assert since_best[-1] == 2 and max(since_best[:-1]) < 2
    # Patience is not tried by a loss that falls.
    assert len(learned.losses) == JOBS[1].config.steps
    assert np.all(np.diff([found for _, found in learned.held_out]) < 0)
    assert len(watched[0][2].losses) == 3


def test_the_best_adapter_is_kept(watched):
    tuned, rounds = watched
    best = []
    for one, of in zip(tuned, JOBS, strict=True):
        at = adapters_of(rounds, of.name)
        step = min((found, step) for step, found in one.held_out or ((max(at), 0.0),))[1]
        same_bits(one.adapter, at[step])
        best.append((step, max(at)))
    assert best[0][0] < best[0][1] and best[3][0] < best[3][1]  # not the last
    assert best[1][0] == best[1][1] == 9


def test_a_slot_whose_job_stopped_early_is_filled(watched):
    order = [(r.job, r.step) for r in watched[1]]
    stopped = len(watched[0][0].losses)
    after = order[order.index(("spoils", stopped)) + 1 :]
    assert ("unwatched", 2) in after
    assert not any(name == "spoils" for name, _ in after)


@pytest.mark.parametrize("after", [2, 5])
def test_an_interrupted_run_knows_its_best_and_its_patience(watched, tmp_path, after):
    told = []

    def interrupt(*_):
        told.append(1)
        if len(told) == after:
            raise KeyboardInterrupt

    how = {"slots": 2, "checkpoint": tmp_path / "run"}
    with pytest.raises(KeyboardInterrupt):
        train(JOBS, **how, progress=interrupt)
    for one, other in zip(train(JOBS, **how), watched[0], strict=True):
        same_bits((one.adapter, one.losses), (other.adapter, other.losses))
        assert one.held_out == other.held_out


def test_without_a_number_of_steps_a_job_is_evaluated_at_its_end():
    changed = [
        dataclasses.replace(one, config=dataclasses.replace(one.config, evaluate_every=0))
        for one in JOBS[2:]
    ]
    _, tuned = train(changed)
    assert [step for step, _ in tuned.held_out] == [5]


def test_a_held_out_loss_that_is_no_number_stops_the_run():
    base = params()
    poisoned = base | {"embed": base["embed"].at[RARE].set(jnp.nan)}
    tokens_rt = JOBS[3].held_out.tokens_rt.copy()
    tokens_rt[0, 0] = RARE
    held_out = JOBS[3].held_out._replace(tokens_rt=tokens_rt)
    bad = dataclasses.replace(JOBS[3], held_out=held_out)
    with pytest.raises(
        fleet.NonFiniteLoss, match="stays, step 2: the held-out loss is nan"
    ):
        train([JOBS[2], bad], params=poisoned)
