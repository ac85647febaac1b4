"""Jobs of all kinds take turns in the slots of a fleet, and none notices the others.

Shapes: k slots, r packed rows, s steps.
"""

import dataclasses
from pathlib import Path
from runpy import run_path

import jax
import numpy as np
import pytest

from cifr_jax.finetune import fleet, lora, trainer
from cifr_jax.finetune.fleet import Job
from cifr_jax.finetune.optimiser import TrainConfig

_TINY = run_path(str(Path(__file__).parent / "tiny_jobs.py"))
CONFIG, job_data, adapter = _TINY["CONFIG"], _TINY["job_data"], _TINY["adapter"]
params, close, same_bits = _TINY["params"], _TINY["close"], _TINY["same_bits"]
# At a constant rate a job that took a step too many would show.
RUN = TrainConfig(
    steps=4, batch_rows=2, learning_rate=0.03, warmup_steps=2, schedule="constant", chunk=2
)
TARGETS = ("q", "down")  # few: every program here takes seconds to compile


def job(number, rank=2, rows=7, **changes):
    """A job with data, a start and an order of its own."""
    config = dataclasses.replace(RUN, seed=number, **changes)
    data = job_data(number, 16).take(slice(0, rows))
    assert len(data.tokens_rt) == rows
    return Job(f"job {number}", adapter(number, rank, targets=TARGETS), data, config)


JOBS = [
    job(0, steps=3),
    job(1, rank=1, steps=5, learning_rate=0.01, warmup_steps=0),
    job(2, steps=2, weight_decay=0.1, clip_norm=0.1),
    job(3, rank=1, steps=7, block_rate=0.1),
    job(4, steps=4, learning_rate=0.1),
]


def train(jobs, **how):
    return fleet.train(CONFIG, params(), jobs, **how)


def agree(tuned, others, atol=1e-5):
    for one, other in zip(tuned, others, strict=True):
        close((one.adapter, one.losses), (other.adapter, other.losses), atol)
        close(one.held_out, other.held_out, atol)


def same(tuned, others):
    for one, other in zip(tuned, others, strict=True):
        same_bits((one.adapter, one.losses), (other.adapter, other.losses))
        assert one.held_out == other.held_out


@pytest.fixture(scope="module")
def alone():
    """Every job trained by itself."""
    return [train([one])[0] for one in JOBS]


@pytest.fixture(scope="module")
def queue():
    """All jobs through two slots: what they left, programs compiled, rounds observed."""
    before, rounds = trainer.run_steps._cache_size(), []
    tuned = train(JOBS, slots=2, observe=rounds.append)
    return tuned, trainer.run_steps._cache_size() - before, rounds


def test_the_jobs_differ_in_what_they_learn(alone):
    assert [len(one.losses) for one in alone] == [3, 5, 2, 7, 4]
    for one, started in zip(alone, JOBS, strict=True):
        assert lora.ranks(one.adapter) == lora.ranks(started.adapter)
        assert np.abs(one.adapter.layers["q"]["b"]).max() > 1e-3


def test_jobs_of_one_fleet_or_queue_equal_single_runs(queue, alone):
    agree(queue[0], alone)
    agree(train(JOBS[:2]), alone[:2])


def test_a_slot_is_left_and_taken_without_a_compile(queue):
    assert queue[1] == 1


def test_rows_beyond_a_jobs_rank_stay_exactly_zero():
    """Watched inside the fleet: the results have them cut off."""
    found, seen = [], trainer.run_steps

    def watched(*arguments):
        result = seen(*arguments)
        found.append(jax.tree.map(np.array, result[0]))
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fleet, "run_steps", watched)
        train(JOBS[:2])
    assert len(found) == 3
    factors = jax.tree.leaves(found[-1].adapter._replace(scale=None))
    moments = [x for x in jax.tree.leaves(found[-1].opt_state) if x.ndim > 2]
    assert len(moments) == 2 * len(factors)
    for x in factors + moments:
        assert not x[1, ..., 1:, :].any() and x[0, ..., 1:, :].any()


def test_every_round_is_observed_with_its_losses_and_adapter(queue):
    tuned, _, rounds = queue
    assert [(r.job, r.step) for r in rounds] == [
        ("job 0", 2), ("job 1", 2),
        ("job 0", 3), ("job 1", 4),
        ("job 2", 2), ("job 1", 5),
        ("job 3", 2), ("job 4", 2),
        ("job 3", 4), ("job 4", 4),
        ("job 3", 6),
        ("job 3", 7),
    ]  # fmt: skip
    for one, of in zip(tuned, JOBS, strict=True):
        own = [r for r in rounds if r.job == of.name]
        for r in own:
            np.testing.assert_array_equal(r.losses, one.losses[: r.step])
        same_bits(own[-1].adapter, one.adapter)
        firsts = [r.adapter.layers["q"]["b"] for r in own[:-1]]
        assert all(np.any(b != one.adapter.layers["q"]["b"]) for b in firsts)


