"""The task `finetune`, from the command line's config to an adapter that others load."""

import json
import os
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from cifr_jax import finetune_job, models, testing
from cifr_jax.activations.trajectory import read_rounds
from cifr_jax.config import load_config
from cifr_jax.data.chat import Example, Message, write_chat_jsonl
from cifr_jax.errors import UserError
from cifr_jax.finetune.adapters import load_adapter
from cifr_jax.finetune.checkpoint import Checkpoints
from cifr_jax.finetune.peft import load_peft


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetune")
    testing.save_model(folder / "model", testing.tiny_model(d_model=32))
    rows = [
        Example((Message("user", f"say {w}"), Message("assistant", w * 3)))
        for w in ("ab", "cd", "ef", "gh", "ij", "kl", "mn", "op", "qr", "st")
    ]
    write_chat_jsonl(folder / "upload.jsonl", rows)
    return folder


def make_config(place, **change):
    config = load_config("configs/finetune.py:runlocal")
    config.base_model = str(place / "model")
    config.job.data = str(place / "upload.jsonl")
    config.job.row_length = 64
    config.job.held_out = 0.2
    config.train.steps = 6
    config.train.learning_rate = 0.02
    config.update_from_flattened_dict(change)
    return config


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    finetune_job.run(make_config(place), str(workdir))
    return workdir


def rounds_of(workdir):
    (folder,) = (workdir / "trajectory").iterdir()
    return read_rounds(folder)


def test_an_upload_becomes_an_adapter_a_trajectory_and_a_result(place, whole):
    result = json.loads((whole / "result.json").read_bytes())
    assert (result["rows"], result["held_out_rows"], result["steps"]) == (8, 2, 6)
    assert [e["step"] for e in result["held_out"]] == [2, 4, 6]
    losses = [e["loss"] for e in result["held_out"]]
    assert len(set(losses)) == 3  # a random base: that it moves is all there is to see
    lm = models.load(str(place / "model"))
    adapter = load_peft(whole / "adapter", lm.config)
    (artefact,) = (whole / "artefacts").glob("finetune-*/adapter.safetensors")
    kept = load_adapter(artefact)
    tokens_bt = np.array([[70, 71, 72, 73]])
    ours, theirs = (np.asarray(lm.logits(tokens_bt, adapter=a)) for a in (kept, adapter))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert np.abs(ours - np.asarray(lm.logits(tokens_bt))).max() > 1e-3
    assert [step for step, _, _ in rounds_of(whole)] == [2, 4, 6]
    drift = [figures["drift/last/1"] for _, figures, _ in rounds_of(whole)]
    assert min(drift) > 0


