"""Models of the hub: a cache made here, errors of the client, nothing secret told."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cifr_jax import models
from cifr_jax.errors import UserError
from cifr_jax.models import hub, loading
from cifr_jax.testing import save_model, tiny_model

huggingface_hub = pytest.importorskip("huggingface_hub")

COMMITS = {"main": "a" * 40, "v2": "b" * 40}
TOKEN = "hf_SecretSecretSecret"


class ProxyError(Exception):
    """As of the library that the client speaks through: no OSError, and none of its own."""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache as the client lays it out, with two revisions of one model."""
    repo = tmp_path / "hub" / "models--us--tiny"
    (repo / "refs").mkdir(parents=True)
    for seed, (revision, commit) in enumerate(COMMITS.items()):
        (repo / "refs" / revision).write_text(commit)
        save_model(repo / "snapshots" / commit, tiny_model(seed))
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)  # no folder of that name
    return repo


@pytest.mark.parametrize("revision, seed", [("", 0), ("@main", 0), ("@v2", 1)])
def test_a_cached_model_loads_offline_and_is_called_by_its_commit(cache, revision, seed):
    lm = models.load(f"us/tiny{revision}")
    assert lm.name == f"us/tiny@{list(COMMITS.values())[seed]}"
    assert lm.fingerprint() == tiny_model(seed).fingerprint()


def test_a_commit_pins(cache):
    shutil.rmtree(cache / "refs")
    lm = models.load("us/tiny@" + "b" * 40)
    assert lm.fingerprint() == tiny_model(1).fingerprint()
    with pytest.raises(UserError, match="not in the cache"):
        models.load("us/tiny")


@pytest.mark.parametrize("name", ["us/other", "us/tiny@v3", "us/tiny@" + "c" * 40])
def test_what_is_not_cached_is_said_in_one_line(cache, name):
    with pytest.raises(UserError, match=f"^{name}: not in the cache, and the hub"):
        models.load(name)


def test_a_folder_wins_over_the_hub(cache, tmp_path):
    save_model(tmp_path / "us" / "tiny", tiny_model(5))
    assert models.load("us/tiny").name == "tiny"


def test_pickles_are_refused_with_the_command_that_converts(cache):
    folder = cache / "snapshots" / COMMITS["main"]
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pickled ones .*from_pretrained\('us/tiny'\)"):
        models.load("us/tiny")


def test_only_weights_json_and_templates_are_asked_for(monkeypatch, tmp_path):
    """What the client would take of a repository, by its own filter."""
    asked = {}

    def stub(repo, **wanted):
        asked[repo] = wanted
        return str(tmp_path / ("d" * 40))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", stub)
    (tmp_path / ("d" * 40)).mkdir()
    (tmp_path / ("d" * 40) / "model.safetensors").touch()
    files = ["model.safetensors", "model.safetensors.index.json", "config.json", "x.bin",
             "tokenizer.json", "chat_template.jinja", "modeling_x.py", "x.pt", "x.gguf",
             "original/model.safetensors", "onnx/config.json", "x.h5", "x.msgpack",
             "README.md", "x.pickle"]  # fmt: skip
    taken = {}
    for weights in (True, False):
        assert hub.fetch("us/tiny@v2", weights)[1] == "us/tiny@" + "d" * 40
        wanted = asked.pop("us/tiny")
        assert wanted.pop("revision") == "v2"
        found = huggingface_hub.utils.filter_repo_objects(files, **wanted)
        taken[weights] = set(found)
    plain = {"model.safetensors.index.json", "config.json", "tokenizer.json",
             "chat_template.jinja"}  # fmt: skip
    assert taken == {True: plain | {"model.safetensors"}, False: plain}


def test_errors_of_the_client_are_told_without_what_they_say(monkeypatch, caplog):
    errors = huggingface_hub.errors
    kinds = {
        errors.GatedRepoError: "is gated; ask for access",
        errors.RepositoryNotFoundError: "no such repository on the hub",
        errors.RevisionNotFoundError: "no revision v2 in us/tiny",
        errors.LocalEntryNotFoundError: "not in the cache",
        errors.HfHubHTTPError: r"did not give it \(HfHubHTTPError\)",
        ConnectionError: r"did not give it \(ConnectionError\)",
        ValueError: r"did not give it \(ValueError\)",
        ProxyError: r"did not give it \(ProxyError\)",
        KeyError: r"did not give it \(KeyError\)",
    }
    for kind, what in kinds.items():
        error = kind.__new__(kind)
        error.args = (f"https://us:{TOKEN}@hub/\nand more",)

        def fail(*args, error=error, **kwargs):
            raise error

        monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
        with caplog.at_level(logging.DEBUG), pytest.raises(UserError, match=what) as caught:
            hub.fetch("us/tiny@v2")
        assert TOKEN not in str(caught.value) + caplog.text
        assert caught.value.__suppress_context__  # nor in a traceback


def test_an_interruption_is_none_of_the_hubs_errors(monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(huggingface_hub, "snapshot_download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hub.fetch("us/tiny")


def test_without_the_client_the_install_line_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install .*\[hub\]"):
        hub.fetch("us/tiny")


@pytest.mark.parametrize(
    "name",
    ["tinny", "/no/such", "../up/here", "a/b/c", "us/..", "us/tiny@", "us/tiny@../..",
     "us/ti ny", "us/tiny\n", "", "a/", "https://hub/us/tiny"],
)  # fmt: skip
def test_what_is_no_name_of_the_hub(name):
    assert not hub.is_name(name)
    with pytest.raises(UserError):
        loading.find(name or "nothing")


@pytest.mark.parametrize("name", ["us/tiny", "us/ti.ny-2_b", "a/b@v1.0", "a/b@refs/pr/3"])
def test_names_of_the_hub(name):
    assert hub.is_name(name)


def test_the_command_line_reads_the_cache(cache, tmp_path):
    root = Path(__file__).parents[2]
    environment = os.environ | {
        "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "HF_TOKEN": TOKEN,
        "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu",
    }  # fmt: skip
    command = [sys.executable, "-m", "cifr_jax.main", "--workdir=w",
               f"--config={root}/configs/finetune.py:runlocal", "--config.dry_run=True",
               "--config.base_model=us/tiny@v2"]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"base: us/tiny@{COMMITS['v2']}, " in done.stdout
    assert TOKEN not in done.stdout + done.stderr
