"""JSON of model folders: what is not read, and where the fault is."""

import pytest

from cifr_jax.errors import UserError
from cifr_jax.models.json_file import read_json


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        (b'{"a": 1, "b": 2, "a": 1}', "", r"not usable JSON \('a' stands twice\); correct"),
        (b'{"a": {"b": 1, "b": 2}}', "", r"not usable JSON \('b' stands twice\)"),
        (b'[{"b": 1, "b": 2}]', "", r"not usable JSON \('b' stands twice\)"),
        (b'{"a": 1,\n}', ":2", "not JSON"),
        (b"", ":1", "not JSON"),
        (b"[1]", "", "not a JSON object"),
        (b'{"a": "b\xff"}', "", r"not UTF-8 \(byte 8\)"),
        (b'{"a": ' * 100_000, "", "JSON nested too deeply"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "", "not usable JSON"),
    ],
)
def test_what_is_refused(tmp_path, content, where, what):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^{path}{where}: {what}") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def test_a_name_that_stands_twice_is_told_in_a_line(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"%s": 1, "%s": 2}' % (("a" * 100_000,) * 2))
    with pytest.raises(UserError, match="stands twice") as caught:
        read_json(path)
    assert len(str(caught.value)) < 300 + len(str(path))


def test_one_name_in_two_objects_is_none_too_many(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"a": {"b": 1}, "c": {"b": 1}, "b": [{"b": 2}, {"b": 2}]}')
    assert read_json(path) == {"a": {"b": 1}, "c": {"b": 1}, "b": [{"b": 2}, {"b": 2}]}


def test_a_missing_file(tmp_path):
    assert read_json(tmp_path / "none.json", missing_ok=True) == {}
    with pytest.raises(UserError, match="none.json: no such file"):
        read_json(tmp_path / "none.json")
