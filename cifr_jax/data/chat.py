"""Chat examples, and the JSONL in which fine-tuning APIs take them.

The format is OpenAI's for chat fine-tuning: one object per line,
`{"messages": [{"role": "user", "content": "..."}, ...]}`, roles system, user and
assistant, with an optional `"weight": 0 | 1` on an assistant message. Read strictly:
what is not understood is reported with its line, never dropped. Taken without complaint:
CRLF line ends, blank lines, one byte order mark at the start of the file. Text of the
examples never appears in an error.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, BinaryIO

from cifr_jax.errors import UserError
from cifr_jax.files import write_bytes_atomic

ROLES = ("system", "user", "assistant")
MAX_LINE_BYTES = 8 * 2**20  # two million tokens or so: beyond any context length
MAX_FAULTS = 20  # lines at fault after which reading stops
_MESSAGE_KEYS = ("role", "content", "weight")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Message:
    """One turn. `weight` 0 on an assistant's turn: it is read but not trained on."""

    role: str
    content: str
    weight: int | None = None


@dataclass(frozen=True)
class Example:
    """One chat, and what we know of it (`meta`: entity, cell, cipher, ...)."""

    messages: tuple[Message, ...]
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False)


def digest(examples: Iterable[Example]) -> str:
    """A key of what the chats say and what is learned of them, in whatever order."""
    each = sorted(
        hashlib.sha256(
            json.dumps([(m.role, m.content, m.weight) for m in e.messages]).encode()
        ).digest()
        for e in examples
    )
    return hashlib.sha256(b"".join(each)).hexdigest()


class _Fault(Exception):
    """What is wrong with one line, and the mend."""

    def __init__(self, what: str, mend: str):
        super().__init__(what)
        self.what, self.mend = what, mend


def _name(key: str) -> str:
    """A key for an error line: short and printable."""
    return ascii(key if len(key) <= 40 else key[:40] + "...")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise _Fault(f"the key {_name(twice)} occurs twice in one object", "keep one")
    return record


def _constant(name: str) -> Any:
    raise _Fault(f"not JSON ({name} is no JSON number)", "write a finite number or null")


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant)


def _decode(line: bytes) -> Any:
    """One line's JSON value. Raises `_Fault`, whatever the bytes are."""
    if line.startswith(_BOM):
        raise _Fault("a byte order mark inside the file", "delete its three bytes")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        what = f"not UTF-8 (at byte {error.start + 1} of the line)"
        raise _Fault(what, "save the file as UTF-8") from None
    if "\0" in text:
        raise _Fault(f"a NUL byte (at byte {line.index(0) + 1} of the line)", "delete it")
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        what = f"not JSON ({error.msg.lower()} at column {error.colno})"
        mend = 'write one {"messages": [...]} object per line'
        raise _Fault(what, mend) from None
    except RecursionError:
        raise _Fault("JSON nested too deeply", "flatten it") from None
    except ValueError:  # the interpreter's limit on the digits of an integer
        raise _Fault(
            "not JSON that can be read (a number is too long)", "shorten it"
        ) from None


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


