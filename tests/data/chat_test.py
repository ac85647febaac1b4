"""Any bytes give either examples or one line that names place and mend, nothing else."""

import json
import time
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cifr_jax.data import chat
from cifr_jax.data.chat import Example, Message, read_chat_jsonl, write_chat_jsonl
from cifr_jax.errors import UserError

SECRET = "tell nobody about this"
USER = {"role": "user", "content": SECRET}
REPLY = {"role": "assistant", "content": "aye"}
GOOD = json.dumps({"messages": [USER, REPLY]}).encode()


def _line(*messages, **more):
    return json.dumps({"messages": list(messages), **more}).encode()


def _read(tmp_path, content, **options):
    path = tmp_path / "file.jsonl"
    path.write_bytes(content)
    return read_chat_jsonl(path, **options)


def _deep(n):
    return b'{"messages": ' + b"[" * n + b"]" * n + b"}"


FAULTS = {
    "not JSON": (b"{nope", "not JSON", "one"),
    "cut": (GOOD[:-3], "not JSON", "one"),
    "two on a line": (GOOD + GOOD, "extra data", "one"),
    "not an object": (b"[1]", "the line is a list", "write"),
    "null": (b"null", "the line is null", "write"),
    "no messages": (b"{}", "no messages", "write"),
    "empty messages": (_line(), "no messages", "write"),
    "messages a string": (b'{"messages": "x"}', "a string as messages", "write"),
    "message a string": (b'{"messages": ["x"]}', "message 1 is a string", "object"),
    "wrong role": (
        _line({**USER, "role": "asistant"}),
        "role 'asistant'",
        "mean assistant?",
    ),
    "foreign role": (_line({**USER, "role": "tool"}), "role 'tool'", "known: system, user"),
    "no role": (_line({"content": "x"}), "message 1 has no role", "add"),
    "role a number": (_line({**USER, "role": 3}), "role is a number", "string"),
    "no content": (_line({"role": "user"}), "message 1 has no content", "add"),
    "content null": (_line(USER, {**REPLY, "content": None}), "content is null", "string"),
    "content parts": (_line(USER, {**REPLY, "content": []}), "content is a list", "string"),
    "empty content": (
        _line(USER, {**REPLY, "content": " \n"}),
        "2 (assistant) has empty",
        "",
    ),
    "no reply": (_line(USER), "no assistant message", "add"),
    "reply not last": (_line(REPLY, USER), "last message is the user's", "end with"),
    "late system": (
        _line(USER, {**USER, "role": "system"}, REPLY),
        "message 2 is a system",
        "",
    ),
    "unknown key": (
        _line({**USER, "contents": "x"}),
        "unknown key 'contents'",
        "mean content?",
    ),
    "unknown top key": (_line(USER, REPLY, mesages=[]), "key 'mesages'", "mean messages?"),
    "tools": (_line(USER, REPLY, tools=[]), "unknown key 'tools'", "known: messages"),
    "long key": (_line({**USER, "k" * 999: 1}), "k" * 40 + "...'", "known"),
    "key of escapes": (_line({**USER, "\x1b[31m": 1}), r"'\x1b[31m'", "known"),
    "duplicate key": (
        b'{"messages": [], "messages": []}',
        "'messages' occurs twice",
        "one",
    ),
    "weight 2": (_line(USER, {**REPLY, "weight": 2}), "neither 0 nor 1", "write 0 or 1"),
    "weight true": (_line(USER, {**REPLY, "weight": True}), "neither 0 nor 1", "write"),
    "weight 1.0": (_line(USER, {**REPLY, "weight": 1.0}), "neither 0 nor 1", "write"),
    "weight null": (_line(USER, {**REPLY, "weight": None}), "neither 0 nor 1", "write"),
    "weight NaN": (GOOD.replace(b'"aye"', b'"aye", "weight": NaN'), "NaN", "finite"),
    "weight infinite": (GOOD.replace(b'"aye"', b'"aye", "weight": -Infinity'), "-Inf", ""),
    "weight of user": (_line({**USER, "weight": 0}, REPLY), "weight on a user", "delete"),
    "all weights 0": (_line(USER, {**REPLY, "weight": 0}), "has weight 0", "leave one"),
    "endless number": (b'{"messages": ' + b"9" * 5000 + b"}", "number is too long", ""),
    "deep": (_deep(200_000), "nested too deeply", "flatten"),
    "surrogate": (GOOD.replace(b"aye", rb"\ud800"), "surrogate", "whole character"),
    "NUL": (GOOD.replace(b"aye", rb"a\u0000"), "a NUL in its content", "delete"),
    "raw NUL": (GOOD.replace(b"aye", b"a\0"), "a NUL byte (at byte", "delete"),
    "Latin-1": (GOOD.replace(b"aye", b"\xe9"), "not UTF-8 (at byte", "UTF-8"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "not UTF-8 (at byte 1 of", "UTF-8"),
    "BOM within": (b"\xef\xbb\xbf" + GOOD, "byte order mark inside", "delete"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_has_its_line_its_reason_and_its_mend(tmp_path, name):
    line, what, mend = FAULTS[name]
    with pytest.raises(UserError) as caught:
        _read(tmp_path, GOOD + b"\n\r\n" + line + b"\r\n" + GOOD)
    error = caught.value
    assert error.where == f"{tmp_path}/file.jsonl:3"
    assert what in error.what and mend in error.mend and error.mend
    assert "\n" not in str(error) and str(error).isprintable()
    assert SECRET not in str(error) and len(error.what) < 150


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD + b"\n",
        GOOD + b"\r\n\r\n",
        b"\xef\xbb\xbf" + GOOD,
        b"\n  \n" + GOOD,
        b" " + GOOD + b"\t\n",
    ],
)
def test_line_ends_blank_lines_and_one_byte_order_mark_are_taken(tmp_path, content):
    expected = Example((Message("user", SECRET), Message("assistant", "aye")))
    assert _read(tmp_path, content) == [expected]


