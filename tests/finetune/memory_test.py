"""The estimate of a fleet's memory against XLA's own account, and the choice made by it."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from cifr_jax.data.packing import Packed
from cifr_jax.errors import UserError
from cifr_jax.finetune import lora, memory, optimiser, trainer
from cifr_jax.models import decoder
from cifr_jax.models.config import DecoderConfig

BASE = DecoderConfig(512, 96, 3, 6, 2, 16, 256, tie_embeddings=True)


def shapes(tree, slots: int):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((slots, *jnp.shape(x)), jnp.asarray(x).dtype), tree
    )


def compiled_and_estimated(
    b: int, t: int, slots: int, at_once: int, remat: bool, base=BASE
):
    """XLA's bytes of the compiled steps, and the estimate of the same."""
    params = jax.eval_shape(lambda: decoder.Decoder(base, rngs=nnx.Rngs(0)).split())
    settings = optimiser.TrainConfig(9, batch_rows=b, chunk=1, remat=remat)
    adapter = lora.init_adapter(jax.random.key(0), base, lora.LoraConfig(8, 8.0))
    program = optimiser.program_of([settings], t // 2, at_once=at_once)
    hyper = optimiser.hyper_of(settings)
    state = trainer.fresh_state(program, hyper, adapter)
    rows = Packed(*(jnp.zeros((b, t), d) for d in ("int32", "float32", "int32", "int32")))
    index = jax.ShapeDtypeStruct((1, slots, 1, b), jnp.int32)
    own, old, data = (shapes(tree, slots) for tree in (hyper, state, rows))
    lowered = trainer.run_steps.lower(base, program, params, own, old, data, index)
    found = lowered.compile().memory_analysis()
    used = found.temp_size_in_bytes + found.argument_size_in_bytes
    used += found.output_size_in_bytes - found.alias_size_in_bytes
    needs = memory.estimate(base, params, program, adapter, (b, t))
    return used, needs.total(slots, at_once)


@pytest.mark.parametrize(
    ("b", "t", "slots", "at_once", "remat"),
    [
        (4, 128, 1, 1, False),
        (4, 64, 4, 1, False),
        (2, 64, 4, 4, False),
        (8, 64, 2, 1, True),
    ],
)
def test_the_estimate_is_near_what_xla_reports(b, t, slots, at_once, remat):
    used, estimated = compiled_and_estimated(b, t, slots, at_once, remat)
    assert 0.75 < estimated / used < 1.4


FEATURES = {
    "gemma": dict(
        norm="gemma", post_norm=True, activation="gelu_tanh", qk_norm="head",
        attention_cap=50.0, window=16, window_layers=(0, 2),
    ),
    "olmo": dict(norm="olmo", pre_norm=False, post_norm=True, qk_norm="width"),
}  # fmt: skip


@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_the_estimate_knows_what_other_families_keep(features):
    base = dataclasses.replace(BASE, **features)
    used, estimated = compiled_and_estimated(4, 128, 1, 1, False, base)
    assert 0.9 < estimated / used < 1.2


def test_slots_after_one_another_share_activations_and_remat_saves_most_of_them():
    one, four, together = (
        compiled_and_estimated(4, 64, slots, at_once, False)[0]
        for slots, at_once in ((1, 1), (4, 1), (4, 4))
    )
    assert four < 1.5 * one < 0.6 * together
    assert compiled_and_estimated(4, 64, 1, 1, True)[0] < 0.7 * one


NEEDS = memory.Estimate(base=100, state=10, activations=50)


def test_as_many_slots_as_fit(monkeypatch):
    assert memory.choose(NEEDS, 30, 250) == (10, 1)
    assert memory.choose(NEEDS, 3, 250) == (3, 1)
    assert memory.choose(NEEDS, 30, None) == (30, 1)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert memory.choose(NEEDS, 30, 250) == (2, 2)
    assert memory.choose(NEEDS, 30, None) == (30, 30)


def test_a_job_that_does_not_fit_is_refused_with_its_parts():
    gib = 2**30
    needs = memory.Estimate(base=3 * gib, state=gib // 4, activations=gib)
    with pytest.raises(UserError, match=r"about 4\.25 GiB \(base 3\.00, .* and 4\.00"):
        memory.choose(needs, 8, 4 * gib)


def test_the_device_says_how_much_there_is():
    found = memory.memory_of_device()
    assert found is None or 2**28 < found < 2**50
