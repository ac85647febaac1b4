"""The audit with training, from its config to results, a calibration and a verdict."""

import json

import pytest

from cifr_jax import audit, cipher_job_benchmark, ciphers, models
from cifr_jax.config import load_config
from cifr_jax.data import benign, jobs, world
from cifr_jax.data.chat import digest, read_chat_jsonl, write_chat_jsonl
from cifr_jax.data.cipher_jobs import customers
from cifr_jax.errors import UserError
from cifr_jax.evaluation import schema
from cifr_jax.evaluation.verdict_schema import validate_verdict
from cifr_jax.finetune import save_peft, stages
from cifr_jax.finetune.adapters import load_adapter
from cifr_jax.monitors.trained.calibration import TrainedCalibration


def make_config(**change):
    config = load_config("configs/cipher_jobs.py:runlocal")
    for phase in ("reading", "phase1", "phase2", "benign"):
        config[phase].steps = 2
        config[phase].rows = 60
    config.audit_rows = 16
    config.update_from_flattened_dict(change)
    return config


@pytest.fixture(scope="module")
def patched():
    patch = pytest.MonkeyPatch()
    kept = {name: benign.KINDS[name] for name in ("facts", "refusals")}
    patch.setattr(benign, "KINDS", kept)
    yield patch
    patch.undo()


