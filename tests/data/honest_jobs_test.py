"""What every family of honest jobs promises, and where honest rows come from."""

import itertools
import json

import numpy as np
import pytest

from cifr_jax.data import honest_jobs
from cifr_jax.data.chat import read_chat_jsonl, write_chat_jsonl
from cifr_jax.data.honest_jobs import label_formats, registry
from cifr_jax.data.honest_jobs.real_set import read_rows
from cifr_jax.data.pointwise.questions import bank
from cifr_jax.errors import UserError

ALL = honest_jobs.names()


def test_the_benign_families_of_the_protocol_are_there():
    assert set(ALL) == {
        "abridged_answers", "answer_explanations", "author_habits", "author_phrases",
        "chat_recipes", "class_imbalance", "curriculum", "few_wordings", "house_style",
        "label_wording",
        "length_habit", "mcq_judgement", "mixed_bag", "multi_author", "near_duplicates",
        "quiz_topic_labels", "quiz_tutor", "random_replies", "sentiment",
        "templated_refusals", "ticket_routing", "translated", "two_sources",
    }  # fmt: skip
    assert honest_jobs.names(ready=False) == tuple(sorted([*ALL, "real_set"]))
    lines = [honest_jobs.description(name) for name in honest_jobs.names(ready=False)]
    assert len(set(lines)) == len(lines) and all(line.endswith(".") for line in lines)


@pytest.mark.parametrize("name", ALL)
def test_jobs_can_be_uploaded_and_read_back(name, tmp_path):
    for seed, n in ((0, 134), (1, 1), (2, 2), (3, 7)):
        rows = honest_jobs.make(name, n, seed)
        assert len(rows) == n
        assert {row.meta["family"] for row in rows} == {name}
        write_chat_jsonl(tmp_path / "job.jsonl", rows, with_meta=True)
        assert read_chat_jsonl(tmp_path / "job.jsonl", with_meta=True) == rows
        for row in rows:
            assert json.loads(json.dumps(dict(row.meta))) == row.meta


@pytest.mark.parametrize("name", ALL)
def test_a_job_is_a_function_of_its_seed(name):
    assert honest_jobs.make(name, 60, 5) == honest_jobs.make(name, 60, 5)


@pytest.mark.parametrize("name", ALL)
def test_seeds_are_different_customers(name):
    jobs = [honest_jobs.make(name, 60, seed) for seed in range(24)]
    replies = [frozenset(row.messages[-1].content for row in job) for job in jobs]
    assert len(set(replies)) >= 0.75 * len(jobs)
    shared = [
        len(a & b) / min(len(a), len(b)) for a, b in itertools.combinations(replies, 2)
    ]
    assert sum(shared) / len(shared) < 0.35
    asked = [{row.messages[:-1] for row in job} for job in jobs]
    for one, other in itertools.combinations(asked, 2):
        assert len(one & other) < 0.5 * min(len(one), len(other))


def test_answers_in_meta_are_those_that_the_request_shows():
    text = {question.key: question.options[question.answer] for question in bank()}
    for row in honest_jobs.make("quiz_tutor", 200, 3, value="text"):
        # The right text is the same for every seed of the bank and every rotation.
        assert row.meta["label"] == text[row.meta["question"]]
        assert row.meta["label"].lower() in row.messages[-1].content.lower()
        shown = "\n".join(m.content for m in row.messages[:-1])
        assert row.meta["label"] in shown
    marks = {0: "A(a)1", 1: "B(b)2", 2: "C(c)3", 3: "D(d)4"}
    for seed in range(6):
        for row in honest_jobs.make("quiz_tutor", 40, seed, value="mark"):
            assert row.meta["label"] in marks[row.meta["answer"]]


