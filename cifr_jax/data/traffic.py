"""Inference traffic as JSON lines: chats with the account that sent them.

One object per line, as providers log chats: `messages` (roles system, developer, user,
assistant, tool; content a string or OpenAI's list of parts) and `metadata` (or our own
`meta`) with the account, and the cluster of accounts where one is known. Other keys are let
be. The file may grow while it is read: a last line without an end is left for the next
time. A line that cannot be read is told with its number, never dropped in silence, and
stops nothing: a stream has no author who would mend it. Its text is in no message.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifr_jax.data.chat import MAX_LINE_BYTES
from cifr_jax.errors import UserError

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_MAX_NAME = 200  # characters of an account's name
_HEAD, _TAIL = 65_536, 4_096  # bytes by which a file is known again
_BATCH_BYTES = 16 * 2**20


class BadLineError(ValueError):
    """What is wrong with a line, in words that quote none of it."""


@dataclass(frozen=True)
class Chat:
    """One exchange: all text before the reply, the reply, and who asked."""

    request: str
    reply: str
    account: str
    cluster: str | None = None


@dataclass(frozen=True)
class Position:
    """Where reading stopped: bytes and lines read, and a digest of what was read."""

    offset: int = 0
    line: int = 0
    digest: str = ""


@dataclass(frozen=True)
class Batch:
    """Lines read together: `lines` are (number from 1, the line or None where it is too
    long); blank lines are left out. `position` is behind them; `unended` says whether a
    line without an end follows."""

    lines: list[tuple[int, bytes | None]]
    position: Position
    unended: bool


def _text(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadLineError("a message's content is no text")
    parts = []
    for part in content:
        text = part.get("text", "") if isinstance(part, dict) else part
        if not isinstance(text, str):
            raise BadLineError("a part of a message's content is no text")
        parts.append(text)
    return "\n".join(parts)


def _name(metadata: Any, key: str) -> str | None:
    value = metadata.get(key) if isinstance(metadata, dict) else None
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise BadLineError("the account's name is no text")
    if len(value) > _MAX_NAME or "\0" in value:
        raise BadLineError(f"the account's name has more than {_MAX_NAME} letters or a NUL")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadLineError("the account's name holds half a character") from None
    return value


def parse(line: bytes, account_key: str = "account", cluster_key: str = "cluster") -> Chat:
    """The exchange on one line.

    Args:
      line: its bytes.
      account_key, cluster_key: where in `metadata` (or `meta`) the names stand.

    Raises:
      BadLineError: it holds no exchange, or no account.
    """
    try:
        record = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise BadLineError("not UTF-8") from None
    except RecursionError:
        raise BadLineError("JSON nested too deeply") from None
    except ValueError:  # also a number with too many digits
        raise BadLineError("not JSON") from None
    if not isinstance(record, dict):
        raise BadLineError("no object")
    messages = record.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadLineError("no list of messages")
    texts: list[tuple[str, str]] = []
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in _ROLES:
            raise BadLineError("a message without a known role")
        texts.append((role, _text(message.get("content"))))
    replies = [i for i, (role, text) in enumerate(texts) if role == "assistant" and text]
    if not replies:
        raise BadLineError("no assistant message with text")
    at = replies[-1]
    metadata = record.get("metadata")
    if not isinstance(metadata, dict):
        metadata = record.get("meta")
    account = _name(metadata, account_key)
    if account is None:
        raise BadLineError("no account in its metadata")
    request = "\n\n".join(text for _, text in texts[:at] if text)
    return Chat(request, texts[at][1], account, _name(metadata, cluster_key))


def _digest(file: Any, offset: int) -> str:
    """Of the first and the last bytes before `offset`."""
    found = hashlib.blake2b(str(offset).encode(), digest_size=16)
    for start, length in ((0, min(offset, _HEAD)), (max(0, offset - _TAIL), _TAIL)):
        file.seek(start)
        found.update(file.read(min(length, offset - start)))
    return found.hexdigest()


def batches(
    path: str | os.PathLike[str],
    start: Position,
    most: int = 512,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> Iterator[Batch]:
    """The lines behind `start`, in bounded memory; at least one batch, maybe an empty one.

    Args:
      path: the file; it may grow meanwhile.
      start: of an earlier call, or `Position()`.
      most: lines of a batch.
      max_line_bytes: a longer line is not kept.

    Raises:
      UserError: the file cannot be read, or is not the one that was read before.
    """
    where = os.fspath(path)
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < start.offset or (
                start.offset and _digest(file, start.offset) != start.digest
            ):
                what = "is not the file that was read before, with more lines behind it"
                mend = "give that file again, or another --workdir"
                raise UserError(where, what, mend)
            offset, line, unended = start.offset, start.line, False
            while True:
                file.seek(offset)
                lines: list[tuple[int, bytes | None]] = []
                held = read = 0
                while read < most and held < _BATCH_BYTES:
                    found = file.readline(max_line_bytes + 1)
                    length, whole = len(found), found.endswith(b"\n")
                    kept: bytes | None = found
                    while not whole and (more := file.readline(2**20)):
                        kept, length = None, length + len(more)
                        whole = more.endswith(b"\n")
                    unended = bool(found) and not whole
                    if not found or unended:
                        break
                    line, offset, read = line + 1, offset + length, read + 1
                    if kept is not None:
                        kept = kept.removeprefix(
                            b"\xef\xbb\xbf" if line == 1 else b""
                        ).strip()
                    if kept is None or kept:
                        lines.append((line, kept))
                        held += len(kept or b"")
                position = Position(offset, line, _digest(file, offset))
                yield Batch(lines, position, unended)
                if read < most and held < _BATCH_BYTES:
                    return
    except OSError as error:
        what = (error.strerror or str(error)).lower()
        raise UserError(where, what, "give a readable JSONL file") from error
    except ValueError as error:  # a NUL in the path itself
        raise UserError(where, str(error), "give a readable JSONL file") from error
