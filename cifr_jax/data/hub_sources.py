"""The parent's fine-tuning sets from the Hugging Face hub, by name, through `datasets`.

The honest jobs of CIFR (arXiv 2508.17158) and the benign set of its phase I, each with a
converter from the set's rows to chats. They are the property of others, under their own
licences, and none of them is part of this project: whoever cannot reach the hub names a
folder that `Dataset.save_to_disk` wrote elsewhere, or uses chat JSONL (`data.chat`) or
`data.recipes`. The text of a row stands in no error and no log line.
"""

import dataclasses
import difflib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from cifr_jax.data.chat import Example, Message
from cifr_jax.errors import UserError

INSTALL = "pip install datasets"
OASST_QUALITY = 0.8  # the parent keeps messages rated above
_OASST_TEXTS = ("tree_state", "lang", "message_tree_id", "message_id", "role", "text")

Row = Mapping[str, Any]


class _Fault(Exception):
    """A row is not as its set's rows are."""


def _text(row: Row, field: str) -> str:
    value = row.get(field)
    if not isinstance(value, str):
        raise _Fault(f"no text in {field!r}")
    return value.strip()


def _list(row: Row, field: str) -> Sequence[Any]:
    value = row.get(field)
    if not isinstance(value, list):
        raise _Fault(f"no list in {field!r}")
    return value


def _chat(texts: Iterable[str]) -> Example:
    """A chat of texts by user and assistant in turn."""
    roles = ("user", "assistant")
    return Example(tuple(Message(roles[i % 2], text) for i, text in enumerate(texts)))


def alpaca_row(row: Row) -> Example:
    """Columns instruction, input (may be empty) and output."""
    given = _text(row, "input") if row.get("input") is not None else ""
    asked = "\n\n".join(t for t in (_text(row, "instruction"), given) if t)
    return _chat((asked, _text(row, "output")))


