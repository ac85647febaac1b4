"""The main job through the command line: end to end, killed and resumed, and its faults."""

import json
import os
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cifr_jax.evaluation.schema import validate_results

ROOT = Path(__file__).resolve().parent.parent
LINE = [sys.executable, "-m", "cifr_jax.main", "--config", "configs/tiny.py:runlocal"]
PATIENCE = 900


def start(workdir: Path, *options: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*LINE, "--workdir", str(workdir), *options],
        cwd=ROOT,
        # It trains longer than it compiles: not with the compiler's least effort.
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_when(process: subprocess.Popen, reached) -> None:
    """SIGKILL as soon as `reached()`; fails if the run ends before."""
    deadline = time.time() + PATIENCE
    while not reached():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.time() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def figures(workdir: Path) -> dict:
    """results.json without what may differ from run to run."""
    results = json.loads((workdir / "results.json").read_text())
    validate_results(results)
    for key in ("timings", "environment"):
        results.pop(key)
    for rows in ("rows", "entity_rows", "job_rows"):
        for row in results[rows]:
            row.pop("seconds_per_1000")
    return results


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, str]:
    workdir = tmp_path_factory.mktemp("undisturbed")
    process = start(workdir)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err[-3000:]
    return workdir, out


def test_a_run_leaves_results_report_and_table(undisturbed):
    workdir, out = undisturbed
    results = figures(workdir)
    kinds = {job["kind"] for job in results["jobs"]}
    assert kinds == {"attack", "phase1", "benign"}
    monitors = {row["monitor"] for row in results["rows"]}
    assert {"linear_probe", "bag_of_bytes", "layer_0", "no_adapter"} <= monitors
    cells = {(row["role"], row["cell"]) for row in results["rows"]}
    assert {("test_variant", "encoded"), ("test_family", "plain")} <= cells
    assert all(check["passed"] for check in results["leakage_checks"])
    page = (workdir / "report.html").read_text()
    HTMLParser().feed(page)
    assert "walnut:seed=52" in page and "linear_probe" in out
    assert not list(workdir.glob("unfinished/*"))


@pytest.mark.slow  # two minutes; text_benchmark_test kills a smaller run
def test_a_run_killed_twice_gives_the_figures_of_an_undisturbed_one(undisturbed, tmp_path):
    artefacts = tmp_path / "artefacts"
    # Once in training, between two phases, and once among the captures.
    kill_when(start(tmp_path), lambda: any(artefacts.glob("train_reading-*")))
    kill_when(start(tmp_path), lambda: len(list(artefacts.glob("observe-*"))) >= 2)
    kept = {path.name: path.stat().st_mtime_ns for path in artefacts.glob("*-*")}
    process = start(tmp_path)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err[-3000:]
    assert figures(tmp_path) == figures(undisturbed[0])
    again = {path.name: path.stat().st_mtime_ns for path in artefacts.glob("*-*")}
    finished = [name for name in kept if not name.startswith(".")]
    assert finished and all(again[name] == kept[name] for name in finished)


@pytest.mark.parametrize(
    "option, words",
    [
        ("--config.jobs.train_ciphers=('wallnut:seed=1',)", ("wallnut", "walnut")),
        ("--config.jobs.test_families=('walnut:seed=9',)", ("test_families", "walnut")),
        ("--config.base_model=/no/such/folder", ("/no/such/folder", "no such model")),
        ("--config.jobs.benign_test=('fakts',)", ("fakts",)),
        ("--config.phase1.stebs=3", ("stebs", "steps")),
    ],
)
def test_a_fault_is_one_line_and_leaves_nothing(option, words, tmp_path):
    workdir = tmp_path / "out"
    process = start(workdir, option)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert len(err.strip().splitlines()) == 1 and "Traceback" not in err
    assert all(word in err for word in words), err
    left = [p.name for p in workdir.rglob("*") if p.is_file()] if workdir.exists() else []
    assert set(left) <= {".lock", "manifest.json"}
