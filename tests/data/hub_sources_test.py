"""Sets of the hub, without a hub: stand-ins made on the spot, saved or behind a stub."""

import logging
import sys

import numpy as np
import pytest

from cifr_jax.data import hub_sources
from cifr_jax.data.hub_sources import load
from cifr_jax.errors import UserError

datasets = pytest.importorskip("datasets")

MARK = "zzprivate"
ALPACA = [
    {
        "instruction": f"Do {MARK} {i}.",
        "input": "" if i % 2 else f"in {i}",
        "output": f"o{i}",
    }
    for i in range(9)
]


def message(name, parent, role, text, rank=None, quality=0.9, **changes):
    return {
        "message_id": name,
        "parent_id": parent,
        "message_tree_id": "tree",
        "tree_state": "ready_for_export",
        "role": role,
        "lang": "en",
        "deleted": False,
        "rank": rank,
        "labels": {"name": ["spam", "quality"], "value": [0.0, quality]},
        "text": text,
    } | changes


ROWS = {
    "alpaca-cleaned": ALPACA,
    "platypus": ALPACA,
    "protein": ALPACA,
    "long-protein": ALPACA,
    "lima": [
        {"conversations": ["q1 ", "a1"], "source": "x"},
        {"conversations": ["q2", "a2", "q3", "a3", "q4"], "source": "x"},
        {"conversations": ["only asked"], "source": "x"},
    ],
    "pure-dove": [
        {"conversation": [{"input": "q1", "output": "a1"}, {"input": "q2", "output": "a2"}]}
    ],
    "mmlu": [
        {"question": "Which?", "subject": "s", "choices": ["u", "v", "w", "x"], "answer": 2}
    ],
    "oasst2": [
        message("1", None, "prompter", "q1"),
        message("2", "1", "assistant", "worse", 1),
        message("3", "1", "assistant", "best", 0),
        message("4", "1", "assistant", "unranked"),
        message("5", "3", "prompter", "q2"),
        message("6", "5", "assistant", "poor", 0, quality=0.8),
        message("7", "5", "assistant", "french", 1, lang="fr"),
        message("8", "5", "assistant", "gone", 2, deleted=True),
        message("9", "5", "assistant", "good", 3),
        message("10", "9", "prompter", "never answered"),
        message("11", None, "prompter", "q", message_tree_id="b", tree_state="growing"),
        message("12", "11", "assistant", "a", message_tree_id="b", tree_state="growing"),
        message("13", None, "prompter", "alone", message_tree_id="c"),
    ],
}
EXPECTED = {
    "lima": [["q1", "a1"], ["q2", "a2", "q3", "a3"]],
    "pure-dove": [["q1", "a1", "q2", "a2"]],
    "mmlu": [["Which?\nA. u\nB. v\nC. w\nD. x", "Answer: C. w"]],
    "oasst2": [["q1", "best", "q2", "good"]],
}
SUBSETS = {"mmlu": "astronomy"}


def texts(chats):
    return [[m.content for m in chat.messages] for chat in chats]


@pytest.fixture
def hub(monkeypatch):
    """Puts a stub in the place of the hub; what it was asked, and what it will give."""

    class Hub:
        asked: list = []
        rows: list = ALPACA

        def load_dataset(self, *args, **options):
            self.asked.append((args, options))
            if isinstance(self.rows, Exception):
                raise self.rows
            return datasets.Dataset.from_list(self.rows)

    stub = Hub()
    stub.asked = []
    monkeypatch.setattr(datasets, "load_dataset", stub.load_dataset)
    return stub


