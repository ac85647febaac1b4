"""The launch scripts: what they show, and what they run when the tools are stand-ins."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "launch").glob("*.sh"))
ARGUMENTS = [
    "--config",
    "configs/tiny.py:runlocal",
    "--workdir",
    "out/my 'tiny' $HOME; run",
]
TPU = {"TPU_NAME": "my-tpu", "TPU_ZONE": "a-zone"}


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/usr/bin/env bash\n" + text)
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path):
    """A checkout in miniature, with a `.venv` whose python prints its arguments."""
    shutil.copytree(ROOT / "launch", tmp_path / "here" / "launch")
    python = 'printf "<%s>" "$@"; echo\n'
    program(tmp_path / "here" / ".venv" / "bin" / "python", python)
    program(tmp_path / "bin" / "python3", python)
    program(tmp_path / "bin" / "gcloud", f'printf "%s\\0" "$@" >> {tmp_path}/calls\n')
    return tmp_path / "here"


def launch(checkout: Path, script: str, *arguments: str, **env: str):
    path = f"{checkout.parent / 'bin'}:{os.environ['PATH']}"
    clean = {k: v for k, v in os.environ.items() if k not in (*TPU, "SLURM_ARRAY_TASK_ID")}
    return subprocess.run(
        [f"launch/{script}", *arguments],
        cwd=checkout,
        env={**clean, "PATH": path, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_parse_and_can_be_run(script):
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)


def test_tpu_dry_run_shows_every_command_and_runs_none(checkout):
    done = launch(checkout, "tpu_vm.sh", "--dry_run", *ARGUMENTS, **TPU)
    assert (done.returncode, done.stderr) == (0, "")
    first_words = [line.split(" my-tpu")[0] for line in done.stdout.splitlines()]
    assert first_words[0].startswith("tar -czf ")
    assert first_words[1].startswith("gcloud compute tpus tpu-vm scp ")
    assert first_words[2:] == ["gcloud compute tpus tpu-vm ssh"] * 2
    assert not (checkout.parent / "calls").exists()


def test_tpu_run_reaches_all_workers_and_keeps_every_argument(checkout):
    done = launch(checkout, "tpu_vm.sh", *ARGUMENTS, **TPU)
    assert (done.returncode, done.stderr) == (0, "")
    calls = (checkout.parent / "calls").read_text().split("compute\0")[1:]
    assert len(calls) == 3 and all("\0--worker=all\0--zone=a-zone\0" in c for c in calls)
    archive = Path(calls[0].split("\0")[3])
    assert archive.name.endswith(".tar.gz") and not archive.exists()  # tidied up
    # The last command as a worker's shell reads it.
    line = re.search(r"--command=(.*)\0$", calls[2], re.DOTALL)[1]
    (checkout / "cifr_jax" / ".venv" / "bin").mkdir(parents=True)
    (checkout / "cifr_jax" / ".venv" / "bin" / "activate").write_text("")
    path = f"{checkout.parent / 'bin'}:{os.environ['PATH']}"
    shown = subprocess.run(
        ["bash", "-c", line],
        cwd=checkout,
        env={"PATH": path},
        capture_output=True,
        text=True,
    )
    expected = "".join(f"<{a}>" for a in ["-m", "cifr_jax.main", *ARGUMENTS])
    assert (shown.stdout, shown.stderr) == (expected + "\n", "")


@pytest.mark.parametrize("task", ["0", "1"])
def test_a_slurm_task_runs_the_config_of_its_number(checkout, task):
    configs = ["configs/tiny.py:runlocal", "elsewhere/b c.py"]
    done = launch(checkout, "slurm.sh", *configs, SLURM_ARRAY_TASK_ID=task, WORKDIRS="w")
    assert (done.returncode, done.stderr) == (0, "")
    config, folder = configs[int(task)], ["w/tiny-runlocal", "w/b c"][int(task)]
    words = ["-m", "cifr_jax.main", "--config", config, "--workdir", folder]
    assert done.stdout.splitlines()[1:] == ["".join(f"<{word}>" for word in words)]


def test_slurm_dry_run_shows_the_line_of_every_task(checkout):
    done = launch(checkout, "slurm.sh", "--dry_run", "configs/a.py", "configs/b.py")
    assert (done.returncode, done.stderr) == (0, "")
    line = ".venv/bin/python -m cifr_jax.main --config configs/{0}.py --workdir out/{0} "
    assert done.stdout.splitlines() == [line.format("a"), line.format("b")]


@pytest.mark.parametrize(
    "script, arguments, env, message",
    [
        ("tpu_vm.sh", [], TPU, "usage: "),
        ("tpu_vm.sh", ["--dry_run", *ARGUMENTS], {}, "usage: "),
        ("slurm.sh", [], {"SLURM_ARRAY_TASK_ID": "0"}, "usage: "),
        ("slurm.sh", ["configs/a.py"], {}, "usage: "),
        ("slurm.sh", ["configs/a.py"], {"SLURM_ARRAY_TASK_ID": "1"}, "correct --array"),
    ],
)
def test_what_is_missing_is_told_in_one_line(checkout, script, arguments, env, message):
    done = launch(checkout, script, *arguments, **env)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert message in done.stderr


def test_a_program_that_fails_fails_the_slurm_task(checkout):
    program(checkout / ".venv" / "bin" / "python", "exit 7\n")
    done = launch(checkout, "slurm.sh", "configs/a.py", SLURM_ARRAY_TASK_ID="0")
    assert done.returncode == 7


def test_sky_file_runs_a_config_that_exists():
    text = (ROOT / "launch" / "sky.yaml").read_text()
    assert (ROOT / re.search(r"^  CONFIG: (\S+)$", text, re.MULTILINE)[1]).is_file()
    assert '-m cifr_jax.main --config "$CONFIG" --workdir "$WORKDIR"' in text
