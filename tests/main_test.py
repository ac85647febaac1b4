"""Exit codes and what is printed: one line for the user's faults, a traceback for ours."""

import subprocess
import sys
import types

import pytest
from ml_collections import ConfigDict

from cifr_jax import tasks
from cifr_jax.config import load_config
from cifr_jax.errors import UserError

NONE = {
    "tiny": "bootstrap", "smollm2": "job.steps", "cipher_jobs": "audit_rows",
    "job_benchmark": "permutations", "pointwise": "test.max_new_tokens",
}  # fmt: skip


@pytest.mark.parametrize("name", NONE)
def test_a_count_of_none_is_refused_before_any_work(name, tmp_path):
    config = load_config(f"configs/{name}.py:runlocal")
    config.update_from_flattened_dict({NONE[name]: 0})
    with pytest.raises(UserError, match=f"^config.{NONE[name]}: 0; give "):
        tasks.run_task(config, str(tmp_path / "work"))
    assert not (tmp_path / "work").exists()


CONFIG = """
from ml_collections import ConfigDict

def get_config():
    return ConfigDict({"task": "benchmark_tiny", "steps": 3, "train": {"lr": 1.0}})
"""
# Runs main with a task of the test's own in the place of the real one.
STUB = """
import sys
from cifr_jax import main, tasks
def task(config, workdir):
    print("TASK", workdir, config.steps, config.train.lr)
    if config.steps == 4:
        from cifr_jax.errors import UserError
        raise UserError("model.gguf", "is cut short", "fetch it again")
    if config.steps == 5:
        raise RuntimeError("ours")
    if config.steps == 6:
        raise KeyboardInterrupt
sys.modules["stub"] = sys.modules["__main__"]
tasks.TASKS["benchmark_tiny"] = "stub:task"
main.run()
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "c.py").write_text(CONFIG)

    def call(*arguments, program=("-m", "cifr_jax.main")):
        command = [sys.executable, *program, *(a.format(tmp_path) for a in arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    return call


OK = ("--config={}/c.py", "--workdir={}/w")
FAULTS = [
    ((), "--config is missing; give --config FILE"),
    (OK[:1], "--workdir is missing; give --workdir FOLDER"),
    ((*OK, "--config.tran.lr=1"), "unknown config key tran.lr; did you mean train.lr?"),
    ((*OK, "--workdri=x"), "unknown flag --workdri; did you mean --workdir?"),
    (("--config.steps=1", *OK), "before a value for --config"),
    ((*OK, "--config={}/no.py"), "no.py: no such file or directory; give the path"),
]


@pytest.mark.parametrize("arguments, line", FAULTS, ids=[line for _, line in FAULTS])
def test_a_fault_in_the_command_line_is_one_line_and_exit_code_2(run, arguments, line):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("cifr_jax: error: ") and done.stderr.count("\n") == 1
    assert line in done.stderr


def test_debug_shows_the_traceback_of_a_users_fault_too(run):
    done = run(*OK, "--config.tran.lr=1", "--debug")
    assert done.returncode == 2 and "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("cifr_jax: error: command line: unknown")


@pytest.mark.parametrize(
    "steps, code, tail",
    [
        (3, 0, ""),
        (4, 2, "cifr_jax: error: model.gguf: is cut short; fetch it again\n"),
        (5, 1, "RuntimeError: ours\n"),
        (6, 130, "cifr_jax: stopped; the same line goes on from here\n"),
    ],
)
def test_what_a_task_does_decides_the_exit_code(run, tmp_path, steps, code, tail):
    extra = (f"--config.steps={steps}", "--config.train.lr", "0.5")
    done = run(*OK, *extra, program=("-c", STUB))
    assert done.returncode == code, done.stderr
    assert f"TASK {tmp_path}/w {steps} 0.5" in done.stdout
    for logged in ("versions: {", "devices: 1 x cpu", "lr: 0.5"):
        assert logged in done.stdout
    assert done.stderr == tail or (code == 1 and done.stderr.endswith(tail))
    assert ("Traceback" in done.stderr) == (code == 1)


def test_the_task_is_found_and_called(monkeypatch):
    calls = []
    stub = types.ModuleType("stub_task")
    stub.go = lambda *given: calls.append(given)
    monkeypatch.setitem(sys.modules, "stub_task", stub)
    monkeypatch.setitem(tasks.TASKS, "finetune", "stub_task:go")
    config = ConfigDict({"task": "finetune"})
    tasks.run_task(config, "w")
    assert calls == [(config, "w")]


@pytest.mark.parametrize(
    "config, mend",
    [
        ({"task": "benchmark_tinny"}, "did you mean benchmark_tiny"),
        ({"task": "x"}, "known: benchmark_tiny, "),
        ({"task": {"a": 1}}, "known: "),
        ({}, "known: "),
    ],
)
def test_an_unknown_task_is_the_users_fault(config, mend):
    with pytest.raises(UserError, match="config key task: unknown task") as caught:
        tasks.run_task(ConfigDict(config), "w")
    assert mend in caught.value.mend