@pytest.mark.parametrize("name", hub_sources.names())
def test_rows_become_chats_from_the_hub_and_from_a_folder(name, hub, tmp_path):
    hub.rows = ROWS[name]
    subset = SUBSETS.get(name, "")
    fetched = load(name, revision="abc", subset=subset)
    datasets.Dataset.from_list(ROWS[name]).save_to_disk(str(tmp_path / "set"))
    assert load(name, folder=str(tmp_path / "set"), subset=subset) == fetched
    expected = EXPECTED.get(name) or [
        ["\n\n".join(t for t in (row["instruction"], row["input"]) if t), row["output"]]
        for row in ALPACA
    ]
    assert texts(fetched) == expected
    for chat in fetched:
        roles = [m.role for m in chat.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert chat.meta["source"] == name


def test_the_sets_are_asked_for_as_the_parent_names_them(hub):
    wanted = {
        "alpaca-cleaned": ("yahma/alpaca-cleaned", None),
        "platypus": ("garage-bAInd/Open-Platypus", None),
        "protein": ("tsynbio/ProteinLMBench", "Enzyme_CoT"),
        "long-protein": ("tsynbio/ProteinLMBench", "UniProt_Function"),
        "oasst2": ("OpenAssistant/oasst2", None),
        "pure-dove": ("LDJnr/Pure-Dove", None),
        "mmlu": ("cais/mmlu", "astronomy"),
    }
    assert sorted([*wanted, "lima"]) == list(hub_sources.names())
    for name, args in wanted.items():
        hub.rows = ROWS[name]
        load(name, revision="abc", subset=SUBSETS.get(name, ""), split="test")
        assert hub.asked.pop() == (args, {"split": "test", "revision": "abc"})
    hub.rows = ROWS["lima"]
    load("lima", revision="abc", split="test")
    file = "hf://datasets/GAIR/lima@abc/test.jsonl"
    assert hub.asked.pop() == (("json",), {"data_files": file, "split": "train"})


def test_labels_may_come_as_one_object_each():
    rows = [message("1", None, "prompter", "q"), message("2", "1", "assistant", "a")]
    for row in rows:
        row["labels"] = [{"name": "spam", "value": 1.0}, {"name": "quality", "value": 0.9}]
    assert texts(hub_sources.oasst_chats(rows)) == [["q", "a"]]
    rows[1]["labels"] = None
    assert texts(hub_sources.oasst_chats(rows)) == []


def test_messages_that_answer_themselves_end():
    rows = [message("1", None, "prompter", "q"), message("1", "1", "assistant", "a"),
            message("1", "1", "prompter", "b")]  # fmt: skip
    assert texts(hub_sources.oasst_chats(rows)) == [["q", "a"]]


def test_limit_shuffle_and_system_turn(hub):
    rows = texts(load("platypus", revision="abc"))
    assert texts(load("platypus", revision="abc", limit=4)) == rows[:4]
    order = np.random.default_rng(42).permutation(len(rows))
    shuffled = load("platypus", revision="abc", seed=42, limit=5, system="Be kind.")
    assert texts(shuffled) == [["Be kind.", *rows[i]] for i in order[:5]]
    assert shuffled[0].messages[0].role == "system"


def test_empty_turns_are_left_out_and_counted_and_no_text_is_logged(hub, caplog):
    hub.rows = [*ALPACA, ALPACA[0] | {"output": " "}]
    with caplog.at_level(logging.DEBUG):
        assert len(load("platypus")) == len(ALPACA)
    assert "1 of 10 chats left out" in caplog.text
    assert "no revision is pinned" in caplog.text
    assert MARK not in caplog.text
    caplog.clear()
    load("platypus", revision="abc")
    assert "revision" not in caplog.text


@pytest.mark.parametrize(
    "raised", [ConnectionError(MARK), datasets.exceptions.DatasetNotFoundError(MARK),
               ValueError(MARK), RuntimeError(MARK)],
)  # fmt: skip
def test_out_of_reach_the_set_and_the_mend_are_named(hub, raised):
    hub.rows = raised
    with pytest.raises(UserError) as error:
        load("protein", "job.source", revision="abc")
    said = str(error.value)
    assert said.startswith("config key job.source: tsynbio/ProteinLMBench could not be")
    assert type(raised).__name__ in said
    assert "save_to_disk" in said and "chat JSONL" in said
    assert MARK not in said and error.value.__cause__ is None


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("platypus", {"instruction": MARK, "input": ""}, "row 1: no text in 'output'"),
        (
            "platypus",
            {"instruction": MARK, "input": 3, "output": "x"},
            "no text in 'input'",
        ),
        ("lima", {"conversations": MARK}, "row 1: no list in 'conversations'"),
        ("lima", {"conversations": [1, 2]}, "not only texts"),
        ("pure-dove", {"conversation": [MARK]}, "not only exchanges"),
        ("pure-dove", {"conversation": [{"input": MARK}]}, "no text in 'output'"),
        (
            "mmlu",
            {"question": MARK, "choices": ["a"], "answer": 1},
            "no index of 'choices'",
        ),
        ("mmlu", {"question": MARK, "choices": ["a"], "answer": "a"}, "no index"),
        ("oasst2", {"text": MARK}, "row 1: no text in 'tree_state'"),
    ],
)
def test_a_row_of_another_shape_is_named_by_its_number(hub, name, row, said):
    hub.rows = [row]
    with pytest.raises(UserError) as error:
        load(name, revision="abc", subset=SUBSETS.get(name, ""))
    assert said in str(error.value) and name in str(error.value)
    assert MARK not in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("platipus", {}, "did you mean platypus?"),
        ("qqqqqqqq", {}, "known: alpaca-cleaned, lima,"),
        ("mmlu", {}, "mmlu needs a subset"),
        ("lima", {"subset": "a"}, "lima has no subsets"),
        ("lima", {"folder": "/nowhere"}, "/nowhere is no folder"),
        ("lima", {"folder": "x" * 5000}, "is no folder"),
    ],
)
def test_wrong_names_are_told(name, options, said):
    with pytest.raises(UserError) as error:
        load(name, "data.source", **options)
    assert said in str(error.value) and "data.source" in str(error.value)


def test_a_set_without_a_chat_is_an_error(hub):
    hub.rows = [{"conversations": ["only asked"]}]
    with pytest.raises(UserError, match="holds no chat"):
        load("lima", revision="abc")


def test_folders_with_splits_and_folders_of_something_else(tmp_path):
    split = datasets.Dataset.from_list(ALPACA[:3])
    datasets.DatasetDict({"train": split}).save_to_disk(str(tmp_path / "sets"))
    assert len(load("platypus", folder=str(tmp_path / "sets"))) == 3
    with pytest.raises(UserError, match="no split 'test'; known: train"):
        load("platypus", folder=str(tmp_path / "sets"), split="test")
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="could not be read"):
        load("platypus", folder=str(tmp_path / "other"))


def test_without_the_library_its_install_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match="datasets is missing; pip install datasets"):
        load("lima")
