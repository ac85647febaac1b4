"""Rounds hold what a plain forward and a plain product say, once, whole."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifr_jax import testing
from cifr_jax.activations import capture_tokens
from cifr_jax.activations.trajectory import Trajectory, read_rounds, weight_change_norms
from cifr_jax.errors import UserError
from cifr_jax.finetune import lora
from cifr_jax.finetune.fleet import Round

CANARIES = [[5, 6, 7], [8, 9], [10, 11, 12, 13]]


@pytest.fixture(scope="module")
def lm():
    return testing.tiny_model()


def adapter_of(lm, seed):
    shape = lora.LoraConfig(rank=3, alpha=6.0, embed_rank=2)
    fresh = lora.init_adapter(jax.random.key(seed), lm.config, shape)
    keys = iter(jax.random.split(jax.random.key(seed + 1), 99))
    factors = jax.tree.map(
        lambda x: 0.1 * jax.random.normal(next(keys), x.shape), fresh._replace(scale=None)
    )
    return factors._replace(scale=fresh.scale)


def test_norms_are_those_of_the_products(lm):
    adapter = adapter_of(lm, 0)
    norms = weight_change_norms(adapter)
    for name, factors in adapter.layers.items():
        change = 2.0 * jnp.einsum("lri,lro->lio", factors["a"], factors["b"])
        expected = np.linalg.norm(change, axis=(1, 2))
        np.testing.assert_allclose(norms[name], expected, rtol=1e-5)
    head = 2.0 * adapter.head["a"].T @ adapter.head["b"]
    np.testing.assert_allclose(norms["head"], [np.linalg.norm(head)], rtol=1e-5)


class Scorer:
    """Sums a row, so that the expected score is plain to see."""

    def decision_function(self, x_nd):
        return np.asarray(x_nd).sum(-1)


class Kept:
    def __init__(self):
        self.told = []

    def write(self, step, figures):
        self.told.append((step, figures))

    def close(self): ...


def test_rounds_are_made_where_they_are_due_and_only_once(lm, tmp_path):
    kept, losses = Kept(), np.arange(1.0, 8.0, dtype=np.float32)

    def observer():
        return Trajectory(
            tmp_path, lm, CANARIES, every=4, last=7, writers=[kept], probe=Scorer()
        )

    watch, adapter = observer(), adapter_of(lm, 0)
    for step in (2, 4):
        watch.observe(Round("a", step, adapter, losses[:step]))
    before = (tmp_path / "round-000004.safetensors").stat().st_mtime_ns
    watch = observer()  # killed after the round, before the checkpoint
    for step in (4, 6, 7):
        watch.observe(Round("a", step, adapter, losses[:step]))
    assert (tmp_path / "round-000004.safetensors").stat().st_mtime_ns == before
    assert [step for step, _ in kept.told] == [4, 4, 7]
    rounds = read_rounds(tmp_path)
    assert [step for step, _, _ in rounds] == [4, 7]
    assert [figures["loss"] for _, figures, _ in rounds] == [2.5, 6.0]
    plain = capture_tokens(lm.config, lm.params, CANARIES, adapter)
    base = capture_tokens(lm.config, lm.params, CANARIES)
    _, figures, arrays = rounds[0]
    np.testing.assert_array_equal(arrays["activations"]["last"], plain["last"])
    moved = np.linalg.norm(plain["mean"][1] - base["mean"][1], axis=-1).mean()
    size = np.linalg.norm(base["mean"][1], axis=-1).mean()
    np.testing.assert_allclose(figures["drift/mean/1"], moved / size, rtol=1e-5)
    np.testing.assert_allclose(
        figures["probe_score"], plain["last"][-1].sum(-1).mean(), rtol=1e-5
    )


def test_a_fresh_adapter_has_not_moved(lm, tmp_path):
    fresh = lora.init_adapter(jax.random.key(0), lm.config, lora.LoraConfig(rank=2))
    watch = Trajectory(tmp_path, lm, CANARIES, every=1, last=1)
    watch.observe(Round("a", 1, fresh, np.ones(1, np.float32)))
    ((_, figures, _),) = read_rounds(tmp_path)
    still = [x for name, x in figures.items() if name.startswith(("drift", "norm"))]
    assert len(still) > 4 and max(still) == 0.0


def test_faults_are_told(lm, tmp_path):
    with pytest.raises(UserError, match="canaries: there are none"):
        Trajectory(tmp_path, lm, [], every=1, last=1)
    (tmp_path / "round-000001.json").write_text(json.dumps({"step": 1}))
    with pytest.raises(UserError, match="not a round of a trajectory"):
        read_rounds(tmp_path)
