"""The trainer does what a plain optax loop does, for each job alone, and resumes exactly.

Shapes: k jobs, r packed rows, t tokens, s steps.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from cifr_jax.data.packing import Packed, pack
from cifr_jax.data.tokenise import batch_indices
from cifr_jax.errors import UserError
from cifr_jax.finetune import lora, trainer
from cifr_jax.finetune.trainer import NonFiniteLoss, TrainConfig, train
from cifr_jax.models import decoder
from cifr_jax.models.config import DecoderConfig

CONFIG = DecoderConfig(
    vocab_size=16, d_model=16, n_layers=2, n_heads=2, n_kv_heads=1, d_head=8, d_ff=24
)
ROW, PAD, RARE = 12, 0, 15  # RARE occurs only where a test puts it
RUN = TrainConfig(
    steps=6, batch_rows=2, learning_rate=0.03, warmup_steps=3, block_rate=0.5, chunk=2
)
LORA = lora.LoraConfig(rank=2, alpha=4.0, embed_rank=2)


def job_data(seed, n):
    """n packed examples of 3 to 9 tokens."""
    rng = np.random.default_rng(seed)
    length_n = rng.integers(3, 10, n)
    tokens_nt = rng.integers(1, RARE, (n, 9))
    mask_nt = (rng.random((n, 9)) < 0.5) & (np.arange(9) > 0)
    mask_nt[:, 2] = True
    return pack(tokens_nt, mask_nt, length_n, ROW, PAD)


@pytest.fixture(scope="module")
def params():
    fresh = decoder.Decoder(CONFIG, rngs=nnx.Rngs(0)).split()
    return fresh | {"embed": 20 * fresh["embed"], "head": 10 * fresh["head"]}


@pytest.fixture(scope="module")
def adapters():
    return [lora.init_adapter(jax.random.key(k), CONFIG, LORA) for k in range(2)]


@pytest.fixture(scope="module")
def jobs():
    return [job_data(1, 14), job_data(2, 9)]


@pytest.fixture(scope="module")
def fleet(params, adapters, jobs):
    """Both jobs trained without disturbance, and how many programs that compiled."""
    before = trainer._run_steps._cache_size()
    trained, losses = train(CONFIG, params, lora.stack(adapters), jobs, RUN)
    return trained, losses, trainer._run_steps._cache_size() - before


def same_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def first_loss(params, packed: Packed):
    return trainer.sft_loss(CONFIG, params, None, jax.tree.map(jnp.asarray, packed))


def test_the_loss_looks_at_supervised_tokens_only(params):
    text, mask = np.array([[4, 5, 6, 7]]), np.array([[False, True, True, False]])

    def loss(text, mask):
        return float(first_loss(params, pack(text, mask, [4], ROW, PAD))[0])

    other_label = np.array([[4, 5, 6, 8]])  # of the last token, which nothing reads
    assert loss(other_label, mask) == loss(text, mask)
    supervised = np.array([[False, True, True, True]])
    assert loss(other_label, supervised) != loss(text, supervised)
    assert loss(np.array([[4, 5, 8, 7]]), mask) != loss(text, mask)


def test_a_head_that_knows_nothing_costs_the_logarithm_of_the_vocabulary(params, jobs):
    ignorant = params | {"head": jnp.zeros_like(params["head"])}
    loss, n = first_loss(ignorant, jobs[0])
    np.testing.assert_allclose(loss, np.log(CONFIG.vocab_size), atol=1e-5)
    assert n == jobs[0].loss_mask_rt.sum()


def test_a_batch_without_targets_costs_nothing(params, jobs):
    silent = jobs[0]._replace(loss_mask_rt=np.zeros_like(jobs[0].loss_mask_rt))
    assert first_loss(params, silent) == (0.0, 0.0)


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


def plain_loop(params, adapter, job: Packed, config: TrainConfig, number: int):
    """Adam by hand on unpacked examples, one job, one step at a time."""

    @jax.jit
    def gradient(factors, tokens_nt, target_nt, text_nt):
        def loss_fn(factors):
            given = decoder.Adapter(*factors, adapter.scale)
            logits = decoder.forward(CONFIG, params, tokens_nt, text_nt, given)
            log_p = jax.nn.log_softmax(logits[:, :-1])
            of = jnp.take_along_axis(log_p, tokens_nt[:, 1:, None], -1)[..., 0]
            return -(of * target_nt[:, 1:]).sum() / target_nt.sum()

        return jax.value_and_grad(loss_fn)(factors)

    factors = adapter[:3]
    adam = optax.scale_by_adam(b1=0.9, b2=config.b2, eps=1e-8)
    state, losses = adam.init(factors), []
    for s in range(config.steps):
        index_b = batch_indices(
            len(job.tokens_rt), config.batch_rows, config.seed + number, s
        )
        loss, grads = gradient(factors, *unpacked(job, index_b))
        norm = float(jnp.sqrt(sum((g**2).sum() for g in jax.tree.leaves(grads))))
        grads = jax.tree.map(lambda g, n=norm: g * min(1.0, config.clip_norm / n), grads)
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
    return decoder.Adapter(*factors, adapter.scale), losses


@pytest.mark.parametrize("k", [0, 1])
def test_a_job_of_a_fleet_equals_a_plain_loop(params, adapters, jobs, fleet, k):
    trained, losses, _ = fleet
    expected, expected_losses = plain_loop(params, adapters[k], jobs[k], RUN, k)
    np.testing.assert_allclose(losses[:, k], expected_losses, atol=1e-5)
    jax.tree.map(
        # Adam divides by the root of tiny second moments: rounding is enlarged.
        functools.partial(np.testing.assert_allclose, atol=1e-4),
        lora.unstack(trained, k),
        expected,
    )
    moved = np.abs(trained.layers["q"]["b"][k] - adapters[k].layers["q"]["b"]).max()
    assert moved > 0.01 and losses[-1, k] < losses[0, k]


def test_a_fleet_equals_single_runs(params, adapters, jobs, fleet):
    trained, losses, _ = fleet
    for k in range(2):
        own_order = dataclasses.replace(RUN, seed=RUN.seed + k)
        alone, loss_sk = train(
            CONFIG, params, lora.stack([adapters[k]]), [jobs[k]], own_order
        )
        np.testing.assert_allclose(loss_sk[:, 0], losses[:, k], atol=1e-5)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, atol=1e-5),
            lora.unstack(alone, 0),
            lora.unstack(trained, k),
        )


def test_all_chunks_are_one_program(fleet):
    assert fleet[2] == 1


def test_the_scale_is_no_parameter_and_the_callers_arrays_stay(
    params, adapters, jobs, fleet
):
    stacked = lora.stack(adapters)
    before = jax.tree.map(np.array, (params, stacked))
    trained, _ = train(CONFIG, params, stacked, jobs, RUN)
    same_bits((params, stacked), before)
    same_bits(trained, fleet[0])
    np.testing.assert_array_equal(trained.scale, stacked.scale)


@pytest.mark.parametrize("last", [2, 4])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    params, adapters, jobs, fleet, tmp_path, last
):
    told = []

    def interrupt(step, tokens, loss):
        told.append(step)
        if step == last:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "unfinished" / "run.safetensors"
    arguments = CONFIG, params, lora.stack(adapters), jobs, RUN, checkpoint
    with pytest.raises(KeyboardInterrupt):
        train(*arguments, interrupt)
    assert told == list(range(2, last + 1, 2))
    resumed, losses = train(*arguments, lambda step, *_: told.append(step))
    assert told == [2, 4, 6]
    same_bits(resumed, fleet[0])
    same_bits(losses, fleet[1])


def test_progress_tells_steps_tokens_and_loss(params, adapters, jobs, fleet):
    told = []
    train(CONFIG, params, lora.stack(adapters), jobs, RUN, None, lambda *a: told.append(a))
    assert [step for step, _, _ in told] == [2, 4, 6]
    assert {tokens for _, tokens, _ in told} == {2 * 2 * 2 * ROW}  # jobs, steps, rows
    means = [fleet[1][s : s + 2].mean() for s in (0, 2, 4)]
    np.testing.assert_allclose([loss for *_, loss in told], means, atol=1e-6)


def test_a_loss_that_is_no_number_names_job_and_step(params, adapters, jobs, tmp_path):
    poisoned = params | {"embed": params["embed"].at[RARE].set(jnp.nan)}
    n_rows = len(jobs[1].tokens_rt)
    batches = [batch_indices(n_rows, 2, RUN.seed + 1, s).tolist() for s in range(6)]
    step, row = next(  # a row that is drawn after the first chunk for the first time
        (s, row)
        for s in range(2, 6)
        for row in batches[s]
        if all(row not in batch for batch in batches[:s])
    )
    tokens_rt = jobs[1].tokens_rt.copy()
    tokens_rt[row, 0] = RARE
    bad = [jobs[0], jobs[1]._replace(tokens_rt=tokens_rt)]
    checkpoint, kept = tmp_path / "run.safetensors", []

    def keep(*_):
        kept.append(checkpoint.read_bytes())

    arguments = CONFIG, poisoned, lora.stack(adapters), bad, RUN, checkpoint
    with pytest.raises(
        NonFiniteLoss, match=f"job 1, step {step}: the loss is nan"
    ) as raised:
        train(*arguments, keep)
    assert str(batches[step]) in str(raised.value)
    assert checkpoint.read_bytes() == kept[-1]
    assert len(kept) == step // 2


def interrupted(params, adapters, jobs, checkpoint):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, params, lora.stack(adapters), jobs, RUN, checkpoint, interrupt)


@pytest.mark.parametrize(
    "change", [{"learning_rate": 0.02}, {"seed": 1}, {"steps": 8}, "data", "rank"]
)
def test_a_checkpoint_of_another_run_is_refused_and_kept(
    params, adapters, jobs, tmp_path, change
):
    checkpoint = tmp_path / "run.safetensors"
    interrupted(params, adapters, jobs, checkpoint)
    before = checkpoint.read_bytes()
    config, data, start = RUN, jobs, adapters
    if change == "data":
        changed = jobs[1].tokens_rt.copy()
        changed[0, 0] += 1
        data = [jobs[0], jobs[1]._replace(tokens_rt=changed)]
    elif change == "rank":
        wider = dataclasses.replace(LORA, rank=3)
        start = [lora.init_adapter(jax.random.key(k), CONFIG, wider) for k in range(2)]
    else:
        config = dataclasses.replace(RUN, **change)
    with pytest.raises(UserError, match="another model or config"):
        train(CONFIG, params, lora.stack(start), data, config, checkpoint)
    assert checkpoint.read_bytes() == before


def test_a_truncated_checkpoint_is_the_users_fault(params, adapters, jobs, tmp_path):
    checkpoint = tmp_path / "run.safetensors"
    interrupted(params, adapters, jobs, checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    with pytest.raises(UserError, match="not a readable checkpoint"):
        train(CONFIG, params, lora.stack(adapters), jobs, RUN, checkpoint)


def test_jobs_of_unlike_size_are_stacked_with_rows_that_are_never_drawn(jobs):
    stacked = trainer.stack_jobs(jobs)
    rows = [len(job.tokens_rt) for job in jobs]
    assert rows[0] > rows[1] and stacked.tokens_rt.shape == (2, rows[0], ROW)
    same_bits(Packed(*(array[1, : rows[1]] for array in stacked)), jobs[1])
    assert not any(array[1, rows[1] :].any() for array in stacked)