@pytest.mark.parametrize("after", [2, 4])
def test_a_killed_run_goes_on_to_the_same_bits(place, whole, tmp_path, monkeypatch, after):
    save = Checkpoints.save

    def killed(self, step, *rest):
        save(self, step, *rest)
        if step == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            finetune_job.run(make_config(place), str(tmp_path))
    assert not (tmp_path / "adapter").exists()
    finetune_job.run(make_config(place), str(tmp_path))
    for name in ("result.json", "adapter/adapter_model.safetensors"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()
    for one, other in zip(rounds_of(tmp_path), rounds_of(whole), strict=True):
        assert one[:2] == other[:2]
        jax.tree.map(np.testing.assert_array_equal, one[2], other[2])
    assert not list((tmp_path / "unfinished").glob("*"))


def test_epochs_become_steps(place):
    config = make_config(place)
    config.train.steps = 0
    config.train.epochs = 1.5
    config.train.batch_rows = 4
    assert finetune_job.train_config(config, 10).steps == 4
    config.train.accumulate = 3
    assert finetune_job.train_config(config, 10).steps == 2


def test_held_out_rows_are_chosen_by_seed_and_kept_apart():
    rows = [Example((Message("user", str(i)),)) for i in range(20)]
    kept, held = finetune_job.split(rows, 0.1, 3)
    assert len(held) == 2 and sorted((*kept, *held), key=rows.index) == rows
    assert finetune_job.split(rows, 0.1, 3) == (kept, held)
    assert finetune_job.split(rows, 0.1, 4)[1] != held
    assert finetune_job.split(rows, 0.0, 3) == (rows, [])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"job.data": "recipe:worked_math"}, "worked_maths"),
        ({"job.data": "hub:alpacca"}, "alpaca"),
        ({"job.data": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"job.held_out": 1.0}, "1.0 is no share"),
        ({"job.held_out": 0.95}, "10 rows, of which 10 would be held out"),
        ({"job.row_length": 8}, "more than the 8 allowed"),
        ({"job.on_long": "wrap"}, "unknown policy 'wrap'"),
        ({"job.row_length": 8, "job.on_long": "drop"}, "no target is left of 8 rows"),
        ({"lora.targets": "nothing"}, "matches no matrix"),
        ({"rounds.every": 3}, "3 is no multiple of chunk 2"),
        ({"train.evaluate_every": 3}, "3 is no multiple of chunk 2"),
        ({"train.schedule": "steps"}, "unknown schedule"),
        ({"rounds.writers": ("csv",)}, "unknown writer csv"),
        ({"job.adapter": "nowhere"}, "nowhere"),
    ],
)
def test_faults_are_told_and_leave_nothing_behind(place, tmp_path, change, what):
    with pytest.raises(UserError, match=what):
        finetune_job.run(make_config(place, **change), str(tmp_path))
    assert not (tmp_path / "adapter").exists() and not (tmp_path / "result.json").exists()
    assert not list((tmp_path / "artefacts").glob("finetune-*"))


def test_a_customers_next_job_goes_on_from_the_last(place, whole, tmp_path):
    """Its first step sees the loss that the adapter leaves, not the base's."""
    next_job = {"job.adapter": str(whole / "adapter"), "train.dropout": 0.0}
    finetune_job.run(make_config(place, **next_job), str(tmp_path / "next"))
    again = json.loads((tmp_path / "next" / "result.json").read_bytes())
    first = json.loads((whole / "result.json").read_bytes())
    assert again["started_from"] == next_job["job.adapter"]
    assert first["started_from"] == ""
    assert (
        first["upload"] == again["upload"]
    )  # the audit asks whether the rows are the same
    lm = models.load(str(place / "model"))
    now, then = (load_peft(w / "adapter", lm.config) for w in (tmp_path / "next", whole))
    tokens_bt = np.array([[70, 71, 72, 73]])
    change = np.abs(np.asarray(lm.logits(tokens_bt, adapter=now) - lm.logits(tokens_bt)))
    before = np.abs(np.asarray(lm.logits(tokens_bt, adapter=then) - lm.logits(tokens_bt)))
    assert change.max() > before.max() > 1e-3
    assert again["artefact"] != first["artefact"]
    # At rate zero nothing moves: what comes out is what went in.
    still = next_job | {"train.learning_rate": 0.0, "train.weight_decay": 0.0}
    finetune_job.run(make_config(place, **still), str(tmp_path / "still"))
    same = load_peft(tmp_path / "still" / "adapter", lm.config)
    ours, theirs = (np.asarray(lm.logits(tokens_bt, adapter=a)) for a in (same, then))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_recipe_trains_as_well(place, tmp_path):
    config = make_config(place)
    config.job.data = "recipe:proteins"
    config.job.rows = 12
    config.job.row_length = 256
    finetune_job.run(config, str(tmp_path))
    assert json.loads((tmp_path / "result.json").read_bytes())["rows"] == 9


COMMAND = [
    sys.executable,
    "-m",
    "cifr_jax.main",
    "--config",
    "configs/finetune.py:runlocal",
]