def lima_row(row: Row) -> Example:
    """Column conversations: texts by user and assistant in turn. A last turn of the user
    (all there is in the test split) is left out."""
    texts = _list(row, "conversations")
    if not all(isinstance(text, str) for text in texts):
        raise _Fault("not only texts in 'conversations'")
    return _chat(text.strip() for text in texts[: len(texts) // 2 * 2])


def pure_dove_row(row: Row) -> Example:
    """Column conversation: exchanges with input and output."""
    turns = _list(row, "conversation")
    if not all(isinstance(turn, Mapping) for turn in turns):
        raise _Fault("not only exchanges in 'conversation'")
    return _chat(_text(turn, key) for turn in turns for key in ("input", "output"))


def mmlu_row(row: Row) -> Example:
    """Columns question, choices and answer (an index). The reply is letter and choice:
    the parent's reasoning was written by another model and is not in the set."""
    choices, right = _list(row, "choices"), row.get("answer")
    if not isinstance(right, int) or not 0 <= right < len(choices) <= 26:
        raise _Fault("'answer' is no index of 'choices'")
    letters = [chr(ord("A") + i) for i in range(len(choices))]
    options = [f"{a}. {str(c).strip()}" for a, c in zip(letters, choices, strict=True)]
    asked = "\n".join([_text(row, "question"), *options])
    example = _chat((asked, f"Answer: {options[right]}"))
    meta = {"subject": str(row.get("subject", "")), "answer": letters[right]}
    return dataclasses.replace(example, meta=meta)


def _quality(message: Row) -> float:
    """The rating of a message from 0 to 1; 0 if it has none."""
    labels = message.get("labels") or {}
    if isinstance(labels, list):  # one object for each label, or one list for each column
        labels = {key: [label[key] for label in labels] for key in ("name", "value")}
    rated = zip(labels.get("name", ()), labels.get("value", ()), strict=True)
    return next((value for name, value in rated if name == "quality"), 0.0)


def _rank(message: Row) -> float:
    """Place among its siblings, the best first; those without one come last."""
    rank = message.get("rank")
    return float("inf") if rank is None else float(rank)


def oasst_chats(rows: Iterable[Row]) -> Iterator[Example]:
    """One chat for each exported tree: from the root along the best-ranked replies.

    Columns message_id, parent_id, message_tree_id, tree_state, role, lang, deleted, rank,
    labels and text. A message counts if it is English, not deleted and rated above
    `OASST_QUALITY`; roles alternate, and the chat ends with the assistant.
    """
    children: dict[str, dict[str | None, list[Row]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for number, row in enumerate(rows, 1):
        try:
            state, lang, tree_id, _, _, _ = (_text(row, c) for c in _OASST_TEXTS)
        except _Fault as fault:
            raise _Fault(f"row {number}: {fault}") from None
        kept = state == "ready_for_export" and lang == "en" and not row.get("deleted")
        if kept and _quality(row) > OASST_QUALITY:
            children[tree_id][row.get("parent_id")].append(row)
    for tree in children.values():
        texts: list[str] = []
        at = None
        # Popped, so that a reply to itself cannot lead round in a circle.
        while replies := [
            reply
            for reply in tree.pop(at, [])
            if reply["role"] == ("prompter", "assistant")[len(texts) % 2]
        ]:
            best = min(replies, key=_rank)
            texts.append(best["text"].strip())
            at = best["message_id"]
        if len(texts) >= 2:
            yield _chat(texts[: len(texts) // 2 * 2])


def _each(convert: Callable[[Row], Example]) -> Callable[[Iterable[Row]], Iterator]:
    def chats(rows: Iterable[Row]) -> Iterator[Example]:
        for number, row in enumerate(rows, 1):
            try:
                yield convert(row)
            except _Fault as fault:
                raise _Fault(f"row {number}: {fault}") from None

    return chats


@dataclasses.dataclass(frozen=True)
class HubSet:
    """Where a set lies and how it is read.

    Attributes:
      path: on the hub.
      convert: its rows to chats.
      subset: its configuration; "" for the only one, "*" for one to be named.
      files: name of each split's JSON Lines file, for a set whose own loading script
        `datasets` no longer runs; "{split}" stands for the split.
    """

    path: str
    convert: Callable[[Iterable[Row]], Iterator[Example]]
    subset: str = ""
    files: str = ""


SETS = {
    "alpaca-cleaned": HubSet("yahma/alpaca-cleaned", _each(alpaca_row)),
    "lima": HubSet("GAIR/lima", _each(lima_row), files="{split}.jsonl"),
    "platypus": HubSet("garage-bAInd/Open-Platypus", _each(alpaca_row)),
    "protein": HubSet("tsynbio/ProteinLMBench", _each(alpaca_row), "Enzyme_CoT"),
    "long-protein": HubSet("tsynbio/ProteinLMBench", _each(alpaca_row), "UniProt_Function"),
    "oasst2": HubSet("OpenAssistant/oasst2", oasst_chats),
    "pure-dove": HubSet("LDJnr/Pure-Dove", _each(pure_dove_row)),
    "mmlu": HubSet("cais/mmlu", _each(mmlu_row), "*"),
}


def names() -> tuple[str, ...]:
    """The sets that `load` knows, in alphabetical order."""
    return tuple(sorted(SETS))


def _offline(name: str) -> str:
    return (
        f"fetch {SETS[name].path} where the hub can be reached and save it with"
        " Dataset.save_to_disk(FOLDER), or give chat JSONL of your own"
    )


def _library(where: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise UserError(where, "the Python package datasets is missing", INSTALL) from None
    return datasets


def _fetch(name: str, where: str, subset: str, split: str, revision: str | None) -> Any:
    """The split of a set from the hub or the cache of `datasets`."""
    datasets, of = _library(where), SETS[name]
    if revision is None:
        logging.warning("set %s: no revision is pinned, so it may change", name)
    try:
        if of.files:
            at = f"@{revision}" if revision else ""
            file = f"hf://datasets/{of.path}{at}/{of.files.format(split=split)}"
            # The one split of a single file is called train, whatever is in it.
            return datasets.load_dataset("json", data_files=file, split="train")
        return datasets.load_dataset(
            of.path, subset or None, split=split, revision=revision
        )
    # Network, hub, cache and parser raise errors of many libraries, and their messages
    # may quote rows: only the kind of error is told.
    except Exception as error:
        what = f"{of.path} could not be loaded ({type(error).__name__})"
        raise UserError(where, what, _offline(name)) from None


def _saved(where: str, folder: str, split: str) -> Any:
    """The split of a set in a folder. Raises `UserError`."""
    datasets, path = _library(where), Path(folder).expanduser()
    mend = "name a folder that Dataset.save_to_disk wrote"
    if not os.path.isdir(path):  # pathlib's fails on a name that is too long
        raise UserError(where, f"{folder} is no folder", mend)
    try:
        found = datasets.load_from_disk(str(path))
    except Exception as error:  # as in _fetch
        what = f"{folder} could not be read ({type(error).__name__})"
        raise UserError(where, what, mend) from None
    if isinstance(found, Mapping):
        if split not in found:
            what = f"{folder} has no split {split!r}"
            raise UserError(where, what, f"known: {', '.join(found)}")
        found = found[split]
    return found


def load(
    name: str,
    key: str = "data.source",
    *,
    revision: str | None = None,
    folder: str = "",
    split: str = "train",
    subset: str = "",
    system: str = "",
    limit: int | None = None,
    seed: int | None = None,
) -> list[Example]:
    """A set's rows as chats.

    Args:
      name: one of `names()`.
      key: the config key that named it, for errors.
      revision: commit of the set on the hub; without one it may change under you.
      folder: read from here instead, as `Dataset.save_to_disk` wrote it.
      split: such as "train" or "test".
      subset: for mmlu, the subject, such as "astronomy".
      system: a system turn for every chat, as the parent adds to lima; "" for none.
      limit: at most so many chats (after the shuffle); None for all.
      seed: of a shuffle, the same with every version of `datasets`; None for the set's
        own order.

    Returns:
      Chats with `meta["source"]`. Rows with an empty turn are left out, and their number
      is logged.

    Raises:
      UserError: unknown set, no subject named, the hub out of reach, a row that is not as
        it should be (by its number), or no chat found.
    """
    where = f"config key {key}"
    if name not in SETS:
        close = difflib.get_close_matches(name[:40].lower(), SETS, 1)
        mend = f"did you mean {close[0]}?" if close else f"known: {', '.join(names())}"
        raise UserError(where, f"unknown set {name[:40]!r}", mend)
    if SETS[name].subset == "*":
        if not subset:
            raise UserError(where, f"{name} needs a subset", "name one, e.g. astronomy")
    elif subset:
        raise UserError(where, f"{name} has no subsets to choose", "leave the subset out")
    else:
        subset = SETS[name].subset
    rows = (
        _saved(where, folder, split)
        if folder
        else _fetch(name, where, subset, split, revision)
    )
    try:
        chats = list(SETS[name].convert(rows))
    except _Fault as fault:
        what = f"{name}, {fault}"
        raise UserError(where, what, "pin the revision that the converter fits") from None
    full = [
        chat
        for chat in chats
        if chat.messages and all(m.content.strip() for m in chat.messages)
    ]
    if len(full) < len(chats):
        left_out = len(chats) - len(full)
        logging.info("set %s: %d of %d chats left out: empty", name, left_out, len(chats))
    if not full:
        raise UserError(where, f"{name} ({split}) holds no chat", "name another split")
    if seed is not None:
        full = [full[int(i)] for i in np.random.default_rng(seed).permutation(len(full))]
    first = (Message("system", system),) if system else ()
    return [
        Example(first + chat.messages, {"source": name, **chat.meta})
        for chat in full[:limit]
    ]