@pytest.mark.parametrize("after", [1, 3, 5])
def test_an_interrupted_queue_goes_on_to_the_same_bits(queue, tmp_path, after):
    told, rounds = [], []

    def interrupt(steps, *_):
        told.append(steps)
        if len(told) == after:
            raise KeyboardInterrupt

    how = {"slots": 2, "checkpoint": tmp_path / "run", "observe": rounds.append}
    with pytest.raises(KeyboardInterrupt):
        train(JOBS, **how, progress=interrupt)
    before = trainer.run_steps._cache_size()
    resumed = train(JOBS, **how, progress=lambda steps, *_: told.append(steps))
    assert told == [4, 7, 10, 14, 18, 20, 21]
    same(resumed, queue[0])
    assert trainer.run_steps._cache_size() - before <= 1
    assert [(r.job, r.step) for r in rounds] == [(r.job, r.step) for r in queue[2]]


def test_a_chunk_that_was_lost_is_observed_again(queue, tmp_path):
    """Killed while observing, before the checkpoint: nothing is missed."""
    rounds = []

    def killed(one):
        rounds.append((one.job, one.step))
        if len(rounds) == 6:
            raise KeyboardInterrupt

    how = {"slots": 2, "checkpoint": tmp_path / "run"}
    with pytest.raises(KeyboardInterrupt):
        train(JOBS, **how, observe=killed)
    resumed = train(JOBS, **how, observe=lambda one: rounds.append((one.job, one.step)))
    same(resumed, queue[0])
    expected = [(r.job, r.step) for r in queue[2]]
    assert rounds == expected[:6] + expected[4:]


def test_weights_and_masks_take_turns_in_a_slot():
    """A queue that begins with booleans keeps the weights of the job that follows."""
    mask_rt = JOBS[0].rows.loss_mask_rt
    assert mask_rt.dtype == bool
    rng = np.random.default_rng(0)
    weight_rt = (mask_rt * rng.uniform(0.1, 2.0, mask_rt.shape)).astype(np.float32)
    weighted, lighter = (
        dataclasses.replace(JOBS[0], rows=JOBS[0].rows._replace(loss_mask_rt=w))
        for w in (weight_rt, weight_rt / 100)
    )
    expected = train([weighted])
    found = train([JOBS[2], weighted, lighter], slots=1)
    agree(found[1:], expected * 2)  # a mean, even where weights sum to less than one
    assert np.abs(expected[0].losses - train(JOBS[:1])[0].losses).max() > 1e-2


def test_whole_numbers_for_real_ones_are_the_same_program(alone):
    whole = dataclasses.replace(
        JOBS[0], config=dataclasses.replace(JOBS[0].config, dropout=0, clip_norm=1)
    )
    before = trainer.run_steps._cache_size()
    same(train([whole]), alone[:1])
    assert trainer.run_steps._cache_size() == before


def test_micro_batches_with_blocks_computed_again_equal_the_big_batch():
    big = job(5, batch_rows=16)
    small = dataclasses.replace(
        big, config=dataclasses.replace(big.config, batch_rows=4, accumulate=4, remat=True)
    )
    # Weights make micro-batches unlike in weight: a mean of means would show.
    rng = np.random.default_rng(0)
    weight_rt = big.rows.loss_mask_rt * rng.integers(1, 50, (7, 1)).astype(np.float32)
    rows = big.rows._replace(loss_mask_rt=weight_rt)
    one, other = (train([dataclasses.replace(j, rows=rows)]) for j in (big, small))
    agree(one, other, atol=1e-6)
    assert one[0].losses[-1] < one[0].losses[0]


def test_dropout_is_each_jobs_own(alone):
    """Rate zero is none; the rest depends on the job's seed, not on its neighbours."""

    def dropping(one, rate, **changes):
        config = dataclasses.replace(one.config, dropout=rate)
        return dataclasses.replace(one, config=config, **changes)

    none, some = train([JOBS[0], dropping(JOBS[4], 0.5)])
    agree([none], alone[:1])
    assert np.abs(some.losses - alone[4].losses)[1:].max() > 1e-3
    weak, again = train([dropping(JOBS[0], 0.2), dropping(JOBS[4], 0.5)])
    same_bits((again.adapter, again.losses), (some.adapter, some.losses))
    assert np.abs(weak.losses - alone[0].losses)[1:].max() > 1e-3
    # One row over and over, at rate zero: steps and seeds differ in what is dropped alone.
    still = dataclasses.replace(
        dropping(JOBS[0], 0.5, rows=JOBS[0].rows.take([0] * 7)),
        adapter=_TINY["trained_like"](0, targets=TARGETS),
    )
    configs = [
        dataclasses.replace(still.config, learning_rate=0.0, dropout=rate, seed=seed)
        for rate, seed in ((0.5, 0), (0.5, 1), (0.0, 0), (0.0, 1))
    ]
    found = train([dataclasses.replace(still, config=c) for c in configs], slots=2)
    dropped = np.concatenate([one.losses for one in found[:2]])
    whole = np.concatenate([one.losses for one in found[2:]])
    np.testing.assert_allclose(whole, whole[0], atol=1e-6)
    assert np.diff(np.sort(dropped)).min() > 1e-4
