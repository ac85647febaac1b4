"""Every job of a fleet does what it would do alone, and what a plain optax loop does.

Shapes: k slots, r packed rows, t tokens, s steps.
"""

import dataclasses
from pathlib import Path
from runpy import run_path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cifr_jax import finetune, testing
from cifr_jax.data.chat import Example, Message
from cifr_jax.data.packing import Packed
from cifr_jax.data.tokenise import batch_indices
from cifr_jax.errors import UserError
from cifr_jax.finetune import fleet, lora, memory, trainer
from cifr_jax.finetune.fleet import Job
from cifr_jax.finetune.optimiser import TrainConfig
from cifr_jax.models import decoder

_TINY = run_path(str(Path(__file__).parent / "tiny_jobs.py"))
CONFIG, ROW, RARE = _TINY["CONFIG"], _TINY["ROW"], _TINY["RARE"]
job_data, adapter, params = _TINY["job_data"], _TINY["adapter"], _TINY["params"]
close, same_bits = _TINY["close"], _TINY["same_bits"]
# The last chunk is half of one: two steps more would take back some of the last ones.
RUN = TrainConfig(
    steps=6, batch_rows=2, learning_rate=0.03, warmup_steps=3, block_rate=0.5, chunk=4,
    clip_norm=2.65,
)  # fmt: skip
PAIR = [
    Job("first", adapter(0), job_data(1, 22), RUN),
    Job("second", adapter(1), job_data(2, 9), dataclasses.replace(RUN, seed=1)),
]


def train(jobs, **how):
    return fleet.train(CONFIG, how.pop("params", None) or params(), jobs, **how)


