"""BUILD lists what is there: the code by layer with what it imports, and every test.

BUILD is read as text: the part of Starlark that it uses is Python's syntax.
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cifr_jax"
TREE = ast.parse((ROOT / "BUILD").read_text(encoding="utf-8"))
# Where the name on the package index is not the name that is imported.
DISTRIBUTIONS = {
    "absl": "absl_py",
    "orbax": "orbax_checkpoint",
    "sklearn": "scikit_learn",
    "tensorboardX": "tensorboardx",
}


def constant(node: ast.expr):
    """The value of an attribute; a glob as its list of patterns."""
    if isinstance(node, ast.Call) and node.func.id == "glob":
        return constant(node.args[0])
    return ast.literal_eval(node)


def targets(rule: str) -> dict[str, dict]:
    """Attributes of the top-level targets of a rule, by name."""
    found = {}
    for statement in TREE.body:
        call = getattr(statement, "value", None)
        if isinstance(call, ast.Call) and call.func.id == rule:
            attributes = {k.arg: constant(k.value) for k in call.keywords}
            assert attributes["name"] not in found, f"two targets {attributes['name']}"
            found[attributes["name"]] = attributes
    return found


def layer(path: Path) -> str:
    """The library that a file of the package belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> set[str]:
    """Labels of what a file imports, its own library left out."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "cifr_jax":
            names |= {f"cifr_jax.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    labels = set()
    for top, *rest in (name.split(".") for name in names):
        if top == "cifr_jax":
            labels.add(f":{rest[0]}" if rest else ":package")
        elif top not in sys.stdlib_module_names:
            labels.add(f"@pypi//{DISTRIBUTIONS.get(top, top)}")
    return labels - {f":{layer(path)}"}


def code() -> dict[str, set[str]]:
    """What each library has to depend on, by its name."""
    needed: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        if path not in (PACKAGE / "__init__.py", PACKAGE / "main.py"):
            needed.setdefault(layer(path), {":package"}).update(imported(path))
    return needed


def test_every_layer_is_a_library_that_depends_on_what_it_imports():
    declared = targets("py_library")
    needed = code()
    assert set(declared) - {"cifr_jax", "package"} == set(needed)
    for name, labels in needed.items():
        folder = (PACKAGE / name).is_dir()
        sources = f"cifr_jax/{name}/**/*.py" if folder else f"cifr_jax/{name}.py"
        assert declared[name]["srcs"] == [sources]
        assert set(declared[name]["deps"]) == labels, f"py_library {name}: write {labels}"


def test_no_library_depends_on_itself_by_way_of_others():
    inside = {
        name: {label[1:] for label in attributes.get("deps", []) if label[0] == ":"}
        for name, attributes in targets("py_library").items()
    }
    while leaves := {name for name, needs in inside.items() if not needs & set(inside)}:
        inside = {name: needs for name, needs in inside.items() if name not in leaves}
    assert inside == {}


def test_the_binary_has_every_library():
    whole = targets("py_library")["cifr_jax"]
    assert {label for label in whole["deps"] if label[0] == ":"} == {
        f":{name}" for name in {"package", *code()}
    }
    assert {label for label in whole["deps"] if label[0] == "@"} == {
        label for label in imported(PACKAGE / "main.py") if label[0] == "@"
    }
    assert targets("py_binary") == {
        "main": {"name": "main", "srcs": ["cifr_jax/main.py"], "deps": [":cifr_jax"]}
    }


def test_every_test_has_a_target():
    (loop,) = (
        statement.value
        for statement in TREE.body
        if isinstance(getattr(statement, "value", None), ast.ListComp)
    )
    assert loop.elt.func.id == "py_test"
    listed = ast.literal_eval(loop.generators[0].iter)
    there = (ROOT / "tests").rglob("*_test.py")
    assert listed == sorted(str(path.relative_to(ROOT))[:-3] for path in there)


def test_every_package_is_locked_and_the_versions_agree():
    lock = (ROOT / "requirements_lock.txt").read_text(encoding="utf-8")
    locked = {name.replace("-", "_") for name in re.findall(r"^([\w-]+)==", lock, re.M)}
    used = re.findall(r'"@pypi//(\w+)"', (ROOT / "BUILD").read_text(encoding="utf-8"))
    assert used and set(used) <= locked
    init = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'__version__ = "(.+)"', init)[1]
    module = (ROOT / "MODULE.bazel").read_text(encoding="utf-8")
    assert f'name = "cifr_jax",\n    version = "{version}"' in module
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
