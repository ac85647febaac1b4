"""Leakage checks must fire on every injected leak and on checks of nothing."""

import pytest

from cifr_jax.evaluation import LeakageError, assert_all, check_disjoint, check_splits


def splits():
    return {
        name: {
            "prompt": [f"{name} question {i}" for i in range(3)],
            "group": [f"{name} entity {i}" for i in range(2)],
            "job": [f"{name} job"],
            "cipher": [cipher],
        }
        for name, cipher in [
            ("train", "walnut:seed=50"),
            ("validation", "walnut:seed=50"),
            ("test", "walnut:seed=52"),
        ]  # fmt: skip
    }


DECLARED = {
    "prompt": [("train", "validation", "test")],
    "group": [("train", "validation", "test")],
    "job": [("train", "validation", "test")],
    "cipher": [("train", "test"), ("validation", "test")],
}


def test_clean_splits_pass_and_every_pair_is_checked():
    checks = check_splits(splits(), DECLARED)
    assert_all(checks)
    assert len(checks) == 3 + 3 + 3 + 2
    assert len({c["name"] for c in checks}) == len(checks)
    assert all(set(c) == {"name", "passed", "detail"} for c in checks)


@pytest.mark.parametrize("field", ["prompt", "group", "job", "cipher"])
@pytest.mark.parametrize("source", ["train", "validation"])
def test_an_injected_leak_is_found_and_named(field, source):
    leaky = splits()
    leaky["test"][field] = [*leaky["test"][field], leaky[source][field][0]]
    checks = check_splits(leaky, DECLARED)
    failed = {c["name"] for c in checks if not c["passed"]}
    assert f"{field}: {source} / test" in failed
    assert all(name.startswith(field) for name in failed)
    with pytest.raises(LeakageError, match="1 shared"):
        assert_all(checks)


def test_a_check_of_nothing_fails():
    assert not check_disjoint("prompts", [], ["a"])["passed"]
    assert not check_disjoint("prompts", ["a"], [])["passed"]
    with pytest.raises(LeakageError, match="no leakage check"):
        assert_all([])


def test_the_report_of_a_long_prompt_is_short():
    check = check_disjoint("prompts", ["x" * 10_000], ["x" * 10_000])
    assert not check["passed"] and len(check["detail"]) < 150


def test_declarations_of_what_is_not_there_are_refused():
    with pytest.raises(ValueError, match="'tset' has no field 'job'"):
        check_splits(splits(), {"job": [("train", "tset")]})
    with pytest.raises(ValueError, match="has no field 'entity'"):
        check_splits(splits(), {"entity": [("train", "test")]})
    with pytest.raises(ValueError, match="two splits or more"):
        check_splits(splits(), {"job": ["train"]})
