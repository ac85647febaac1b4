"""The store never recomputes, never trusts damage, never leaves anything half-made."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.errors import UserError
from cifr_jax.workdir import DONE, Workdir

_LEAVES = st.dictionaries(
    st.text(max_size=5),
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(-9, 9),
    max_size=4,
)
KEY = Workdir.key("data", {"seed": 1}, [], "1")


def _writes(content, calls):
    def make(folder):
        calls.append(folder)
        (folder / "deep").mkdir()
        (folder / "deep" / "a.txt").write_text(content)
        (folder / "b.bin").write_bytes(b"\0" * 100)

    return make


def _open(path):
    return Workdir(path, device="test")


def _leftovers(path):
    return [str(p) for p in path.rglob(".tmp-*")]


def test_key_is_a_known_value():
    # sha256 of ["data",{"seed":1},[],"1"], computed with sha256sum.
    assert KEY == "d11155a3d3cc102e982406104ef5dbf3ffce795ec756ee8e9b053be421f5bb30"


@settings(deadline=None, max_examples=100)
@given(_LEAVES, st.lists(st.text(max_size=3), max_size=3))
def test_key_ignores_order_and_sees_every_other_change(leaves, inputs):
    key = Workdir.key("s", leaves, inputs, "1")
    assert key == Workdir.key("s", dict(reversed(leaves.items())), tuple(inputs), "1")
    others = [
        Workdir.key("t", leaves, inputs, "1"),
        Workdir.key("s", leaves | {"another": 0}, inputs, "1"),
        Workdir.key("s", leaves, [*inputs, ""], "1"),
        Workdir.key("s", leaves, inputs, "2"),
    ]
    assert len({key, *others}) == 5


def test_key_refuses_what_has_no_one_spelling():
    with pytest.raises(ValueError):
        Workdir.key("s", {"lr": float("nan")}, [], "1")
    with pytest.raises(TypeError):
        Workdir.key("s", {"f": object()}, [], "1")


def test_finished_is_never_recomputed_and_the_record_is_complete(tmp_path):
    calls = []
    for _ in range(2):  # two runs
        with _open(tmp_path) as store:
            for _ in range(2):
                folder = store.get_or_make(
                    "data", KEY, _writes("x", calls), config_leaves={"seed": 1}, seed=1
                )
    assert len(calls) == 1
    assert (folder / "deep" / "a.txt").read_text() == "x"
    record = json.loads((folder / DONE).read_text())
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest == {"schema": 1, "artefacts": {folder.name: record}}
    assert (record["key"], record["config"], record["seed"]) == (KEY, {"seed": 1}, 1)
    assert record["device"] == "test" and "numpy" in record["packages"]
    assert set(record["files"]) == {"deep/a.txt", "b.bin"}
    assert _leftovers(tmp_path) == []


@pytest.mark.parametrize("damage", ["bit", "cut", "gone", "done", "key", "shape"])
def test_damage_is_seen_and_mended(tmp_path, damage, caplog):
    calls = []
    with _open(tmp_path) as store:
        folder = store.get_or_make("data", KEY, _writes("xyz", calls))
    victim, done = folder / "deep" / "a.txt", folder / DONE
    if damage == "bit":
        victim.write_text("xyy")
    elif damage == "cut":
        victim.write_text("xy")
    elif damage == "gone":
        victim.unlink()
    elif damage == "done":
        done.write_text(done.read_text()[:40])
    elif damage == "key":
        done.write_text(done.read_text().replace(KEY, "0" * 64))
    else:
        done.write_text("[]")
    with _open(tmp_path) as store, caplog.at_level("WARNING"):
        store.get_or_make("data", KEY, _writes("xyz", calls))
        store.get_or_make("data", KEY, _writes("xyz", calls))
    assert len(calls) == 2 and victim.read_text() == "xyz"
    assert "made again" in caplog.text
    assert _leftovers(tmp_path) == []


@pytest.mark.parametrize("fault", [RuntimeError("ours"), KeyboardInterrupt()])
def test_a_failed_stage_leaves_nothing(tmp_path, fault):
    def make(folder):
        (folder / "half").write_text("x")
        raise fault

    with _open(tmp_path) as store, pytest.raises(type(fault)):
        store.get_or_make("data", KEY, make)
    assert list((tmp_path / "artefacts").iterdir()) == []


def test_a_link_cannot_be_an_artefact(tmp_path):
    with _open(tmp_path / "w") as store, pytest.raises(ValueError, match="links"):
        store.get_or_make("data", KEY, lambda f: (f / "l").symlink_to("/etc/hostname"))
    assert list((tmp_path / "w" / "artefacts").iterdir()) == []


def test_a_full_disk_is_one_line_and_keeps_what_is_finished(tmp_path):
    def make(folder):
        (folder / "half").write_text("x")
        raise OSError(errno.ENOSPC, "No space left on device")

    with _open(tmp_path) as store:
        kept = store.get_or_make("data", KEY, _writes("x", []))
        with pytest.raises(UserError, match="no space left on device; free some space"):
            store.get_or_make("train", KEY, make)
    assert list((tmp_path / "artefacts").iterdir()) == [kept]


def test_an_os_error_of_ours_is_not_blamed_on_the_user(tmp_path):
    with _open(tmp_path) as store, pytest.raises(FileNotFoundError):
        store.get_or_make("data", KEY, lambda folder: open(folder / "no such"))


def test_a_stage_name_cannot_leave_the_folder(tmp_path):
    with _open(tmp_path) as store:
        for name in ("../x", "a/b", "", ".hidden", "x\n"):
            with pytest.raises(ValueError):
                store.get_or_make(name, KEY, _writes("x", []))


def test_a_path_that_cannot_be_a_workdir_is_the_users_fault(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError) as caught:
            _open(path)
        assert caught.value.where == str(path)

    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)  # root may write everywhere, so inject it
    with pytest.raises(UserError, match="permission denied; give a folder"):
        _open(tmp_path / "w")


def test_one_owner_at_a_time(tmp_path):
    with _open(tmp_path):
        with pytest.raises(UserError, match=f"process {os.getpid()}"):
            _open(tmp_path)
    _open(tmp_path).close()


def test_a_manifest_that_was_lost_is_rebuilt(tmp_path):
    with _open(tmp_path) as store:
        store.get_or_make("data", KEY, _writes("x", []))
    before = (tmp_path / "manifest.json").read_bytes()
    (tmp_path / "manifest.json").write_text("{")
    _open(tmp_path).close()
    assert (tmp_path / "manifest.json").read_bytes() == before


_RUN = textwrap.dedent("""
    import sys, time
    from cifr_jax.workdir import Workdir
    assert "jax" not in sys.modules
    def make(folder):
        (folder / "half").write_text("x")
        if sys.argv[2] == "hang":
            (folder.parent.parent / "inside").write_text("x")
            time.sleep(60)
    with Workdir(sys.argv[1]) as store:
        store.get_or_make("first", "a" * 64, lambda folder: None)
        store.get_or_make("second", "b" * 64, make)
""")


def test_killed_in_the_middle_of_a_stage_it_goes_on(tmp_path):
    command = [sys.executable, "-c", _RUN, str(tmp_path)]
    killed = subprocess.Popen([*command, "hang"])
    try:
        for _ in range(600):
            if (tmp_path / "inside").exists():
                break
            time.sleep(0.05)
        with pytest.raises(UserError, match=f"process {killed.pid}"):
            _open(tmp_path)
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    artefacts = tmp_path / "artefacts"
    first = artefacts / ("first-" + "a" * 16)
    made_at = (first / DONE).stat().st_mtime_ns
    assert len(_leftovers(tmp_path)) == 1  # the kill left it; the next start sweeps it
    subprocess.run([*command, "work"], check=True, timeout=60)
    assert {p.name for p in artefacts.iterdir()} == {first.name, "second-" + "b" * 16}
    assert (first / DONE).stat().st_mtime_ns == made_at
