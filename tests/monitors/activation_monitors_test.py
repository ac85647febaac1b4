"""Choice of layer, pool and C, and refusals of activations that do not fit."""

import numpy as np
import pytest

from cifr_jax import monitors
from cifr_jax.monitors import PromptItem
from cifr_jax.probes import LogisticProbe

NAMES = ("linear_probe", "difference_of_means")


def items_with_signal(layer, pool, n=80, seed=0, width=5, layers=4):
    """Noise everywhere but in one layer of one pool."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    items = []
    for y in labels:
        acts = {p: rng.normal(size=(layers, width)).astype(np.float32)
                for p in ("last", "mean")}  # fmt: skip
        acts[pool][layer, 0] += 4 * y
        items.append(PromptItem("x", activations=acts))
    return items, labels


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layer,pool", [(2, "mean"), (0, "last")])
def test_finds_the_layer_and_pool_that_hold_the_signal(name, layer, pool):
    monitor = monitors.get(name).fit(
        *items_with_signal(layer, pool), *items_with_signal(layer, pool, seed=1)
    )
    chosen = monitor.selection
    assert (chosen["layer"], chosen["pool"]) == (layer, pool)
    assert chosen["site"] == "resid_post"
    assert (chosen["C"] is None) == (name == "difference_of_means")
    curve = np.array(monitor.validation_auroc[pool])
    assert curve.shape[0] == 4 and curve[layer].max() > 0.95
    assert np.delete(curve, layer, axis=0).max() < 0.8


def test_the_choice_is_made_on_validation_alone():
    """Layer 1 separates the training items, layer 3 those of validation as well."""
    (train, y), (valid, y_v) = (
        items_with_signal(1, "last"),
        items_with_signal(3, "last", seed=1),
    )
    for item, label in zip(train, y, strict=True):
        item.activations["last"][3, 0] += 2 * label
    monitor = monitors.get("linear_probe").fit(train, y, valid, y_v)
    assert monitor.selection["layer"] == 3


def test_scores_are_those_of_the_probe_on_the_chosen_layer():
    items, labels = items_with_signal(2, "mean")
    monitor = monitors.get("linear_probe", Cs=(0.1,)).fit(
        items, labels, *items_with_signal(2, "mean", seed=1)
    )
    x_nd = np.stack([item.activations["mean"][2] for item in items])
    probe = LogisticProbe(C=0.1).fit(x_nd, labels)
    np.testing.assert_allclose(
        monitor.score_many(items), probe.decision_function(x_nd), rtol=1e-4, atol=1e-4
    )


def test_equal_auroc_is_decided_by_log_loss_then_the_smaller_c():
    items, labels = items_with_signal(2, "mean")
    for item, y in zip(items, labels, strict=True):  # both layers separate, 1 by far
        item.activations["mean"][1, 0] += 60 * y
        item.activations["mean"][2, 0] += 16 * y
    monitor = monitors.get("difference_of_means", pools=["mean"])
    assert monitor.fit(items, labels, items, labels).selection["layer"] == 1
    fixed = monitors.get("linear_probe", Cs=(0.1, 0.1), pools=["mean"], layers=[2])
    assert fixed.fit(items, labels, items, labels).selection["C"] == 0.1


def test_layers_and_pools_can_be_fixed():
    items, labels = items_with_signal(2, "mean")
    monitor = monitors.get("linear_probe", Cs=(0.01,), pools=["last"], layers=[-1])
    monitor.fit(items, labels)  # one candidate: no validation needed
    assert monitor.selection == {
        "layer": 3, "site": "resid_post", "pool": "last", "C": 0.01
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_refused(name):
    items, labels = items_with_signal(2, "mean")
    valid = items_with_signal(2, "mean", seed=1)
    with pytest.raises(ValueError, match="not fitted"):
        monitors.get(name).score_many(items)
    with pytest.raises(ValueError, match="validation"):
        monitors.get(name).fit(items, labels)
    with pytest.raises(ValueError, match="class 1"):
        monitors.get(name).fit(items, 0 * labels, *valid)
    with pytest.raises(ValueError, match="both classes"):
        monitors.get(name).fit(items, labels, valid[0], 0 * valid[1])
    with pytest.raises(ValueError, match="no items"):
        monitors.get(name).fit([], [], *valid)
    with pytest.raises(ValueError, match="needs activations"):
        monitors.get(name).fit([PromptItem("x")], [1], *valid)
    with pytest.raises(ValueError, match="layers"):
        monitors.get(name, layers=[4]).fit(items, labels, *valid)
    with pytest.raises(ValueError, match=r"item 0 has no activations of pool 'max'"):
        monitors.get(name, pools=["max"]).fit(items, labels, *valid)
    ragged = [*items, PromptItem("x", activations={"mean": np.zeros((4, 7))})]
    with pytest.raises(ValueError, match="item 80.*expected"):
        monitors.get(name, pools=["mean"]).fit(ragged, [*labels, 1], *valid)
    monitor = monitors.get(name).fit(items, labels, *valid)
    items[5].activations["mean"][monitor.selection["layer"], 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        monitor.score_many(items)


def items_of_jobs(seed, n=60):
    """Layer 0: each job has its own direction, without noise. Layer 1: shared, noisy."""
    rng = np.random.default_rng(seed)
    items, labels = [], []
    for direction, job in enumerate(("a", "b", "c")):
        for y in np.arange(n) % 2:
            x_ld = rng.normal(size=(2, 4)).astype(np.float32)
            x_ld[0, direction] += 8 * y
            x_ld[1, 3] += 2 * y
            items.append(PromptItem("x", activations={"last": x_ld}, job=job))
            labels.append(y)
    return items, np.array(labels)


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_chosen_for_a_job_left_out(name):
    """Layer 0 is perfect within the training jobs and says nothing about another."""
    train, valid = items_of_jobs(0), items_of_jobs(1)
    monitor = monitors.get(name).fit(*train, *valid)
    assert monitor.selection["layer"] == 1
    # The probe that is kept learned from all jobs, not from all but one.
    x_nd = np.stack([i.activations["last"][1] for i in train[0]])
    if name == "linear_probe":
        own = LogisticProbe(C=monitor.selection["C"]).fit(x_nd, train[1])
        np.testing.assert_allclose(monitor.probe.coef_, own.coef_, rtol=1e-3, atol=1e-5)
    for item in (*train[0], *valid[0]):
        object.__setattr__(item, "job", "")
    pooled = monitors.get(name).fit(*train, *valid)
    assert pooled.selection["layer"] == 0
