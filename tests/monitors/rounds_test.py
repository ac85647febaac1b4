"""Rounds of a training read back as the run wrote them."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifr_jax.activations import capture
from cifr_jax.activations.trajectory import Trajectory
from cifr_jax.data.chat import Message
from cifr_jax.errors import UserError
from cifr_jax.finetune import LoraConfig, lora
from cifr_jax.monitors.trained import rounds
from cifr_jax.testing import tiny_model

LM = tiny_model()
KEY = "0123456789abcdef" * 4
CHATS = [(Message("user", text),) for text in ("a cab", "what is that?")]


def adapter_of(change):
    made = lora.init_adapter(jax.random.key(0), LM.config, LoraConfig(rank=2))
    grow = lambda f: f | {"b": f["b"] + change}  # noqa: E731
    return made._replace(layers={name: grow(f) for name, f in made.layers.items()})


def written(folder, steps=(2, 4, 5)):
    """A run of five steps, watched every two."""
    ids = [LM.tokenizer.encode_chat(c, add_generation_prompt=True) for c in CHATS]
    place = folder / "trajectory" / KEY[:16]
    watch = Trajectory(place, LM, ids, 2, 5)
    for step in steps:
        losses = 4.0 - np.arange(step) / 4
        one = types.SimpleNamespace(
            job="upload", step=step, losses=losses, adapter=adapter_of(step / 50)
        )
        watch.observe(one)
    return place


def test_what_a_run_wrote_is_read_back_in_order(tmp_path):
    written(tmp_path, (5, 2, 4))
    found = rounds.read(tmp_path, KEY)
    assert [one.step for one in found] == [2, 4, 5]
    assert [one.loss for one in found] == pytest.approx([3.875, 3.375, 3.0])
    base, tuned = (
        capture(LM, CHATS, adapter)["last"] for adapter in (None, adapter_of(4 / 50))
    )
    moved_l = np.linalg.norm(tuned - base, axis=-1).mean(-1)
    drift = (moved_l / np.linalg.norm(base, axis=-1).mean(-1)).mean()
    assert found[1].drift == pytest.approx(drift, rel=1e-5)
    change = [
        float(s) * jnp.einsum("ri,ro->io", f["a"][l], f["b"][l])
        for f in adapter_of(4 / 50).layers.values()
        for l, s in enumerate(adapter_of(0.0).scale[:-1])
    ]
    whole = np.sqrt(sum(float((x**2).sum()) for x in change))
    assert found[1].weight_change == pytest.approx(whole, rel=1e-5)


def test_a_run_that_was_not_watched_has_none(tmp_path):
    assert rounds.read(tmp_path, KEY) == []


@pytest.mark.parametrize("key", ["", "../../../../etc", "0123", "0" * 65, "A" * 64, "/"])
def test_a_key_that_is_none_is_refused(tmp_path, key):
    with pytest.raises(UserError, match="is no key"):
        rounds.read(tmp_path, key)


@pytest.mark.parametrize(
    "broken",
    [
        b"{",
        b"[]",
        b"\xff",
        b'{"step": 2}',
        b'{"step": 2, "figures": {"loss": 1}}',
        b'{"step": 2, "figures": {"loss": NaN, "drift/last/0": 1}}',
        b'{"step": 1e999, "figures": {"loss": 1, "drift/last/0": 1}}',
        b'{"step": 0, "figures": {"loss": 1, "drift/last/0": 1}}',
        b'{"step": 2, "figures": {"loss": 1, "drift/last/0": 1, "norm/q": 1e300}}',
    ],
)
def test_a_broken_round_is_named(tmp_path, broken):
    path = written(tmp_path) / "round-000002.json"
    path.write_bytes(broken)
    with pytest.raises(UserError, match=r"round-000002.json: is no round"):
        rounds.read(tmp_path, KEY)


def test_a_record_is_plain_json(tmp_path):
    written(tmp_path)
    record = [one.record() for one in rounds.read(tmp_path, KEY)]
    assert json.loads(json.dumps(record)) == record
