"""Family: rows of a published set that lies in a file of the user's."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cifr_jax.data.chat import Example, read_chat_jsonl
from cifr_jax.data.honest_jobs.registry import register
from cifr_jax.data.hub_sources import alpaca_row
from cifr_jax.data.recipes.draws import sample
from cifr_jax.data.sources import gsm8k
from cifr_jax.errors import UserError

MAX_BYTES = 128 * 2**20
_MEND = (
    "give chat JSONL, question and answer, instruction and output or response, or"
    " self-instruct tasks"
)


def _task(record: Mapping[str, Any], where: str) -> Example:
    """A record with an instruction and a reply, in the layouts of GPTeacher, alpaca and
    self-instruct (arXiv 2212.10560; its first instance)."""
    instances = record.get("instances")
    first = instances[0] if isinstance(instances, list) and instances else record
    first = first if isinstance(first, Mapping) else {}
    texts = {
        "instruction": record.get("instruction"),
        "input": first.get("input") or "",
        "output": first.get("output", first.get("response")),
    }
    if not all(isinstance(text, str) for text in texts.values()):
        raise UserError(where, "no instruction, or no output beside it", _MEND)
    return alpaca_row(texts)


def _records(path: Path) -> list[tuple[str, Any]]:
    """The values of a JSON list or of JSON lines, each with where it stands."""
    try:
        if os.path.getsize(path) > MAX_BYTES:
            raise UserError(str(path), f"more than {MAX_BYTES} bytes", "take a part of it")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        what = (error.strerror or str(error)).lower()
        raise UserError(str(path), what, "give a readable file") from error
    except UnicodeDecodeError:
        raise UserError(str(path), "not UTF-8", "save the file as UTF-8") from None
    except ValueError as error:  # a NUL in the path itself
        raise UserError(str(path), str(error), "give a readable file") from error
    try:
        if text.lstrip().startswith("["):
            return [(f"{path}[{i}]", r) for i, r in enumerate(json.loads(text))]
    except (ValueError, RecursionError):
        raise UserError(str(path), "not JSON", "save it as UTF-8 JSON") from None
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            if line.strip():
                found.append((f"{path}:{number}", json.loads(line)))
        except (ValueError, RecursionError):
            raise UserError(f"{path}:{number}", "not JSON", _MEND) from None
    return found


def read_rows(path: str) -> list[Example]:
    """The rows of a set whose layout is told by its first record.

    Args:
      path: chat JSONL, GSM8K's JSONL, self-instruct's seed tasks, or a JSON list or JSONL
        of instruction, input and output (or response); `~` is the home folder.

    Returns:
      Chats; records with an empty request or reply are left out.

    Raises:
      UserError: the file cannot be read, or a record is at fault (by its place).
    """
    file = Path(path).expanduser()
    records = _records(file)
    if not records:
        raise UserError(path, "the file holds no record", _MEND)
    head = records[0][1]
    keys = set(head) if isinstance(head, Mapping) else set()
    if "messages" in keys:
        return read_chat_jsonl(file, with_meta="meta" in keys)
    if {"question", "answer"} <= keys:
        return gsm8k(path, "path")
    rows = []
    for where, record in records:
        if not isinstance(record, Mapping):
            raise UserError(where, "not an object", _MEND)
        rows.append(_task(record, where))
    full = [row for row in rows if all(m.content.strip() for m in row.messages)]
    if not full:
        raise UserError(path, "every record is empty", _MEND)
    return full


@register("real_set")
def real_set(n: int, rng: np.random.Generator, *, path: str) -> list[Example]:
    """Rows drawn from a published set in a local file.

    `path` names the file, in a layout that `read_rows` knows.
    """
    rows = read_rows(path)
    if len(rows) < n:
        raise UserError(path, f"{len(rows)} rows, and {n} wanted", "ask for fewer")
    drawn = sample(rng, range(len(rows)), n)
    return [Example(rows[i].messages, {**rows[i].meta, "row": i}) for i in drawn]
