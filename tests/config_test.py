"""Overrides parse as ml_collections parses them; every mistake is one line with a mend."""

import pytest
from absl import flags
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict, config_dict, config_flags

from cifr_jax.config import (
    check_numbers,
    did_you_mean,
    leaves,
    load_config,
    validate_leaves,
)
from cifr_jax.errors import UserError

CONFIG = """
from ml_collections import ConfigDict, config_dict

def get_config(size="small"):
    return ConfigDict({
        "task": "benchmark_tiny", "steps": 100, "rate": 1e-3, "fast": True,
        "ciphers": ("walnut", "ascii"), "layers": (1, 2), "rates": (0.1, 0.2), "none": (),
        "limit": config_dict.placeholder(int), "size": size,
        "train": {"lr": 2e-4, "rank": 8, "deep": {"er": 1}},
    })
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "c.py").write_text(CONFIG)
    return tmp_path / "c.py"


GOOD = [
    ["steps=7"],
    ["steps=-7", "steps=8"],
    ["rate=1e-2", "train.lr=3"],
    ["fast=false"],
    ["fast"],
    ["task=a: b=c"],
    ["task="],
    ["layers=3,4,5"],
    ["layers=(7,)"],
    ["layers=7"],
    ["ciphers=('x','y')"],
    ["ciphers=x", "ciphers=y"],
    ["rates=1,2.5"],
    ["none=1,'a'"],
    ["limit=3"],
    ["train.deep.er=2"],
]


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
@pytest.mark.parametrize("overrides", GOOD, ids=" ".join)
def test_overrides_are_parsed_as_the_flags_of_ml_collections_are(path, overrides):
    argv = ["test", f"--config={path}", *(f"--config.{item}" for item in overrides)]
    theirs = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=theirs, sys_argv=argv)
    theirs(argv)
    ours = load_config(path, overrides)
    assert leaves(ours) == leaves(theirs["config"].value)
    assert {k: type(v) for k, v in leaves(ours).items()} == {
        k: type(v) for k, v in leaves(theirs["config"].value).items()
    }
    assert leaves(ours) != leaves(load_config(path)) or overrides == ["fast"]


FAULTS = {
    "tran.lr=1": ("command line", "unknown config key tran.lr", "mean train.lr?"),
    "lr=1": ("command line", "unknown config key lr", "mean train.lr?"),
    "stepz=1": ("command line", "unknown config key stepz", "mean steps?"),
    "train.ranc=1": ("command line", "unknown config key train.ranc", "mean train.rank?"),
    "optimizer.rank=1": ("command line", "key optimizer.rank", "mean train.rank?"),
    "zzz=1": ("command line", "unknown config key zzz", "known: "),
    "keys=1": ("command line", "unknown config key keys", ""),
    "layers[0]=1": ("command line", "unknown config key layers[0]", "mean layers?"),
    "=1": ("command line", "unknown config key ", "known"),
    "train={'lr': 1}": ("command line", "config key train is a group", "train.lr"),
    "steps=abc": ("--config.steps", "'abc' is not a whole number", "has 100"),
    "steps=1e3": ("--config.steps", "'1e3' is not a whole number", "1000, not 1e3"),
    "train.lr=x: y": ("--config.train.lr", "is not a number", "has 0.0002"),
    "fast=maybe": ("--config.fast", "'maybe' is not true or false", "has True"),
    "limit=x": ("--config.limit", "'x' is not a whole number", "write"),
    "rate=nan": ("command line", "key rate is nan", "finite"),
    "steps": ("command line", "Missing value for flag --config.steps", "help"),
    "layers=a,b": ("--config.layers", "does not look like (1, 2)", "same type"),
    "layers=1.5,2": ("--config.layers", "does not look like (1, 2)", "same type"),
    "layers=[[1]]": ("command line", "key layers is a list", "tuple"),
    "ciphers=1": ("--config.ciphers", "does not look like", "same type"),
}


@pytest.mark.parametrize("override", FAULTS)
def test_a_wrong_override_is_one_line_with_its_mend(path, override):
    where, what, mend = FAULTS[override]
    with pytest.raises(UserError) as caught:
        load_config(path, [override])
    error = caught.value
    assert error.where == where and what in error.what and mend in error.mend, str(error)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text(max_size=12) | st.sampled_from(list(FAULTS)), max_size=3))
def test_any_override_gives_a_config_or_a_user_error(tmp_path_factory, overrides):
    path = tmp_path_factory.getbasetemp() / "c.py"
    path.write_text(CONFIG)
    try:
        load_config(path, overrides)
    except UserError as error:
        assert "\n" not in str(error)


FILES = {
    "def get_config(:\n": (":1", "SyntaxError: "),
    "\n\nimport not_a_package\n": (":3", "ModuleNotFoundError: No module"),
    "def get_config():\n  x = 1\n  return {}['key']\n": (":3", "KeyError: 'key'"),
    "def g():\n  raise ValueError('a\\nb')\ndef get_config():\n  g()\n": (":2", "Error: a"),
    "def get_config():\n  raise IOError('gone')\n": (":2", "OSError: gone"),
    "raise SystemExit(3)\n": (":1", "SystemExit: 3"),
    "def get_config():\n  return get_config()\n": (":2", "RecursionError: "),
    "x = 1\n": ("", "defines no get_config()"),
    "get_config = 3\n": ("", "defines no get_config()"),
    "def get_config(): pass\n": ("", "get_config() returned NoneType"),
    "def get_config(): return {'a': 1}\n": ("", "get_config() returned dict"),
    "def get_config(a): return a\n": ("", "get_config needs an argument"),
    "x = '\0'\n": ("", "null bytes"),
    "x = '\xff'\n": ("", "SyntaxError"),
}
_HEAD = "from ml_collections import ConfigDict as C, config_dict as d\n"
LEAVES = {
    "None": "key a.b is None",
    "[1]": "key a.b is a list",
    "(1, [2])": "key a.b is a list",
    "object": "key a.b is of type type",
    "lambda: 1": "key a.b is of type function",
    "float('inf')": "key a.b is inf",
    "d.required_placeholder(int)": "has no value",
}


@pytest.mark.parametrize("source", FILES)
def test_a_broken_config_file_is_told_with_its_line(tmp_path, source):
    path = tmp_path / "c.py"
    path.write_bytes(source.encode("latin-1"))
    line, what = FILES[source]
    with pytest.raises(UserError) as caught:
        load_config(path)
    # Where in the file a stray byte stands, Python's versions tell differently.
    assert caught.value.where == f"{path}{line}" or (what == "SyntaxError" and not line)
    assert caught.value.where.startswith(str(path)) and what in caught.value.what


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_leaf_that_no_flag_can_override_is_refused(tmp_path, leaf):
    path = tmp_path / "c.py"
    path.write_text(_HEAD + f"def get_config(): return C({{'a': {{'b': {leaf}}}}})\n")
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert LEAVES[leaf] in str(caught.value) and caught.value.mend


def test_a_path_that_is_no_file_is_the_users_fault(tmp_path):
    for path in (tmp_path, tmp_path / "no.py", "a\0b", ""):
        with pytest.raises(UserError):
            load_config(path)


def test_the_argument_is_passed_on_and_checked(path, tmp_path):
    assert load_config(path, arg="large:r").size == "large:r"
    assert load_config(f"{path}:large").size == "large"
    (tmp_path / "plain.py").write_text(
        CONFIG.replace('size="small"', "").replace("size,", "0,")
    )
    with pytest.raises(UserError, match="takes no argument, but was given 'x'"):
        load_config(tmp_path / "plain.py", arg="x")


def test_an_edit_within_the_same_second_is_seen(path):
    assert load_config(path).steps == 100
    path.write_text(CONFIG.replace("100", "200"))
    assert load_config(path).steps == 200
    assert [p.name for p in path.parent.iterdir()] == ["c.py"]  # no bytecode beside it


def test_the_config_is_locked(path):
    with pytest.raises(AttributeError):
        load_config(path).stepz = 1


def test_leaves_are_flat_sorted_and_chosen_by_whole_names():
    config = ConfigDict({"b": {"y": 1, "x": (2,)}, "a": 3, "bb": 4})
    assert list(leaves(config).items()) == [("a", 3), ("b.x", (2,)), ("b.y", 1), ("bb", 4)]
    assert leaves(config, ["b"]) == {"b.x": (2,), "b.y": 1}
    assert leaves(config, ["b.y", "a"]) == {"a": 3, "b.y": 1}


def test_placeholders_may_be_absent_and_nothing_else():
    validate_leaves(ConfigDict({"a": config_dict.placeholder(int), "b": {"c": (1, "x")}}))
    with pytest.raises(UserError, match="myfile: key b.c is None"):
        validate_leaves(ConfigDict({"b": {"c": None}}), "myfile")


def test_a_negative_seed_is_refused():
    with pytest.raises(UserError, match="myfile: key world.seed is -1; write 0 or more"):
        validate_leaves(ConfigDict({"world": {"seed": -1}}), "myfile")


def test_numbers_below_their_least_are_refused_by_key():
    config = ConfigDict({"a": {"n": 1, "sizes": (3, 0)}})
    check_numbers(config, {"a.n": 1, "a.sizes": 0})
    with pytest.raises(UserError, match=r"^config.a.n: 1; give 2 or more$"):
        check_numbers(config, {"a.n": 2})
    with pytest.raises(UserError, match=r"^config.a.sizes: 0; give 1 or more$"):
        check_numbers(config, {"a.sizes": 1})


def test_did_you_mean_prefers_the_same_last_name():
    config = ConfigDict({"train": {"lr": 1}, "probe": {"lr": 1, "folds": 3}, "steps": 1})
    assert did_you_mean(config, "trian.lr") == "train.lr"
    assert did_you_mean(config, "prob.lr") == "probe.lr"
    assert did_you_mean(config, "fold") == "probe.folds"
    assert did_you_mean(config, "qqq") is None
