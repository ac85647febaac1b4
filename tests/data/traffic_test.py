"""Traffic line by line: what is read, what is named, and where reading goes on."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.data.traffic import BadLineError, Position, batches, parse
from cifr_jax.errors import UserError


def line(account="a", reply="Yes.", request="Is it?", **more):
    messages = [
        {"role": "user", "content": request},
        {"role": "assistant", "content": reply},
    ]
    return json.dumps({"messages": messages, "metadata": {"account": account} | more})


def read(path, start=None, **how):
    found = list(batches(path, start or Position(), **how))
    return [one for batch in found for one in batch.lines], found[-1]


def test_a_chat_in_any_of_the_usual_forms_is_read():
    chat = parse(line("a-1", cluster="c", model="x").encode())
    assert (chat.request, chat.reply) == ("Is it?", "Yes.")
    assert (chat.account, chat.cluster) == ("a-1", "c")
    parts = [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {}}]
    record = {
        "model": "m",
        "messages": [
            {"role": "developer", "content": "Be short."},
            {"role": "user", "content": parts},
            {"role": "assistant", "content": "One", "refusal": None},
            {"role": "tool", "content": "42"},
            {"role": "assistant", "content": None, "tool_calls": []},
            {"role": "assistant", "content": "Two"},
        ],
        "meta": {"customer": 7},
    }
    chat = parse(json.dumps(record).encode(), "customer")
    assert (chat.account, chat.cluster, chat.reply) == ("7", None, "Two")
    assert chat.request.split("\n\n")[0] == "Be short." and "Look" in chat.request


FAULTS = {
    "not UTF-8": b"\xff\xfe",
    "not JSON": b"{secret",
    "nested": b"[" * 100_000,
    "no object": b"[1]",
    "no list of messages": b'{"messages": "secret"}',
    "without a known role": b'{"messages": [{"role": "secret", "content": "x"}]}',
    "content is no text": b'{"messages": [{"role": "user", "content": 3}]}',
    "no assistant message": b'{"messages": [{"role": "user", "content": "secret"}]}',
    "no account": b'{"messages": [{"role": "assistant", "content": "secret"}]}',
    "name is no text": line(account=["secret"]).encode(),
    "more than 200": line(account="s" * 201).encode(),
    "half a character": line(account="\ud800").encode(),
}


@pytest.mark.parametrize("words", FAULTS)
def test_a_fault_is_told_without_the_text(words):
    with pytest.raises(BadLineError, match=words) as told:
        parse(FAULTS[words])
    assert "secret" not in str(told.value)


@settings(max_examples=60)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_told(content):
    try:
        parse(content)
    except BadLineError as fault:
        assert str(fault)


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["row", "", "long"]), max_size=12), st.integers(1, 5))
def test_lines_keep_their_numbers_whatever_the_batches(tmp_path_factory, kinds, most):
    path = tmp_path_factory.mktemp("t") / "t.jsonl"
    of = {"row": "x" * 10, "": "", "long": "y" * 5000}
    path.write_text("".join(of[kind] + "\n" for kind in kinds))
    found, last = read(path, most=most, max_line_bytes=100)
    wanted = [(i, kind) for i, kind in enumerate(kinds, 1) if kind]
    assert [number for number, _ in found] == [number for number, _ in wanted]
    assert [content is None for _, content in found] == [k == "long" for _, k in wanted]
    assert last.position.line == len(kinds) and last.position.offset == path.stat().st_size


def test_a_line_without_an_end_waits_and_is_read_whole_later(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\xef\xbb\xbfone\ntw")
    found, last = read(path)
    assert found == [(1, b"one")] and last.unended
    with path.open("ab") as file:
        file.write(b"o\nthree\n")
    found, again = read(path, last.position)
    assert found == [(2, b"two"), (3, b"three")] and not again.unended
    assert read(path, again.position)[0] == []


@pytest.mark.parametrize("change", ["shorter", "other start", "other end"])
def test_another_file_is_refused(tmp_path, change):
    path = tmp_path / "t.jsonl"
    path.write_text("".join(f"row {i}\n" for i in range(20_000)))
    _, last = read(path)
    text = path.read_text()
    changed = {
        "shorter": text[:-9],
        "other start": "X" + text[1:] + "more\n",
        "other end": text[:-2] + "X\nmore\n",
    }
    path.write_text(changed[change])
    with pytest.raises(UserError, match="not the file that was read before"):
        read(path, last.position)


def test_no_file_is_the_users_fault(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(UserError):
        read("a\0b")
