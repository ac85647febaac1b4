"""Schema 1: the whole example passes, and one fault anywhere is named by its path."""

import copy
import json
import math
import re
from pathlib import Path
from runpy import run_path

import pytest

from cifr_jax.evaluation.schema import validate_results

_EXAMPLE = Path(__file__).parents[1] / "report" / "example_results.py"
RESULTS = run_path(str(_EXAMPLE))["example_results"]()
_OPTIONAL = {"layer_curve", "learned_gate", "config", "losses", "text", "limits"}


@pytest.fixture
def results():
    return copy.deepcopy(RESULTS)


def _fault(results, path, what=""):
    with pytest.raises(ValueError, match=f"^results.json: {re.escape(path)}: .*{what}"):
        validate_results(results)


def test_example_and_its_json_round_trip_pass(results):
    validate_results(results)
    validate_results(json.loads(json.dumps(results, allow_nan=False)))


@pytest.mark.parametrize("key", RESULTS)
def test_required_keys_are_required_and_the_rest_are_not(results, key):
    del results[key]
    if key in _OPTIONAL:
        validate_results(results)
    else:
        _fault(results, key, "missing")


@pytest.mark.parametrize("group", ["jobs", "rows", "job_rows", "layer_curve", "losses"])
def test_every_key_of_an_entry_is_required_unless_listed_as_optional(results, group):
    optional = {"refusals", "roc", "validation_auroc", "tpr_at_threshold"}
    for key in list(results[group][1]):
        spoilt = copy.deepcopy(results)
        del spoilt[group][1][key]
        if key in optional:
            validate_results(spoilt)
        else:
            _fault(spoilt, f"{group}[1].{key}", "missing")


_FAULTS = [
    ("schema", 2, "not one of 1"),
    ("schema", True, "not one of 1"),
    ("schema", "1", "not one of 1"),
    ("seed", 0.0, "not a whole number"),
    ("seed", True, "not a whole number"),
    ("protocol", None, "NoneType, not str"),
    ("base_model.parameters", -1, "below 0"),
    ("base_model.card.refusal_rate", 1.5, "outside"),
    ("timings.capture", -0.1, "below 0"),
    ("timings.capture", math.inf, "not finite"),
    ("jobs", {}, "dict, not list"),
    ("jobs[0]", [], "list, not dict"),
    ("jobs[2].kind", "Attack", "not one of 'attack'"),
    ("jobs[2].role", "test", "not one of"),
    ("jobs[2].learned", 1, "int, not bool"),
    ("jobs[0].attack_success.plain", -0.01, "outside"),
    ("jobs[0].utility.after", 97, "outside"),
    ("rows[3].level", "activation", "not one of"),
    ("rows[3].cell", "cipher", "not one of"),
    ("rows[3].n_positive", 1.5, "not a whole number"),
    ("rows[3].auroc", "0.9", "str, not a number"),
    ("rows[3].auroc", math.nan, "not finite"),
    ("rows[3].auroc", 1.0000001, "outside"),
    ("rows[3].tpr_at_fpr.0.01", True, "bool, not a number"),
    ("rows[3].ci95.auroc", [0.9, 0.8], "backwards"),
    ("rows[3].ci95.auroc", [0.9], "1 entries, not 2"),
    ("rows[3].ci95.tpr_at_1pct[1]", 1.2, "outside"),
    ("rows[3].roc[5]", [0.1, 0.2, 0.3], "3 entries, not 2"),
    ("rows[3].roc", [[0.0, 0.0]] * 101, "more than 100"),
    ("rows[3].seconds_per_1000", -1, "below 0"),
    ("job_rows[0].accuracy", 2, "outside"),
    ("selection.layer", 2.5, "not a whole number"),
    ("selection.threshold", math.nan, "not finite"),
    ("leakage_checks[1].passed", None, "NoneType, not bool"),
    ("layer_curve[4].auroc", -1, "outside"),
    ("losses[7].loss", math.nan, "not finite"),
    ("limits[0]", 3, "int, not str"),
    # Places where anything may stand, as long as strict JSON can hold it.
    ("environment.device", math.nan, "not finite"),
    ("config.seed", {1, 2}, "does not fit into JSON"),
    ("text.lora.steps", b"60", "does not fit into JSON"),
]


@pytest.mark.parametrize(("path", "value", "what"), _FAULTS)
def test_one_fault_is_named_by_its_path(results, path, value, what):
    steps = re.findall(r"0\.0\d+|[^.\[\]]+", path)
    place = results
    for step in steps[:-1]:
        place = place[int(step) if isinstance(place, list) else step]
    last = int(steps[-1]) if isinstance(place, list) else steps[-1]
    assert place[last] is not None  # the path exists: the fault is the value, not a typo
    place[last] = value
    _fault(results, path, what)


def test_undefined_rates_may_be_null_and_unknown_keys_may_stand(results):
    for key in (
        "auroc",
        "accuracy",
        "fpr_at_threshold",
        "seconds_per_1000",
        "cipher",
        "roc",
    ):
        results["rows"][0][key] = None
    results["rows"][0]["ci95"] = {"auroc": None, "tpr_at_1pct": None}
    results["rows"][0]["tpr_at_fpr"] = dict.fromkeys(("0.001", "0.01", "0.05"))
    results["jobs"][0] |= {"attack_success": None, "utility": None, "note": "free"}
    results["selection"] = dict.fromkeys(results["selection"])
    results["extra"] = {"nested": [1, None, "x", True]}
    validate_results(results)


def test_the_first_fault_is_the_one_named(results):
    results["rows"][1]["auroc"] = 2
    results["rows"][0]["accuracy"] = 3
    _fault(results, "rows[0].accuracy")


@pytest.mark.parametrize("whole", [None, [], "x", 1])
def test_a_whole_that_is_no_dict(whole):
    _fault(whole, "the whole", "not dict")


def test_keys_that_are_not_text_are_refused(results):
    results["environment"][3] = "x"
    _fault(results, "environment", "key 3 is not text")