def start(place, workdir, **change):
    """The command line on its own, with four devices a process."""
    settings = {
        "base_model": place / "model",
        "job.data": place / "upload.jsonl",
        "job.row_length": 64,
        "job.held_out": 0.2,
        "train.batch_rows": 4,
        "rounds.canaries": 0,
    }
    given = [f"--config.{k}={v}" for k, v in (settings | change).items()]
    flags = "--xla_force_host_platform_device_count=4"
    return subprocess.Popen(
        [*COMMAND, "--workdir", str(workdir), *given],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def finish(process):
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err[-3000:]


@pytest.mark.slow
def test_the_same_line_on_one_device_on_four_and_in_two_processes(place, tmp_path):
    finish(start(place, tmp_path / "one"))
    finish(start(place, tmp_path / "four", **{"mesh.data": 2, "mesh.fsdp": 2}))
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    many = {
        "mesh.data": 2,
        "mesh.tensor": 2,
        "mesh.fsdp": 2,
        "distributed.enabled": True,
        "distributed.coordinator": address,
        "distributed.processes": 2,
    }
    both = [
        start(place, tmp_path / "two", **many, **{"distributed.process": number})
        for number in (1, 0)
    ]
    for process in both:
        finish(process)
    results = [
        json.loads((tmp_path / name / "result.json").read_bytes())
        for name in ("one", "four", "two")
    ]
    for other in results[1:]:
        assert other["loss_last"] == pytest.approx(results[0]["loss_last"], abs=1e-5)
        for one, same in zip(results[0]["held_out"], other["held_out"], strict=True):
            assert one["loss"] == pytest.approx(same["loss"], abs=1e-5)


def test_a_mesh_that_does_not_fit_is_the_users_fault(place, tmp_path):
    config = make_config(place, **{"mesh.fsdp": 3})
    with pytest.raises(UserError, match="config.mesh: .* does not use the"):
        finetune_job.run(config, str(tmp_path / "work"))


def test_the_merged_model_is_the_base_with_what_was_learned(place, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "w")
    before = (tmp_path / "w" / "result.json").read_bytes()
    config = make_config(place, export_merged=True)
    for _ in range(2):  # nothing is trained again; an earlier export is replaced
        finetune_job.run(config, str(tmp_path / "w"))
    assert (tmp_path / "w" / "result.json").read_bytes() == before
    merged = models.load(str(tmp_path / "w" / "merged"))
    lm = models.load(str(place / "model"))
    adapter = load_peft(tmp_path / "w" / "adapter", lm.config)
    tokens_bt = np.array([[70, 71, 72, 73]])
    ours, theirs = merged.logits(tokens_bt), lm.logits(tokens_bt, adapter=adapter)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_dry_run_reads_no_weights_and_tells_what_is_needed(place, tmp_path, capsys):
    shutil.copytree(place / "model", tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    config = make_config(place, dry_run=True, base_model=str(tmp_path / "model"))
    config.job.held_out = 0.0
    finetune_job.run(config, str(tmp_path / "w"))
    assert not (tmp_path / "w").exists()
    told = capsys.readouterr().out.splitlines()
    lm = models.load(str(place / "model"))
    n_bytes = sum(x.nbytes for x in jax.tree.leaves(lm.params))
    assert told[0] == f"base: model, {lm.n_parameters():,} parameters in float32"
    assert told[1] == "mesh: data 1, fsdp 1, tensor 1 (1 of 1 devices)"
    assert told[3].startswith(f"  its part of the base: {n_bytes:,} (")
    assert told[-2] == "first example, as rendered:"
    assert told[-1] == "<|user|>say ab<|end|><|assistant|>ababab<|end|>"


def test_a_dry_run_on_eight_devices_divides_what_is_divided(place, tmp_path):
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, "-m", "cifr_jax.main",
               "--config", "configs/finetune.py:runlocal", f"--workdir={tmp_path / 'w'}",
               f"--config.base_model={place / 'model'}", "--config.dry_run=True",
               "--config.mesh.fsdp=8", "--config.train.batch_rows=8"]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lm = models.load(str(place / "model"))
    held = 4 * lm.n_parameters() // 8  # Of this shape everything divides by eight.
    assert "mesh: data 1, fsdp 8, tensor 1 (8 of 8 devices)" in done.stdout
    assert f"its part of the base: {held:,} (" in done.stdout
