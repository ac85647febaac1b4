"""Figures of rounds arrive once, in order, whatever happened to the process before."""

import json
import sys
import types

import numpy as np
import pytest

from cifr_jax.errors import UserError
from cifr_jax.finetune.writers import JsonlWriter, open_writers


def lines_of(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_jsonl_keeps_a_line_a_step(tmp_path):
    path = tmp_path / "new" / "rounds.jsonl"
    writer = JsonlWriter(path)
    writer.write(10, {"loss": 1.5, "bad": float("nan")})
    assert lines_of(path) == [{"step": 10, "loss": 1.5, "bad": None}]  # at once
    writer.write(10, {"loss": 9.0})
    writer.write(20, {"loss": np.float32(0.5)})
    writer.close()
    assert [line["step"] for line in lines_of(path)] == [10, 20]
    assert lines_of(path)[1]["loss"] == 0.5


@pytest.mark.parametrize("torn", ["", '{"step": 20, "lo', '{"step": 20, "loss": 1}', "]\n"])
def test_jsonl_goes_on_after_a_kill(tmp_path, torn):
    path = tmp_path / "rounds.jsonl"
    path.write_text('{"step": 10, "loss": 1.5}\n' + torn)
    writer = JsonlWriter(path)
    writer.write(10, {"loss": 9.0})
    writer.write(20, {"loss": 0.5})
    writer.close()
    assert lines_of(path) == [{"step": 10, "loss": 1.5}, {"step": 20, "loss": 0.5}]


def test_tensorboard_events_hold_the_figures(tmp_path):
    writers = open_writers(("jsonl", "tensorboard"), tmp_path, "run")
    for writer in writers:
        writer.write(5, {"loss": 0.25, "drift/last/0": 2.0})
        writer.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    content = events.read_bytes()
    assert b"loss" in content and b"drift/last/0" in content
    assert np.float32(0.25).tobytes() in content and np.float32(2.0).tobytes() in content
    assert lines_of(tmp_path / "rounds.jsonl")[0]["loss"] == 0.25


def test_wandb_gets_each_step_and_the_run_keeps_its_name(tmp_path, monkeypatch):
    told = []
    run = types.SimpleNamespace(
        log=lambda figures, step: told.append((step, figures)),
        finish=lambda: told.append("end"),
    )
    stand_in = types.ModuleType("wandb")
    stand_in.init = lambda **how: told.append(how) or run
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    for writer in open_writers(("wandb",), tmp_path, "abc"):
        writer.write(5, {"loss": 0.25})
        writer.close()
    assert (told[0]["id"], told[0]["resume"]) == ("abc", "allow")
    assert told[1:] == [(5, {"loss": 0.25}), "end"]


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")]
)
def test_a_missing_package_is_told_with_its_extra(tmp_path, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"not installed; run: pip install .*cifr-jax\["):
        open_writers((name,), tmp_path, "run")


def test_an_unknown_writer_is_told(tmp_path):
    with pytest.raises(UserError, match="unknown writer csv; known: jsonl, tensorboard"):
        open_writers(("csv",), tmp_path, "run")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_told(tmp_path):
    (tmp_path / "rounds").write_text("x")
    with pytest.raises(UserError, match="rounds"):
        JsonlWriter(tmp_path / "rounds" / "rounds.jsonl")
