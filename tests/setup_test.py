"""setup.py declares what the code imports, no more and no less, and ships every file."""

import ast
import re
import runpy
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"cifr_jax", "benchmarks"}
# Where the name on the package index is not the name that is imported.
DISTRIBUTIONS = {
    "absl": "absl-py",
    "orbax": "orbax-checkpoint",
    "sklearn": "scikit-learn",
}
# Imported inside the function that needs them, and told by a UserError where missing.
# Distribution to its extra.
OPTIONAL = {
    "gguf": "gguf",
    "datasets": "hub",
    "huggingface-hub": "hub",
    "qwix": "qlora",
    "tensorboardX": "tb",
    "fastapi": "service",
    "uvicorn": "service",
    "onnx": "toxicity",
    "onnxruntime": "toxicity",
}


def imported(*patterns: str) -> set[str]:
    """Distributions that the files import: neither ours nor the standard library's."""
    found = set()
    for path in (path for pattern in patterns for path in ROOT.glob(pattern)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
    tops = {name.partition(".")[0] for name in found} - set(sys.stdlib_module_names)
    return {DISTRIBUTIONS.get(top, top).replace("_", "-") for top in tops - OURS}


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}


@pytest.fixture
def declared(monkeypatch) -> dict:
    """What setup.py passes to setup(), which need not be installed to be read."""
    calls = []
    fake = types.SimpleNamespace(setup=lambda **kw: calls.append(kw), find_packages=dict)
    monkeypatch.setitem(sys.modules, "setuptools", fake)
    runpy.run_path(str(ROOT / "setup.py"))
    (call,) = calls
    return call


def test_the_core_is_what_the_package_and_the_configs_import(declared):
    needed = imported("cifr_jax/**/*.py", "configs/*.py")
    assert names(declared["install_requires"]) == needed - OPTIONAL.keys()
    for extra in set(OPTIONAL.values()):
        own = {name for name, of in OPTIONAL.items() if of == extra}
        assert names(declared["extras_require"][extra]) == own


def test_the_test_extra_is_what_the_tests_import_beyond_the_core(declared):
    extras = declared["extras_require"]
    extra = imported("tests/**/*.py") - names(declared["install_requires"])
    opt_in = names(extras["parity"])
    # Loaded by name, or by what is imported, never imported here.
    plugins = {"pytest-xdist", "httpx2"}
    assert names(extras["test"]) == (extra - opt_in) | plugins | OPTIONAL.keys()
    assert opt_in <= extra


def test_every_bound_stands_beside_its_reason():
    bounds = [
        line
        for line in (ROOT / "setup.py").read_text(encoding="utf-8").splitlines()
        if re.search(r'"[\w-]+[<>=]=', line)
    ]
    assert len(bounds) > 15
    assert [line for line in bounds if not re.search(r"  # \S+ \S+", line)] == []


def test_every_folder_of_code_is_a_package_and_every_other_file_is_shipped(declared):
    data = declared["package_data"]
    shipped = {
        path
        for package, patterns in data.items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    for path in (ROOT / "cifr_jax").rglob("*"):
        if not path.is_file() or "__pycache__" in path.parts:
            continue
        if path.suffix == ".py":
            assert (path.parent / "__init__.py").is_file(), f"{path.parent}: no package"
        else:
            assert path in shipped, f"{path}: not in package_data of setup.py"