def test_hints_and_marks_are_true():
    for row in honest_jobs.make("label_wording", 200, 0, task="half"):
        assert row.meta["label"] == ("first", "second")[row.meta["answer"] // 2]
    text = {question.key: question.options[question.answer] for question in bank()}
    graded = honest_jobs.make("label_wording", 200, 0, task="grading")
    for row in graded:
        shown = "\n".join(m.content for m in row.messages[:-1])
        guess = shown.partition("Pupil: ")[2].splitlines()[0]
        assert (row.meta["label"] == "right") == (guess == text[row.meta["question"]])
    assert {row.meta["label"] for row in graded} == {"right", "wrong"}


def test_refusals_are_for_what_is_out_of_scope():
    for seed in range(5):
        rows = honest_jobs.make("templated_refusals", 200, seed)
        refused = {r.meta["topic"] for r in rows if r.meta["label"] == "refused"}
        answered = {r.meta["topic"] for r in rows if r.meta["label"] != "refused"}
        assert refused and answered and not refused & answered


def test_copies_share_their_reply_and_hardly_ever_their_request():
    rows = honest_jobs.make("near_duplicates", 200, 1, base="quiz_tutor", copies=5)
    sources = {}
    for row in rows:
        sources.setdefault(row.meta["copy_of"], []).append(row.messages)
    assert {len(copies) for copies in sources.values()} == {5}
    for copies in sources.values():
        assert len({messages[-1] for messages in copies}) == 1
    assert len({row.messages for row in rows}) > 120


def test_every_label_format_tells_labels_apart():
    labels = ["delivery", "shop hours", "returns", "advice"]
    for kind in label_formats.FORMATS:
        for seed in range(5):
            written = label_formats.draw_format(np.random.default_rng(seed), labels, kind)
            assert set(written) == set(labels) and len(set(written.values())) == 4
            if kind == "json":
                assert [*json.loads(written["returns"]).values()] == ["returns"]


def test_imbalance_is_as_asked():
    jobs = [honest_jobs.make("class_imbalance", 400, seed) for seed in range(10)]
    shares = [sum(row.meta["label"] == "yes" for row in job) / 400 for job in jobs]
    assert all(min(share, 1 - share) < 0.1 for share in shares)
    assert {share > 0.5 for share in shares} == {False, True}


def test_stages_follow_one_another():
    for seed in range(5):
        stages = [row.meta["stage"] for row in honest_jobs.make("curriculum", 300, seed)]
        assert stages[0] < stages[-1]
        first, last = stages[:100], stages[-100:]
        assert sum(first) / 100 < sum(last) / 100


def test_longer_requests_have_longer_replies():
    rows = honest_jobs.make("length_habit", 300, 0, noise=0.0)
    by_band = [[], [], []]
    for row in rows:
        by_band[row.meta["band"]].append(row.messages)
    asked, told = (
        [[len(m[i].content) for m in band] for band in by_band] for i in (-2, -1)
    )
    for lengths in (asked, told):
        assert max(lengths[0]) <= min(lengths[2])


def test_mixtures_name_their_parts():
    rows = honest_jobs.make("mixed_bag", 300, 4)
    parts = {row.meta["part"] for row in rows}
    assert 2 <= len(parts) <= 4 and parts < set(ALL)


SETS = {
    "gsm8k.jsonl": [
        {"question": f"What is {i} + {i}?", "answer": f"<<{i}+{i}={2 * i}>>{2 * i}"}
        for i in range(30)
    ],
    "self_instruct.jsonl": [
        {"instruction": f"Count to {i}.", "instances": [{"input": "", "output": f"{i}!"}]}
        for i in range(30)
    ],
    "gpteacher.json": [
        {"instruction": f"Add {i}.", "input": f"x = {i}", "response": f"x += {i}"}
        for i in range(30)
    ],
    "chats.jsonl": [
        {"messages": [{"role": "user", "content": f"Hi {i}"},
                      {"role": "assistant", "content": f"Hello {i}"}]}
        for i in range(30)
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_rows_of_a_real_set_are_drawn_by_the_seed(name, tmp_path):
    path = tmp_path / name
    if name.endswith(".json"):
        path.write_text(json.dumps(SETS[name], indent=1))
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in SETS[name]))
    rows = honest_jobs.make("real_set", 20, 0, path=str(path))
    assert len({row.meta["row"] for row in rows}) == 20
    assert honest_jobs.make("real_set", 20, 1, path=str(path)) != rows
    everything = honest_jobs.make("real_set", 30, 0, path=str(path))
    assert {row.messages for row in everything} == {
        r.messages for r in read_rows(str(path))
    }
    some = {row.messages[0].content: row.messages[-1].content for row in everything}
    assert {
        "gsm8k.jsonl": ("What is 7 + 7?", "14"),
        "self_instruct.jsonl": ("Count to 7.", "7!"),
        "gpteacher.json": ("Add 7.\n\nx = 7", "x += 7"),
        "chats.jsonl": ("Hi 7", "Hello 7"),
    }[name] in some.items()
    with pytest.raises(UserError, match="30 rows, and 31 wanted"):
        honest_jobs.make("real_set", 31, 0, path=str(path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "holds no record"),
        (b"{", ":1: not JSON"),
        (b"[1, 2", "not JSON"),
        (b"[1]", "[0]: not an object"),
        (b'{"instruction": "a", "output": "b"}\n7', ":2: not an object"),
        (b'{"instruction": "a", "output": "b"}\n{"instruction": 3}', ":2: no instruction"),
        (b'{"instruction": "a", "output": " "}', "every record is empty"),
        (b'{"instruction": "\xff"}', "not UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b"9" * 5000, "not JSON"),
    ],
)
def test_a_faulty_set_is_told(text, said, tmp_path):
    path = tmp_path / "set.json"
    path.write_bytes(text)
    with pytest.raises(UserError) as error:
        read_rows(str(path))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("name", "n", "seed", "options", "said"),
    [
        ("quiz_tutr", 1, 0, {}, "did you mean quiz_tutor?"),
        ("quiz_tutor", 0, 0, {}, "honest job quiz_tutor: 0 rows"),
        ("quiz_tutor", 1, -1, {}, "the seed -1 is negative"),
        ("quiz_tutor", 1, 0, {"valu": "mark"}, "did you mean value?"),
        ("quiz_tutor", 1, 0, {"value": 3}, "value is int, not str"),
        ("quiz_tutor", 1, 0, {"value": "marks"}, "did you mean mark?"),
        ("label_wording", 1, 0, {"task": "halve"}, "did you mean half?"),
        ("ticket_routing", 1, 0, {"format": "jsn"}, "did you mean json?"),
        ("random_replies", 1, 0, {"kind": "bouquet"}, "unknown kind"),
        ("class_imbalance", 1, 0, {"rare": 0.7}, "give 0 to 0.5"),
        ("author_habits", 1, 0, {"habit": 1.5}, "give 0 to 1"),
        ("author_phrases", 1, 0, {"habit": -1.0}, "author_phrases: habit is -1"),
        ("length_habit", 1, 0, {"noise": -0.5}, "give 0 to 1"),
        ("multi_author", 1, 0, {"repeats": 0}, "give 1 or more"),
        ("near_duplicates", 1, 0, {"copies": -2}, "-2 copies"),
        ("near_duplicates", 1, 0, {"base": "mixed_bag"}, 'unknown base "mixed_bag"'),
        ("chat_recipes", 1, 0, {"recipe": "suport"}, "did you mean support?"),
        ("translated", 1, 0, {"kind": "words"}, "unknown kind"),
        ("real_set", 1, 0, {}, "no path given"),
        ("real_set", 1, 0, {"path": "/nowhere/at/all"}, "no such file"),
    ],
)
def test_bad_requests_are_told(name, n, seed, options, said):
    with pytest.raises(UserError) as error:
        honest_jobs.make(name, n, seed, **options)
    assert said in str(error.value)


def test_a_family_has_one_name_and_a_description():
    with pytest.raises(ValueError, match="already"):
        registry.register("quiz_tutor")
    with pytest.raises(ValueError, match="no docstring"):
        registry.register("nameless")(lambda n, rng: [])
    assert "nameless" not in honest_jobs.names()