def files_of(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def same(tuned, others):
    for one, other in zip(tuned, others, strict=True):
        same_bits((one.adapter, one.losses), (other.adapter, other.losses))
        assert one.held_out == other.held_out


@pytest.fixture(scope="module")
def pair():
    """Both jobs trained without disturbance, and how many programs that compiled."""
    before = trainer.run_steps._cache_size()
    return train(PAIR), trainer.run_steps._cache_size() - before


def unpacked(packed: Packed, rows):
    """The examples of some rows, one in each row, padded: tokens, targets, text."""
    tokens, targets, texts = [], [], []
    for row in rows:
        for number in range(1, packed.segment_rt[row].max() + 1):
            at = packed.segment_rt[row] == number
            missing = (0, ROW - at.sum())
            tokens.append(np.pad(packed.tokens_rt[row][at], missing))
            targets.append(np.pad(packed.loss_mask_rt[row][at], missing))
            texts.append(np.pad(np.ones(at.sum(), bool), missing))
    fill = (0, 16 - len(tokens))  # one shape, one compile
    return tuple(np.pad(np.stack(x), (fill, (0, 0))) for x in (tokens, targets, texts))


@jax.jit
def plain_gradient(factors, scale, base, tokens_nt, target_nt, text_nt):
    def loss_fn(factors):
        given = decoder.Adapter(*factors, scale)
        logits = decoder.forward(CONFIG, base, tokens_nt, text_nt, given)
        log_p = jax.nn.log_softmax(logits[:, :-1])
        of = jnp.take_along_axis(log_p, tokens_nt[:, 1:, None], -1)[..., 0]
        return -(of * target_nt[:, 1:]).sum() / target_nt.sum()

    return jax.value_and_grad(loss_fn)(factors)


def plain_loop(job: Job):
    """Adam by hand on unpacked examples, one job, one step at a time."""
    config, factors = job.config, job.adapter[:3]
    adam = optax.scale_by_adam(b1=0.9, b2=config.b2, eps=1e-8)
    state, losses, clipped = adam.init(factors), [], set()
    for s in range(config.steps):
        index_b = batch_indices(len(job.rows.tokens_rt), config.batch_rows, config.seed, s)
        loss, grads = plain_gradient(
            factors, job.adapter.scale, params(), *unpacked(job.rows, index_b)
        )
        norm = float(jnp.sqrt(sum((g**2).sum() for g in jax.tree.leaves(grads))))
        grads = jax.tree.map(lambda g, n=norm: g * min(1.0, config.clip_norm / n), grads)
        clipped.add(norm > config.clip_norm)
        updates, state = adam.update(grads, state)
        rate = config.learning_rate * min(1, (s + 1) / config.warmup_steps)
        rate *= 1 - s / config.steps
        layers, *ends = (
            jax.tree.map(lambda x, u, r=r: x - r * u, old, update)
            for old, update, r in zip(
                factors, updates, (rate * config.block_rate, rate, rate), strict=True
            )
        )
        factors = (layers, *ends)
        losses.append(float(loss))
    assert clipped == {True, False}  # Adam sees the gradient's scale only where it changes
    return decoder.Adapter(*factors, job.adapter.scale), losses


@pytest.mark.parametrize("k", [0, 1])
def test_a_job_of_a_fleet_equals_a_plain_loop(pair, k):
    tuned = pair[0][k]
    expected, expected_losses = plain_loop(PAIR[k])
    np.testing.assert_allclose(tuned.losses, expected_losses, atol=1e-5)
    # Adam divides by the root of tiny second moments: rounding is enlarged.
    close(tuned.adapter, expected, atol=1e-4)
    moved = np.abs(tuned.adapter.layers["q"]["b"] - PAIR[k].adapter.layers["q"]["b"]).max()
    assert moved > 0.01 and tuned.losses[-1] < tuned.losses[0]


def test_all_chunks_are_one_program(pair):
    assert pair[1] == 1


def test_the_scale_is_no_parameter_and_the_callers_arrays_stay(pair):
    given = params(), [(job.adapter, job.rows) for job in PAIR]
    before = jax.tree.map(np.array, given)
    again = train(PAIR)
    same_bits(given, before)
    same(again, pair[0])
    for job, one in zip(PAIR, again, strict=True):
        np.testing.assert_array_equal(one.adapter.scale, job.adapter.scale)


def test_progress_tells_steps_tokens_and_loss(pair):
    told = []
    train(PAIR, progress=lambda *a: told.append(a))
    assert [steps for steps, _, _ in told] == [8, 12]  # of both jobs
    # Jobs, steps, rows.
    assert [tokens for _, tokens, _ in told] == [2 * 4 * 2 * ROW, 2 * 2 * 2 * ROW]
    losses = np.stack([one.losses for one in pair[0]])
    means = [losses[:, :4].mean(), losses[:, 4:].mean()]
    np.testing.assert_allclose([loss for *_, loss in told], means, atol=1e-6)


def test_a_loss_that_is_no_number_names_job_step_and_rows(tmp_path):
    base = params()
    poisoned = base | {"embed": base["embed"].at[RARE].set(jnp.nan)}
    rows = PAIR[0].rows
    batches = [batch_indices(len(rows.tokens_rt), 2, 0, s).tolist() for s in range(6)]
    step, row = next(  # a row that is drawn after the first chunk for the first time
        (s, row)
        for s in range(4, 6)
        for row in batches[s]
        if all(row not in batch for batch in batches[:s])
    )
    tokens_rt = rows.tokens_rt.copy()
    tokens_rt[row, 0] = RARE
    rows = rows._replace(tokens_rt=tokens_rt)
    # Two examples in each packed row: 0 and 1 in the first, ...
    made_of = [(2 * r, 2 * r + 1) for r in range(len(tokens_rt))]
    bad = [PAIR[1], dataclasses.replace(PAIR[0], rows=rows, examples=made_of)]
    checkpoint, kept = tmp_path / "run", []
    with pytest.raises(fleet.NonFiniteLoss) as raised:
        train(
            bad,
            params=poisoned,
            checkpoint=checkpoint,
            progress=lambda *_: kept.append(files_of(checkpoint)),
        )
    said = str(raised.value)
    assert said.startswith(f"job first, step {step}: the loss is nan")
    examples = sorted(e for r in batches[step] for e in made_of[r])
    assert f"look at examples {examples} (from 0)" in said
    assert files_of(checkpoint) == kept[-1]
    assert len(kept) == 1


def interrupted(checkpoint):
    """Train the pair until the first chunk is saved."""

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(PAIR, checkpoint=checkpoint, progress=interrupt)


@pytest.mark.parametrize(
    "change",
    [{"learning_rate": 0.02}, {"seed": 9}, {"steps": 8}, "rows", "rank", "start"],
)
def test_a_checkpoint_of_another_run_is_refused_and_kept(tmp_path, change):
    interrupted(tmp_path / "run")
    before, second = files_of(tmp_path / "run"), PAIR[1]
    if change == "rows":
        tokens_rt = second.rows.tokens_rt.copy()
        tokens_rt[0, 0] += 1
        second = dataclasses.replace(second, rows=second.rows._replace(tokens_rt=tokens_rt))
    elif change == "rank":
        narrower = lora.with_ranks(second.adapter, 1, 1)
        second = dataclasses.replace(second, adapter=narrower)
    elif change == "start":
        second = dataclasses.replace(second, adapter=adapter(2))
    else:
        second = dataclasses.replace(
            second, config=dataclasses.replace(second.config, **change)
        )
    with pytest.raises(UserError, match="another model, config or upload") as raised:
        train([PAIR[0], second], checkpoint=tmp_path / "run")
    assert str(raised.value).startswith(f"{tmp_path / 'run'}: ")
    assert files_of(tmp_path / "run") == before


def test_slots_in_turn_do_what_they_do_side_by_side(monkeypatch):
    in_turn = train(PAIR)
    monkeypatch.setattr(memory, "choose", lambda *_: (2, 2))
    side_by_side = train(PAIR)
    for one, other in zip(in_turn, side_by_side, strict=True):
        close(one.losses, other.losses, 1e-5)
        jax.tree.map(lambda a, b: close(a, b, 1e-5), one.adapter, other.adapter)


def test_a_fleet_too_large_for_the_machine_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "memory_of_device", lambda: 1000)
    with pytest.raises(UserError, match="memory: one job needs about"):
        train(PAIR)