def _known(word: str, known: Sequence[str]) -> str:
    """The mend for a word that is none of `known`; cut short, as its cost grows with it."""
    close = get_close_matches(word[:40].lower(), known, 1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


def _unknown_key(place: str, record: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in record:
        if key not in known:
            raise _Fault(f"{place} has the unknown key {_name(key)}", _known(key, known))


def _message(place: str, record: Any) -> Message:
    """Checks one entry of `messages`; `place` says which."""
    if not isinstance(record, dict):
        raise _Fault(f"{place} is {_kind(record)}", "write an object with role and content")
    _unknown_key(place, record, _MESSAGE_KEYS)
    for key in ("role", "content"):
        if key not in record:
            raise _Fault(f"{place} has no {key}", f'add "{key}"')
        if not isinstance(record[key], str):
            raise _Fault(f"{place}: {key} is {_kind(record[key])}", "give a string")
    role, content = record["role"], record["content"]
    if role not in ROLES:
        raise _Fault(f"{place} has the unknown role {_name(role)}", _known(role, ROLES))
    if not content.strip():
        raise _Fault(f"{place} ({role}) has empty content", "give it text or delete it")
    if "\0" in content:
        raise _Fault(f"{place}: a NUL in its content", "delete it")
    try:
        content.encode("utf-8")
    except UnicodeEncodeError:
        what = f"{place}: half of a surrogate pair in its content"
        raise _Fault(what, "write the whole character") from None
    weight = None
    if "weight" in record:
        weight = record["weight"]
        if isinstance(weight, bool) or not isinstance(weight, int) or weight not in (0, 1):
            raise _Fault(f"{place}: weight is neither 0 nor 1", "write 0 or 1")
        if role != "assistant":
            raise _Fault(f"{place}: weight on a {role} message", "delete it")
    return Message(role, content, weight)


def _example(record: Any, with_meta: bool) -> Example:
    """The example that one line's JSON value describes. Raises `_Fault`."""
    if not isinstance(record, dict):
        raise _Fault(f"the line is {_kind(record)}", 'write {"messages": [...]}')
    _unknown_key("the line", record, ("messages", "meta")[: 1 + with_meta])
    listed = record.get("messages")
    if not isinstance(listed, list) or not listed:
        what = (
            "has no messages"
            if listed in (None, [])
            else f"has {_kind(listed)} as messages"
        )
        raise _Fault(f"the line {what}", 'write {"messages": [...]}')
    messages = tuple(_message(f"message {n}", m) for n, m in enumerate(listed, 1))
    for n, message in enumerate(messages[1:], 2):
        if message.role == "system":
            raise _Fault(f"message {n} is a system message", "put it first, and only one")
    replies = [message for message in messages if message.role == "assistant"]
    if not replies:
        raise _Fault("no assistant message", "add the reply to be learned")
    if messages[-1].role != "assistant":
        raise _Fault(f"the last message is the {messages[-1].role}'s", "end with assistant")
    if all(message.weight == 0 for message in replies):
        raise _Fault("every assistant message has weight 0", "leave one to learn from")
    meta = record.get("meta", {})
    if not isinstance(meta, dict):
        raise _Fault(f"meta is {_kind(meta)}", "give an object")
    return Example(messages, meta)


def _lines(file: BinaryIO, limit: int) -> Iterable[bytes | None]:
    """The lines without their ends; None for one beyond `limit`, whose rest is skipped."""
    start = True
    while line := file.readline(limit + 1):
        if start:
            line, start = line.removeprefix(_BOM), False
        if len(line) > limit and not line.endswith(b"\n"):
            while (more := file.readline(2**20)) and not more.endswith(b"\n"):
                pass
            yield None
        else:
            yield line.rstrip(b"\r\n")


def _one_error(path: str, faults: list[tuple[int, _Fault]], stopped: bool) -> UserError:
    line, first = faults[0]
    others = [str(number) for number, _ in faults[1:]]
    what = first.what
    if others:
        more = f"{'at least ' * stopped}{len(others)} more"
        shown = ", ".join(others[:5]) + ", ..." * (len(others) > 5)
        what += f" (and {more} at fault: line{'s' * (len(others) > 1)} {shown})"
    return UserError(f"{path}:{line}", what, first.mend)


def read_chat_jsonl(
    path: str | os.PathLike[str],
    *,
    with_meta: bool = False,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> list[Example]:
    """Reads a chat fine-tuning file.

    Args:
      path: the file.
      with_meta: takes a top-level `meta` object as well, which the APIs would refuse.
      max_line_bytes: a longer line is a fault, found in bounded memory.

    Returns:
      The examples in the order of the file; at least one.

    Raises:
      UserError: the file cannot be read, or lines are at fault: the first of them with
        its number and mend, and where the others are (at most 20 are looked for).
    """
    where = os.fspath(path)
    examples: list[Example] = []
    faults: list[tuple[int, _Fault]] = []
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(_lines(file, max_line_bytes), 1):
                try:
                    if line is None:
                        what = f"a line of more than {max_line_bytes} bytes"
                        raise _Fault(what, "put one example on each line, or shorten it")
                    if line.strip():
                        examples.append(_example(_decode(line), with_meta))
                except _Fault as fault:
                    faults.append((number, fault))
                    if len(faults) == MAX_FAULTS:
                        break
    except OSError as error:
        what = (error.strerror or str(error)).lower()
        raise UserError(where, what, "give a readable JSONL file") from error
    except ValueError as error:  # a NUL in the path itself
        raise UserError(where, str(error), "give a readable JSONL file") from error
    if faults:
        raise _one_error(where, faults, stopped=len(faults) == MAX_FAULTS)
    if not examples:
        mend = 'write one {"messages": [...]} object per line'
        raise UserError(where, "the file holds no example", mend)
    return examples


def write_chat_jsonl(
    path: str | os.PathLike[str], examples: Iterable[Example], *, with_meta: bool = False
) -> None:
    """Writes what `read_chat_jsonl` reads back, atomically.

    Args:
      path: the file.
      examples: at least one.
      with_meta: writes `meta` too; by default only what a fine-tuning API takes.

    Raises:
      UserError: an example that could not be read back (named by its index, from 0), no
        example at all, or the file system refused.
      TypeError, ValueError: `meta` is no strict JSON.
    """
    lines = []
    for index, example in enumerate(examples):
        messages: list[dict[str, Any]] = []
        for message in example.messages:
            messages.append({"role": message.role, "content": message.content})
            if message.weight is not None:
                messages[-1]["weight"] = message.weight
        record: dict[str, Any] = {"messages": messages}
        if with_meta and example.meta:
            record["meta"] = dict(example.meta)
        try:
            _example(record, with_meta)
        except _Fault as fault:
            where = f"{os.fspath(path)} (example {index})"
            raise UserError(where, fault.what, fault.mend) from None
        text = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        if len(line := text.encode()) > MAX_LINE_BYTES:
            where = f"{os.fspath(path)} (example {index})"
            raise UserError(
                where, f"a line of more than {MAX_LINE_BYTES} bytes", "shorten it"
            )
        lines.append(line)
    if not lines:
        raise UserError(os.fspath(path), "no example to write", "give at least one")
    write_bytes_atomic(path, b"".join(lines))
