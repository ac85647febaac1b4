"""Text files of model folders: no pipe is waited for, and nothing of any size is read."""

import os
import tracemalloc

import pytest

from cifr_jax.errors import UserError
from cifr_jax.models.json_file import read_json
from cifr_jax.models.text_file import MOST_BYTES, read_text


def test_a_text_comes_as_in_pythons_text_mode(tmp_path):
    path = tmp_path / "a.jinja"
    path.write_bytes("é\r\nb\rc\n".encode())
    assert read_text(path) == path.read_text(encoding="utf-8") == "é\nb\nc\n"


def test_a_file_as_large_as_allowed_is_read_and_a_larger_one_is_not(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("a" * 100)
    assert read_text(path, 100) == "a" * 100
    with pytest.raises(UserError, match=r"a.json: 100 bytes, more than the 99 of any"):
        read_text(path, 99)


def test_a_file_that_claims_to_be_huge_takes_no_memory(tmp_path):
    path = tmp_path / "config.json"
    with open(path, "wb") as file:
        file.truncate(2**40)  # sparse
    tracemalloc.start()
    with pytest.raises(UserError, match=f"more than the {MOST_BYTES:,} of any"):
        read_json(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


@pytest.mark.parametrize("missing_ok", [True, False])
def test_a_pipe_is_not_waited_for(tmp_path, missing_ok):
    path = tmp_path / "config.json"
    os.mkfifo(path)
    held = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # to open it does not wait, if it did
    try:
        with pytest.raises(UserError, match="config.json: cannot be read .no plain file"):
            read_json(path, missing_ok)
    finally:
        os.close(held)


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot be read .no plain file"):
        read_text(tmp_path)
    with pytest.raises(UserError, match="cannot be read .File name too long"):
        read_text(tmp_path / ("a" * 300))
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "none")


def test_a_nul_in_the_path_is_told():
    with pytest.raises(UserError, match="null byte"):
        read_text("a\0b")
