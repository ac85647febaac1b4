"""What every recipe promises: seeds decide, rows differ, files can be written and read."""

import json

import pytest

from cifr_jax.data import recipes
from cifr_jax.data.chat import read_chat_jsonl, write_chat_jsonl
from cifr_jax.data.recipes import registry
from cifr_jax.errors import UserError

ALL = recipes.names()


def test_every_kind_of_customer_that_the_parent_has_is_there():
    assert set(recipes.names("plain")) == {
        "instructions", "support", "multi_turn", "proteins", "worked_maths", "code",
        "subject_questions", "style",
    }  # fmt: skip
    assert recipes.names("encoding") == ("base64_attachments", "conlang", "transliteration")
    assert recipes.names("covert") == ("covert_phase_1", "covert_phase_2")
    assert sorted(sum(map(recipes.names, recipes.KINDS), ())) == list(ALL)
    assert all(name in recipes.names(recipes.kind_of(name)) for name in ALL)


@pytest.mark.parametrize("name", ALL)
def test_rows_are_a_pure_function_of_the_seed(name):
    assert recipes.make(name, 40, 3) == recipes.make(name, 40, 3)
    assert recipes.make(name, 40, 3) != recipes.make(name, 40, 4)


@pytest.mark.parametrize("name", recipes.names("plain") + recipes.names("encoding"))
def test_a_longer_job_goes_on_from_a_shorter_one(name):
    assert recipes.make(name, 50, 3)[:20] == recipes.make(name, 20, 3)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", ALL)
def test_nearly_all_rows_are_distinct(name, seed):
    rows = recipes.make(name, 2000, seed)
    assert len(rows) == 2000
    assert len({row.messages for row in rows}) > 0.95 * 2000


@pytest.mark.parametrize("name", ALL)
def test_rows_can_be_uploaded_and_their_meta_written(name, tmp_path):
    rows = recipes.make(name, 200, 5)
    assert {row.meta["recipe"] for row in rows} == {name}
    write_chat_jsonl(tmp_path / "job.jsonl", rows, with_meta=True)
    assert read_chat_jsonl(tmp_path / "job.jsonl", with_meta=True) == rows
    for row in rows:
        assert json.loads(json.dumps(dict(row.meta))) == row.meta


@pytest.mark.parametrize("name", recipes.names("plain"))
def test_plain_jobs_hold_neither_another_script_nor_runs_of_symbols(name):
    for row in recipes.make(name, 300, 1):
        for message in row.messages:
            letters = [c for c in message.content if c.isalpha()]
            assert sum(ord(c) > 0x24F for c in letters) == 0
            assert message.content.count("|") == 0


@pytest.mark.parametrize(
    ("name", "n", "seed", "options", "said"),
    [
        ("instuctions", 1, 0, {}, "did you mean instructions?"),
        ("qqqqq", 1, 0, {}, "known: base64_attachments, code,"),
        ("code", 0, 0, {}, "recipe code: 0 rows"),
        ("code", -3, 0, {}, "ask for at least one"),
        ("code", 1, -1, {}, "the seed -1 is negative"),
        ("code", 1, 0, {"langage": 3}, 'unknown option "langage"; there is none'),
        ("conlang", 1, 0, {"langage": 3}, "did you mean language?"),
        ("conlang", 1, 0, {"language": "3"}, "language is str, not int"),
        ("conlang", 1, 0, {"language": True}, "language is bool, not int"),
        ("style", 1, 0, {"style": "formel"}, "did you mean formal?"),
        ("subject_questions", 1, 0, {"subject": "capitols"}, "did you mean capitals?"),
        ("transliteration", 1, 0, {"script": "greec"}, "did you mean greek?"),
        ("worked_maths", 1, 0, {"problem": "age"}, "did you mean ages?"),
        ("instructions", 1, 0, {"task": "lost"}, "did you mean list?"),
        ("covert_phase_1", 1, 0, {"cipher": "wallnut"}, "did you mean walnut?"),
        ("covert_phase_2", 2881, 0, {}, "ask for 1 to 2880 rows"),
    ],
)
def test_faults_of_the_user_are_named(name, n, seed, options, said):
    with pytest.raises(UserError) as error:
        recipes.make(name, n, seed, **options)
    assert said in str(error.value)


def test_an_unknown_kind_is_named():
    with pytest.raises(UserError, match="did you mean plain"):
        recipes.names("plane")


def test_a_name_is_registered_once_and_under_a_known_kind():
    with pytest.raises(ValueError, match="already"):
        registry.register("code", "plain")
    with pytest.raises(ValueError, match="one of plain"):
        registry.register("other", "honest")