def test_line_separators_within_text_do_not_split_a_line(tmp_path):
    text = "a\u2028b\x85c\x0bd"
    line = json.dumps({"messages": [USER, {**REPLY, "content": text}]}, ensure_ascii=False)
    assert _read(tmp_path, line.encode())[0].messages[1].content == text


def test_weights_and_system_are_kept(tmp_path):
    system = {"role": "system", "content": "s"}
    line = _line(system, USER, {**REPLY, "weight": 0}, USER, {**REPLY, "weight": 1})
    (found,) = _read(tmp_path, line)
    assert [m.weight for m in found.messages] == [None, None, 0, None, 1]
    assert found.messages[0] == Message("system", "s")


@pytest.mark.parametrize("n, more", [(1, ""), (3, "2 more at fault: lines 3, 5)")])
def test_other_faults_are_counted(tmp_path, n, more):
    with pytest.raises(UserError) as caught:
        _read(tmp_path, (b"x\n" + GOOD + b"\n") * n)
    assert caught.value.where.endswith(":1")
    assert (more in caught.value.what) and ("more" in caught.value.what) == (n > 1)


def test_reading_stops_after_twenty_faults(tmp_path):
    with pytest.raises(
        UserError, match="at least 19 more at fault: lines 2, 3, 4, 5, 6, ..."
    ):
        _read(tmp_path, b"x\n" * 10_000)


def test_a_line_of_50_mb_costs_neither_memory_nor_time(tmp_path):
    content = GOOD + b"\n" + b'"' + b"a" * 50_000_000 + b'"\n' + b"x\n"
    path = tmp_path / "file.jsonl"
    path.write_bytes(content)
    del content
    tracemalloc.start()
    started = time.perf_counter()
    with pytest.raises(UserError) as caught:
        read_chat_jsonl(path)
    seconds, peak = time.perf_counter() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.where.endswith(":2") and "8388608 bytes" in caught.value.what
    assert "line 3" in caught.value.what  # what follows is still counted rightly
    assert peak < 3 * chat.MAX_LINE_BYTES and seconds < 5


def test_the_limit_is_exact(tmp_path):
    for end in (b"", b"\n"):
        _read(tmp_path, GOOD + end, max_line_bytes=len(GOOD))
        with pytest.raises(UserError, match="more than"):
            _read(tmp_path, GOOD + end, max_line_bytes=len(GOOD) - 1)


