"""Models of the hub, on a cache that the test itself lays out as the hub's library does."""

import os

import numpy as np
import pytest
from huggingface_hub import constants

from cifr_jax import models
from cifr_jax.errors import UserError
from cifr_jax.models import hub
from cifr_jax.models.hf_folder import save_hf_folder
from cifr_jax.testing import tiny_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_secretsecretsecret"


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A cache with one model at one commit, named main and v1: links into blobs."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    lm = tiny_model()
    made = tmp_path / "made"
    save_hf_folder(made, lm.config, lm.params, lm.tokenizer)
    (made / "modeling_own.py").write_text("raise SystemExit('code was run')")
    home = cache / "models--someone--small"
    snapshot = home / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (home / "blobs").mkdir()
    (home / "refs").mkdir()
    entries = {}
    for number, file in enumerate(sorted(made.iterdir())):
        blob = home / "blobs" / f"{number:040x}"
        file.rename(blob)
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
        entries[file.name] = blob
    for ref in ("main", "v1"):
        (home / "refs" / ref).write_text(COMMIT)
    return home, lm


def test_a_cached_model_loads_offline_under_its_commit(cached):
    lm = models.load("someone/small")
    assert lm.name == f"someone/small@{COMMIT}"
    tokens_bt = np.array([[3, 4, 5]])
    np.testing.assert_array_equal(lm.logits(tokens_bt), cached[1].logits(tokens_bt))


@pytest.mark.parametrize("revision", ["main", "v1", COMMIT])
def test_a_revision_is_pinned(cached, revision, caplog):
    folder, name = hub.fetch(f"someone/small@{revision}")
    assert folder == cached[0] / "snapshots" / COMMIT and name.endswith(COMMIT)


def test_a_name_that_moves_is_told(cached, caplog):
    with caplog.at_level("INFO", logger="absl"):
        hub.fetch("someone/small")
        assert COMMIT in caplog.text
        caplog.clear()
        hub.fetch(f"someone/small@{COMMIT}")
        assert not caplog.text


@pytest.mark.parametrize("asked", ["someone/other", "someone/small@v2"])
def test_what_is_not_cached_is_told_offline(cached, asked, caplog):
    with pytest.raises(UserError, match="the hub did not give it") as caught:
        models.load(asked)
    assert TOKEN not in str(caught.value) and TOKEN not in caplog.text


def test_a_folder_wins_over_the_hub(cached, tmp_path, monkeypatch):
    lm = cached[1]
    save_hf_folder(tmp_path / "someone" / "small", lm.config, lm.params, lm.tokenizer)
    monkeypatch.chdir(tmp_path)
    assert models.load("someone/small").name == "small"


@pytest.mark.parametrize(
    "text",
    ["../cache/x", "a/b/c", "someone/small@../../refs/main", "someone/small@", "someone/..",
     "/etc/passwd", "some one/small", "someone/small\n", "small"],
)  # fmt: skip
def test_what_is_no_name_never_reaches_the_hub(cached, text, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    assert not hub.is_hub_id(text)
    with pytest.raises(UserError):
        models.load(text)


def test_only_weights_and_words_are_asked_for(cached, monkeypatch):
    asked = {}

    def download(name, **options):
        asked.update(options, name=name)
        return str(cached[0] / "snapshots" / COMMIT)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    hub.fetch("someone/small@v1")
    assert (asked["name"], asked["revision"]) == ("someone/small", "v1")
    assert not any(p.endswith((".py", ".bin", ".pt")) for p in asked["allow_patterns"])
    assert {"*.py", "*.bin", "*.pt", "*.pkl"} <= set(asked["ignore_patterns"])
    assert "token" not in asked


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("GatedRepoError", "is gated"),
        ("RevisionNotFoundError", "has no revision"),
        ("RepositoryNotFoundError", "no model on the hub"),
        ("HfHubHTTPError", "did not give it"),
    ],
)
def test_refusals_of_the_hub_are_told_without_its_headers(
    cached, monkeypatch, fault, words
):
    from huggingface_hub import errors

    kind = getattr(errors, fault)

    def download(name, **options):
        raise kind.__new__(kind, f"401: authorization: Bearer {TOKEN}")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(UserError, match=words) as caught:
        hub.fetch("someone/small@v9")
    assert TOKEN not in str(caught.value)


def test_a_checkpoint_of_pickles_is_refused_by_its_folder(cached):
    snapshot = cached[0] / "snapshots" / COMMIT
    (snapshot / "model.safetensors").unlink()
    (snapshot / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match="pickle|safetensors"):
        models.load("someone/small")


def test_the_same_weights_are_the_same_base_wherever_they_came_from(cached):
    assert models.load("someone/small").fingerprint() == cached[1].fingerprint()
