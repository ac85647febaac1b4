"""AdamW with hyperparameters as arrays is AdamW; schedules have known values.

Shapes: s steps.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cifr_jax.errors import UserError
from cifr_jax.finetune import optimiser
from cifr_jax.finetune.optimiser import Hyper, TrainConfig
from cifr_jax.models.decoder import Adapter

RUN = TrainConfig(steps=8, learning_rate=0.4, warmup_steps=4)


def rates(schedule, **changes):
    """The rate of every step `[s]`."""
    config = dataclasses.replace(RUN, schedule=schedule, **changes)
    hyper = jax.tree.map(jnp.asarray, optimiser.hyper_of(config))
    steps = range(config.steps)
    return [float(optimiser.learning_rate(schedule, hyper, step)) for step in steps]


def test_known_rates():
    # The rise ends at step 3, the first at the peak; the linear fall begins at once.
    rise = [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    linear = [r * (1 - s / 8) * 0.4 for s, r in enumerate(rise)]
    np.testing.assert_allclose(rates("linear"), linear, rtol=1e-6)
    np.testing.assert_allclose(rates("constant"), [0.4 * r for r in rise], rtol=1e-6)
    half = np.sqrt(0.5)
    fall = [1, (1 + np.cos(np.pi / 8)) / 2, (1 + half) / 2, (1 + np.cos(np.pi * 3 / 8)) / 2]
    fall += [0.5, 1 - fall[3], 1 - fall[2], 1 - fall[1]]
    cosine = [0.4 * r * f for r, f in zip(rise, fall, strict=True)]
    np.testing.assert_allclose(rates("cosine"), cosine, rtol=1e-5)


@pytest.mark.parametrize("warmup", [0, 1])
def test_without_a_warm_up_the_first_step_has_the_peak_rate(warmup):
    assert rates("linear", warmup_steps=warmup)[0] == np.float32(0.4)


@pytest.mark.parametrize("schedule", optimiser.SCHEDULES)
def test_the_rate_of_an_empty_slot_is_a_number(schedule):
    nothing = Hyper(*[jnp.zeros(())] * 8)
    assert np.isfinite(optimiser.learning_rate(schedule, nothing, 0))


def factors(seed):
    rng = np.random.default_rng(seed)
    layers = {"q": {"a": rng.normal(size=(2, 2, 3)), "b": rng.normal(size=(2, 2, 3))}}
    head = {"a": rng.normal(size=(2, 3)), "b": rng.normal(size=(2, 3))}
    return jax.tree.map(jnp.float32, Adapter(layers, None, head, None))


@pytest.mark.parametrize(("clip", "clipped"), [(0.5, True), (50.0, False)])
def test_it_is_adamw_by_optax_with_slower_blocks(clip, clipped):
    """Two jobs at once, traced, against two instances of `optax.adamw`, in Python."""
    kept = {"steps": 6, "warmup_steps": 2, "clip_norm": clip}
    configs = [
        TrainConfig(**kept, learning_rate=0.1, weight_decay=0.3, block_rate=0.5, b2=0.9),
        TrainConfig(**kept, learning_rate=0.02, block_rate=1.0, b2=0.9),
    ]
    program = optimiser.program_of(configs, max_targets=8)
    hypers = [optimiser.hyper_of(config) for config in configs]
    hyper = jax.tree.map(lambda *x: jnp.asarray(x), *hypers)

    @jax.jit
    @jax.vmap
    def update(hyper, step, now, state, grads):
        changes, state = optimiser.optimiser(program, hyper, step).update(grads, state, now)
        return optax.apply_updates(now, changes), state

    gradients = [[factors(10 * k + s) for s in range(6)] for k in range(2)]
    norms = [float(optax.tree.norm(g)) for job in gradients for g in job]
    assert all((norm > clip) == clipped for norm in norms)
    now = jax.tree.map(lambda *x: jnp.stack(x), factors(1), factors(2))
    state = jax.vmap(optimiser.optimiser(program, hypers[0], 0).init)(now)
    for s in range(6):
        grads = jax.tree.map(lambda *x: jnp.stack(x), *(g[s] for g in gradients))
        now, state = update(hyper, jnp.array([s, s]), now, state, grads)
    for k, (config, expected) in enumerate(zip(configs, map(factors, (1, 2)), strict=True)):
        adamw = optax.inject_hyperparams(optax.adamw, static_args=("b2",))
        transform = adamw(0.0, b2=0.9, weight_decay=config.weight_decay)
        own = transform.init(expected)
        for s, grads in enumerate(gradients[k]):
            norm = float(optax.tree.norm(grads))
            grads = jax.tree.map(lambda g, n=norm: g * min(1.0, clip / n), grads)
            rate = config.learning_rate * min(1, (s + 1) / 2) * (1 - s / 6)
            own.hyperparams["learning_rate"] = jnp.float32(rate)
            changes, own = transform.update(grads, own, expected)
            slow = jax.tree.map(lambda u, c=config: c.block_rate * u, changes.layers)
            expected = optax.apply_updates(expected, changes._replace(layers=slow))
        one = jax.tree.map(lambda x, k=k: x[k], now)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, expected
        )


def test_hyperparameters_are_of_one_type_whatever_was_written():
    written = TrainConfig(8, 1, 1, dropout=0, weight_decay=0, clip_norm=1, seed=2**40 + 3)
    as_floats = TrainConfig(8, 1.0, 1.0, seed=3)
    a, b = map(optimiser.hyper_of, (written, as_floats))
    assert a == b and list(map(type, a)) == list(map(type, b))
    assert jnp.asarray(a.seed) == 3  # as many as JAX's integers hold


def test_jobs_of_one_program_differ_in_nothing_that_it_is_made_of():
    one = TrainConfig(steps=8, chunk=2)
    free = {"steps": 9, "learning_rate": 0.1, "block_rate": 0.0, "warmup_steps": 1}
    free |= {"weight_decay": 0.1, "clip_norm": 2.0, "patience": 3, "seed": 4}
    program = optimiser.program_of([one, dataclasses.replace(one, **free)], 8)
    assert program == optimiser.program_of([one], 8)
    dropping = dataclasses.replace(one, dropout=0.1)
    assert optimiser.program_of([one, dropping], 8) == program._replace(dropout=True)
    named = {field.name for field in dataclasses.fields(TrainConfig)}
    shared = {"batch_rows": 2, "accumulate": 2, "schedule": "cosine", "b2": 0.5}
    shared |= {"chunk": 4, "evaluate_every": 2, "remat": True}
    assert named == set(free) | set(shared) | {"dropout"}
    for name, value in shared.items():
        other = dataclasses.replace(one, **{name: value})
        with pytest.raises(
            UserError, match=f"config.{name}: jobs of one fleet with {name}"
        ):
            optimiser.program_of([one, other], 8)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"steps": 0}, "config.steps: 0 steps; give a positive integer"),
        ({"batch_rows": -1}, "config.batch_rows: -1 batch rows"),
        ({"accumulate": 0}, "config.accumulate: 0 accumulate"),
        ({"chunk": 0}, "config.chunk: 0 chunk"),
        ({"schedule": "square"}, "config.schedule: unknown schedule 'square'; known: lin"),
        ({"dropout": 1.0}, "config.dropout: 1.0 is no share"),
        ({"dropout": -0.1}, "config.dropout: -0.1 is no share"),
        ({"evaluate_every": 30}, "config.evaluate_every: 30 is no multiple of chunk 25"),
    ],
)
def test_what_cannot_be_trained_is_the_users_fault(wrong, line):
    with pytest.raises(UserError) as raised:
        TrainConfig(**{"steps": 5} | wrong)
    assert str(raised.value).startswith(line)