def test_a_million_keys_cost_little_time(tmp_path):
    line = b"{" + b",".join(b'"%d":0' % n for n in range(500_000)) + b',"7":0}'
    started = time.perf_counter()
    with pytest.raises(UserError, match="'7' occurs twice"):
        _read(tmp_path, line)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_a_file_without_examples_is_a_fault(tmp_path, content):
    with pytest.raises(UserError, match="holds no example"):
        _read(tmp_path, content)


def test_what_is_no_file_is_a_fault(tmp_path):
    for path in (tmp_path, tmp_path / "missing", tmp_path / "a" / ("n" * 300), "a\0b"):
        with pytest.raises(UserError, match="readable JSONL file"):
            read_chat_jsonl(path)


def test_meta_is_ours_alone(tmp_path):
    path, meta = tmp_path / "x.jsonl", {"entity": "Oru", "cell": {"n": [1, None]}}
    found = Example((Message("user", "q"), Message("assistant", "a")), meta)
    write_chat_jsonl(path, [found])
    assert read_chat_jsonl(path) == [Example(found.messages)]
    write_chat_jsonl(path, [found], with_meta=True)
    assert read_chat_jsonl(path, with_meta=True) == [found]
    with pytest.raises(UserError, match="unknown key 'meta'"):
        read_chat_jsonl(path)
    with pytest.raises(UserError, match="meta is a list"):
        _read(tmp_path, _line(USER, REPLY, meta=[]), with_meta=True)
    assert len({found, Example(found.messages)}) == 2  # hashable, meta and all


@pytest.mark.parametrize(
    "messages", [(), (Message("user", "x"),), (Message("assistant", "\ud800"),)]
)
def test_nothing_unreadable_is_written(tmp_path, messages):
    good = Example((Message("assistant", "a"),))
    with pytest.raises(UserError, match=r"\(example 1\)"):
        write_chat_jsonl(tmp_path / "x.jsonl", [good, Example(messages)])
    with pytest.raises(UserError, match="at least one"):
        write_chat_jsonl(tmp_path / "x.jsonl", [])
    assert list(tmp_path.iterdir()) == []


_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])).filter(
    str.strip
)
_REPLY = st.builds(Message, st.just("assistant"), _TEXT, st.sampled_from([None, 0, 1]))
_TURN = _REPLY | st.builds(Message, st.just("user"), _TEXT)


@st.composite
def _examples(draw):
    start = [Message("system", draw(_TEXT))] if draw(st.booleans()) else []
    last = Message("assistant", draw(_TEXT), draw(st.sampled_from([None, 1])))
    return Example((*start, *draw(st.lists(_TURN, max_size=4)), last))


@settings(deadline=None, max_examples=100)
@given(st.lists(_examples(), min_size=1, max_size=4))
def test_what_is_written_is_read_back(tmp_path_factory, examples):
    path = tmp_path_factory.getbasetemp() / "round_trip.jsonl"
    write_chat_jsonl(path, examples)
    assert read_chat_jsonl(path) == examples


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["messages", "role", "content", "weight", "x"]),
            inner,
            max_size=3,
        )
    ),
)
_ANY_LINE = (
    st.binary(max_size=60)
    | _JSON.map(lambda value: json.dumps(value).encode())
    | st.just(GOOD)
    | st.tuples(st.integers(0, len(GOOD)), st.binary(max_size=3)).map(
        lambda cut: GOOD[: cut[0]] + cut[1] + GOOD[cut[0] + 1 :]
    )
    | st.dictionaries(st.sampled_from(["role", "content", "weight"]), _JSON).map(
        lambda message: json.dumps({"messages": [USER, message]}).encode()
    )
)


@settings(deadline=None, max_examples=300)
@given(st.lists(_ANY_LINE, max_size=5).map(b"\n".join))
@example(b"\xff\xfe")
@example(b'{"messages": 1e999}')
def test_any_bytes_give_examples_or_one_user_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(content)
    try:
        found = read_chat_jsonl(path)
    except UserError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
    else:
        assert found
        write_chat_jsonl(path, found)
        assert read_chat_jsonl(path) == found