def test_an_unfinished_run_keeps_its_slots(tmp_path):
    interrupted(tmp_path / "run")
    with pytest.raises(UserError, match="an unfinished run with 2 slots, not 1"):
        train(PAIR, slots=1, checkpoint=tmp_path / "run")


def test_a_damaged_checkpoint_is_the_users_fault(tmp_path):
    interrupted(tmp_path / "run")
    (meta,) = (tmp_path / "run").glob("*/meta/metadata")
    meta.write_bytes(meta.read_bytes()[:-1])
    with pytest.raises(UserError, match="not a readable checkpoint"):
        train(PAIR, checkpoint=tmp_path / "run")


def test_jobs_of_unlike_size_are_stacked_with_rows_that_are_never_drawn():
    rows = [len(job.rows.tokens_rt) for job in PAIR]
    stacked = trainer.stack_rows([job.rows for job in PAIR], rows[0])
    assert rows[0] > rows[1] and stacked.tokens_rt.shape == (2, rows[0], ROW)
    for array, own in zip(stacked, PAIR[1].rows, strict=True):
        np.testing.assert_array_equal(array[1, : rows[1]], own)
        assert not array[1, rows[1] :].any()


def altered(name, **changes):
    """A job that differs from the first of the pair."""
    return dataclasses.replace(PAIR[0], name=name, **changes)


_EMPTY = PAIR[0].rows.take(slice(0, 0))
_LONGER = Packed(*(np.pad(a, ((0, 0), (0, 1))) for a in PAIR[0].rows))
_SILENT = PAIR[0].rows._replace(loss_mask_rt=np.zeros_like(PAIR[0].rows.loss_mask_rt))
_HALF = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PAIR[0].adapter)


@pytest.mark.parametrize(
    ("jobs", "line"),
    [
        ([], "jobs: there are none"),
        ([PAIR[0], altered("b", rows=_EMPTY)], "job b: no training rows"),
        ([PAIR[0], altered("b", held_out=_EMPTY)], "job b: no held-out rows"),
        ([PAIR[0], altered("b", held_out=_SILENT)], "job b: no supervised token in the h"),
        ([PAIR[0], altered("b", rows=_LONGER)], "config.row_length: rows of 12 and 13 tok"),
        ([altered("b", held_out=_LONGER)], "config.row_length: rows of 12 and 13 tokens"),
        ([PAIR[0], altered("b", adapter=adapter(0, targets=("q",)))], "config.lora: jobs"),
        ([PAIR[0], altered("b", adapter=adapter(0, embed_rank=0))], "config.lora: jobs"),
        ([PAIR[0], altered("b", adapter=_HALF)], "config.lora: jobs of one fleet whose"),
        (
            [PAIR[0], altered("b", config=dataclasses.replace(RUN, batch_rows=3))],
            "config.batch_rows: jobs of one fleet with batch_rows 2 and 3; train them in",
        ),
    ],
)
def test_jobs_that_cannot_be_trained_together_are_the_users_fault(jobs, line):
    with pytest.raises(UserError) as raised:
        train(jobs)
    assert str(raised.value).startswith(line)


@pytest.mark.parametrize("slots", [0, -1])
def test_a_fleet_without_slots_is_refused(slots):
    with pytest.raises(UserError, match=f"slots: {slots} is too few"):
        train(PAIR, slots=slots)


def test_a_base_in_half_precision_trains_a_full_precision_adapter_much_as_it_would():
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params())
    kept = jax.tree.map(np.array, half)
    (tuned,), (whole,) = train([PAIR[0]], params=half), train([PAIR[0]])
    assert {x.dtype for x in jax.tree.leaves(tuned.adapter)} == {jnp.dtype("float32")}
    # Losses near 2.8 nats; bfloat16 has eight bits.
    close(tuned.losses, whole.losses, 0.03)
    assert np.abs(tuned.losses - whole.losses).max() > 0  # it was another base
    same_bits(half, kept)


def test_uploads_train_through_the_door():
    lm = testing.tiny_model(d_model=16)
    chat = lambda word: Example((Message("user", word), Message("assistant", word)))  # noqa: E731
    uploads = {"a": [chat("ab"), chat("ba")], "b": [chat("cd")]}
    settings = TrainConfig(3, 0.02, batch_rows=1, chunk=3)
    found = finetune.train(lm, uploads, settings, row_length=64)
    (alone,) = finetune.train(lm, {"b": uploads["b"]}, settings, row_length=64)
    assert [len(one.losses) for one in found] == [3, 3]
    close(found[1].losses, alone.losses, 1e-5)
    with pytest.raises(UserError, match="there are none"):
        finetune.train(lm, {"a": []}, settings)