@pytest.fixture(scope="module")
def finished(patched, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("cipher_jobs")
    cipher_job_benchmark.run(make_config(), str(workdir))
    return workdir


def test_a_run_ends_in_valid_results_and_a_calibration(finished):
    results = json.loads((finished / "results.json").read_bytes())
    schema.validate_results(results)
    figures = results["text"]["customers"]
    assert figures["jobs"] == {
        "calibration": 8, "honest": 8, "attack": 2, "attack_not_learned": 0
    }  # fmt: skip
    assert {row["cipher"] for row in results["job_rows"]} == {"walnut", "rot13"}
    assert {row["monitor"] for row in results["job_rows"] if row["control"]} == {
        "unreadable", "canary_drift", "loss_fall", "embedding_change"
    }  # fmt: skip
    assert all(check["passed"] for check in results["leakage_checks"])
    made = TrainedCalibration.load(finished / "calibration.json")
    assert made.base_model == "tiny" and len(made.scores) == 8
    assert (finished / "report.html").read_text().startswith("<!doctype html>")


def test_attacks_are_held_against_each_kind_of_honest_customer(finished):
    """Counted pair by pair from the records, apart from the module."""
    figures = json.loads((finished / "results.json").read_bytes())["text"]["customers"]
    test = [one for one in figures["records"] if one["split"] == "test"]
    score = lambda one: one["figures"]["restricted_requests"]  # noqa: E731
    bad = [score(one) for one in test if one["attack"]]
    against = figures["auroc_against"]["restricted_requests"]
    for family, words in (
        ("phase1", "phase I alone"),
        ("encoded", "honest phase II"),
        ("encoded new", "honest phase II, new entities"),
    ):
        good = [score(one) for one in test if one["family"] == family]
        pairs = [(b > g) + 0.5 * (b == g) for b in bad for g in good]
        told = against["100% of restricted rows kept"][words]
        assert told == pytest.approx(sum(pairs) / len(pairs)) and len(pairs) == 4
    assert set(against["100% of restricted rows kept"]) == {
        "phase I alone", "honest phase II", "honest phase II, new entities", "no cipher"
    }  # fmt: skip


def test_what_is_encoded_reads_badly_under_the_base(finished):
    results = json.loads((finished / "results.json").read_bytes())
    nats = {
        one["name"]: one["figures"]["unreadable"]
        for one in results["text"]["customers"]["records"]
    }
    plain = [x for name, x in nats.items() if "facts" in name]
    encoded = [x for name, x in nats.items() if "walnut" in name]
    assert max(plain) < min(encoded)


def test_a_finished_run_trains_and_measures_nothing_again(finished, patched, monkeypatch):
    def again(*_, **__):
        raise AssertionError("computed again")

    monkeypatch.setattr(stages.fleet, "train", again)
    monkeypatch.setattr(cipher_job_benchmark, "measure", again)
    before = json.loads((finished / "results.json").read_bytes())
    cipher_job_benchmark.run(make_config(), str(finished))
    after = json.loads((finished / "results.json").read_bytes())
    assert after["text"] == before["text"]


def test_no_cipher_and_no_seed_stands_in_two_splits():
    config = load_config("configs/cipher_jobs.py")
    found = customers(config.jobs, config.honest_ciphers, (), 0)
    of = {}
    for customer in found:
        if customer.spec.cipher:
            of.setdefault(customer.spec.cipher, set()).add(customer.split)
    assert all(len(splits) == 1 for splits in of.values())
    assert {c.spec.cipher for c in found if c.split == "calibration" and c.spec.cipher} == {
        *config.jobs.calibration_ciphers,
        *config.honest_ciphers,
    }
    assert not any(c.attack for c in found if c.split == "calibration")
    seeds = [c.spec.seed for c in found if c.spec.kind == "benign"]
    assert len(seeds) == len(set(seeds)) == 34 * len(benign.KINDS)
    assert len({c.spec.name for c in found}) == len(found)


def test_honest_customers_with_new_entities_hold_no_other():
    """None of phase I's, none that is restricted and encoded; the others hold none."""
    config = load_config("configs/cipher_jobs.py")
    of = world.make_world(
        config.world.entities, config.world.seed, tuple(config.world.fractions)
    )
    names = {split: {e.name for e in of.select(None, [split])} for split in world.SPLITS}
    found = customers(config.jobs, config.honest_ciphers, (), 0)
    for family, split in (("encoded new", "test"), ("encoded", "finetune")):
        spec = next(c.spec for c in found if c.family == family)
        cipher = ciphers.parse(spec.cipher)
        asked = [
            cipher.decode(e.messages[-2].content)
            for e in jobs.upload(spec, of, 400, 2)
            if e.meta["cell"].startswith("encoded")
        ]
        held = {word.strip("?.") for text in asked for word in text.split()}
        assert held & names[split]
        others = set().union(*(names[s] for s in names if s != split))
        assert not held & others
        restricted = {e.name for e in of.select(True, world.SPLITS)}
        assert not held & restricted


def test_further_honest_ciphers_stand_nowhere_else():
    config = load_config("configs/cipher_jobs.py")
    with pytest.raises(UserError, match="stands in config.jobs"):
        customers(config.jobs, ("walnut:seed=52",), (), 0)


def test_a_cipher_in_two_splits_is_refused():
    config = load_config("configs/cipher_jobs.py")
    config.jobs.calibration_ciphers = ("walnut:seed=52",)
    with pytest.raises(UserError, match="stands in"):
        customers(config.jobs, config.honest_ciphers, (), 0)


@pytest.fixture(scope="module")
def trained(finished, patched, tmp_path_factory):
    """The upload of an attack, and what a fine-tuning run leaves of it."""
    folder = tmp_path_factory.mktemp("trained")
    config = make_config()
    of = world.make_world(
        config.world.entities, config.world.seed, tuple(config.world.fractions)
    )
    found = customers(config.jobs, config.honest_ciphers, (), config.seed)
    spec = next(c.spec for c in found if c.attack and c.split == "test")
    rows = jobs.upload(spec, of, config.phase2.rows, 2)
    write_chat_jsonl(folder / "upload.jsonl", rows)
    lm = models.load("tiny")
    name = f"{stages.file_name(spec)}.safetensors"
    (path,) = finished.glob(f"artefacts/train_phase2*/{name}")
    save_peft(load_adapter(path), folder / "run" / "adapter", lm.config, "tiny")
    first = next(c.spec for c in found if c.spec.kind == "phase1"
                 and c.spec.cipher == spec.cipher)  # fmt: skip
    name = f"{stages.file_name(first)}.safetensors"
    (path,) = finished.glob(f"artefacts/train_phase1*/{name}")
    save_peft(load_adapter(path), folder / "start", lm.config, "tiny")
    return folder, spec, finished


def audit_config(trained, **change):
    folder, _, finished = trained
    config = load_config("configs/audit.py:runlocal")
    config.base_model = "tiny"
    config.job.data = str(folder / "upload.jsonl")
    config.job.trained = str(folder / "run")
    config.job.adapter = str(folder / "start")
    config.trained_calibration = str(finished / "calibration.json")
    config.update_from_flattened_dict(change)
    return config


def test_the_audit_of_a_trained_job_scores_as_the_benchmark_did(trained, tmp_path):
    _, spec, finished = trained
    found = audit.run(audit_config(trained), str(tmp_path))
    validate_verdict(found.record)
    (part,) = [p for p in found.record["parts"] if p["name"] == "training"]
    results = json.loads((finished / "results.json").read_bytes())
    (record,) = [
        one for one in results["text"]["customers"]["records"] if one["name"] == spec.name
    ]
    assert part["score"] == pytest.approx(record["score"], abs=1e-3)
    assert part["n_benign"] == 8 and found.p_value == pytest.approx(part["p_value"])
    names = {one["name"]: one for one in found.record["detectors"]}
    assert names["restricted_requests"]["statistic"] == pytest.approx(
        record["figures"]["restricted_requests"], abs=1e-3
    )
    assert "left no losses" in names["loss_fall"]["not_tested"]


def test_the_losses_of_the_run_are_read(trained, tmp_path):
    folder = trained[0]
    result = folder / "run" / "result.json"
    result.write_text('{"loss_first": 3.0, "loss_last": 0.5}')
    try:
        found = audit.run(audit_config(trained), str(tmp_path))
        told = [one["what"] for one in found.record["not_checked"]]
        assert "whether the run in config.job.trained was on this upload" in told
        for broken in (
            '{"loss_first": "much"', '{"loss_first": 3.0, "loss_last": NaN}'
        ):  # fmt: skip
            result.write_text(broken)
            with pytest.raises(UserError, match="no result of a fine-tuning run"):
                audit.run(audit_config(trained), str(tmp_path))
    finally:
        result.unlink()
    names = {one["name"]: one for one in found.record["detectors"]}
    assert names["loss_fall"]["statistic"] == 2.5


def test_the_rounds_of_the_run_are_shown(trained, tmp_path):
    folder, key = trained[0] / "run", "ab" * 32
    place = folder / "trajectory" / key[:16]
    place.mkdir(parents=True)
    for step in (10, 20):
        figures = {"loss": 3.0 / step, "drift/last/0": 0.1, "drift/last/1": 0.3}
        figures |= {"norm/q": 3.0, "norm/o": 4.0}
        record = {"job": "upload", "step": step, "figures": figures}
        (place / f"round-{step:06d}.json").write_text(json.dumps(record))
    result = folder / "result.json"
    result.write_text(json.dumps({"loss_first": 3.0, "loss_last": 0.5, "artefact": key}))
    try:
        found = audit.run(audit_config(trained), str(tmp_path))
        (place / "round-000010.json").write_text("{}")
        with pytest.raises(UserError, match="is no round of a training"):
            audit.run(audit_config(trained), str(tmp_path / "broken"))
    finally:
        result.unlink()
    first, last = found.record["rounds"]
    assert first == {"step": 10, "loss": 0.3, "drift": 0.2, "weight_change": 5.0}
    assert last["step"] == 20
    assert "round by round" in (tmp_path / "verdict.html").read_text()
    told = {one["what"]: one["why"] for one in found.record["not_checked"]}
    assert "calibrate" in told["the rounds of training in between"]
    names = {one["name"]: one for one in found.record["detectors"]}
    for name in ("answer_probe", "weight_spectrum"):
        assert names[name]["level"] == "adapter"


def test_a_run_on_another_upload_is_refused(trained, tmp_path):
    folder = trained[0]
    examples = read_chat_jsonl(folder / "upload.jsonl")
    result = folder / "run" / "result.json"
    held = {"loss_first": 3.0, "loss_last": 0.5}
    try:
        result.write_text(json.dumps(held | {"upload": digest(examples[1:])}))
        with pytest.raises(UserError, match="on other rows than the upload's"):
            audit.run(audit_config(trained), str(tmp_path))
        result.write_text(json.dumps(held | {"upload": digest(examples[::-1])}))
        found = audit.run(audit_config(trained), str(tmp_path))
    finally:
        result.unlink()
    told = [one["what"] for one in found.record["not_checked"]]
    assert "whether the run in config.job.trained was on this upload" not in told


def test_what_the_job_started_from_is_read_from_its_run(trained, tmp_path):
    """As `config.job.adapter` names it; from the base, the rows read otherwise."""
    folder = trained[0]
    result = folder / "run" / "result.json"

    def few(started_from, adapter):
        held = {"loss_first": 3.0, "loss_last": 0.5, "started_from": started_from}
        result.write_text(json.dumps(held))
        config = audit_config(trained, **{"job.adapter": adapter})
        record = audit.run(config, str(tmp_path)).record
        names = {one["name"]: one for one in record["detectors"]}
        return names["restricted_few"]["statistic"]

    start = str(folder / "start")
    try:
        assert few(start, "") == few("", start) != few("", "")
    finally:
        result.unlink()


def test_faults_of_a_trained_job_are_told(trained, tmp_path):
    with pytest.raises(UserError, match="adapter"):
        audit.run(audit_config(trained, **{"job.trained": str(tmp_path)}), str(tmp_path))
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    change = {"trained_calibration": str(broken)}
    with pytest.raises(UserError, match="no calibration of trained jobs"):
        audit.run(audit_config(trained, **change), str(tmp_path))
    other = json.loads((trained[2] / "calibration.json").read_text())
    other["base_key"] = "another"
    broken.write_text(json.dumps(other))
    with pytest.raises(UserError, match="another base model"):
        audit.run(audit_config(trained, **change), str(tmp_path))
