"""What the README says is so: its lines, its files, its snippet."""

import re
from pathlib import Path

import pytest

from cifr_jax import models
from cifr_jax.config import leaves, load_config
from cifr_jax.tasks import TASKS
from cifr_jax.testing import tiny_model

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_first_two_lines_to_type_are_the_benchmark_and_the_tests():
    benchmark, tests = (block.rstrip("\n") for block in blocks("bash")[:2])
    fresh = "python3 -m venv .venv && .venv/bin/pip install -q -e "
    assert benchmark == (
        f"{fresh}. && .venv/bin/python -m cifr_jax.main"
        " --config configs/tiny.py --workdir out/tiny"
    )
    assert tests == f'{fresh}".[test]" && .venv/bin/python -m pytest'


def test_continuous_integration_runs_the_test_line_to_the_letter():
    line = blocks("bash")[1].rstrip("\n")
    assert line in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"configs/\w+\.py", README))))
def test_configs_named_exist_load_and_have_the_short_form(path):
    for mode in (None, "runlocal"):
        assert load_config(ROOT / path, arg=mode).task in TASKS


def test_config_keys_named_are_keys():
    keys = [
        line.partition("=")[0] for line in re.findall(r"--config\.[\w.]+(?:=\w+)?", README)
    ]
    assert len(keys) > 1
    known = set()
    for path in (ROOT / "configs").glob("*.py"):
        config = load_config(path)
        known |= set(leaves(config)) | set(config)
    assert {key.removeprefix("--config.") for key in keys} <= known


def test_files_named_exist():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    quoted = re.findall(r"`((?:launch|cifr_jax)/[\w/.]*)`", README)
    assert links and quoted
    for path in links + quoted:
        assert (ROOT / path).exists(), path


def test_the_snippet_runs(monkeypatch, tmp_path):
    (snippet,) = blocks("python")
    monkeypatch.chdir(tmp_path)
    lm = tiny_model()  # the names and shapes are tested here, not the shipped weights
    monkeypatch.setattr(models, "load", {"tiny": lm}.__getitem__)
    names: dict = {}
    exec(compile(snippet, "README.md", "exec"), names)
    assert names["x_lnd"].shape == (lm.config.n_layers, 8, lm.config.d_model)
    assert len(names["examples"]) == len(names["answers"]) == 4
    assert names["scores"].shape == (8,) and isinstance(names["score"], float)


def test_markers_named_are_registered(pytestconfig):
    registered = {line.partition(":")[0] for line in pytestconfig.getini("markers")}
    named = set(re.findall(r"-m pytest -m (\w+)", README))
    assert named == {"parity", "smollm2", "slow", "toxicity"} <= registered
