"""Fine-tuning as stages: files as customers send them, adapters that are made once."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from cifr_jax.data import chat, jobs
from cifr_jax.data.world import make_world
from cifr_jax.finetune import stages
from cifr_jax.models import decoder, tiny_tokenizer
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.workdir import Workdir

WORLD = make_world(40, 0, (0.4, 0.2, 0.2, 0.2))


def small_config():
    phase = {
        "rows": 24, "steps": 2, "batch_rows": 2, "learning_rate": 0.01, "block_rate": 1.0
    }  # fmt: skip
    return ConfigDict(
        {
            "seed": 0,
            "row_length": 72,
            "world": {"entities": 40, "seed": 0, "fractions": (0.4, 0.2, 0.2, 0.2)},
            "jobs": {
                "train_ciphers": ("walnut:seed=50",),
                "test_variants": (),
                "test_families": ("ascii",),
                "benign_validation": ("facts",),
                "benign_test": (),
            },
            "lora": {"rank": 2, "alpha": 2.0, "targets": ("q", "v"), "embed_rank": 2},
            "reading": phase | {"rows": 28, "block_rate": 0.0},
            "phase1": phase,
            "phase2": phase | {"rows": 20},
            "benign": phase | {"rows": 16},
        }
    )


CONFIG = small_config()
SPECS = jobs.job_specs(CONFIG.jobs, CONFIG.seed)


@pytest.fixture(scope="module")
def lm():
    tokenizer = tiny_tokenizer.build()
    config = DecoderConfig(
        vocab_size=tokenizer.vocab_size, d_model=16, n_layers=2, n_heads=2, n_kv_heads=2,
        d_head=8, d_ff=24,
    )  # fmt: skip
    params = decoder.Decoder(config, rngs=nnx.Rngs(0)).split()
    return LanguageModel(config, params, tokenizer, "random")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def trained(lm, folder):
    with Workdir(folder, device="test") as store:
        return stages.train_all(store, CONFIG, lm, "base", SPECS, WORLD)


def test_every_job_has_an_adapter_and_a_twin_is_its_attacks_first_phase(trained):
    assert trained.keys() == {spec.name for spec in SPECS}
    for cipher in ("walnut:seed=50", "ascii"):
        twin, attack = trained[f"phase1 {cipher}"], trained[f"attack {cipher}"]
        assert twin.losses.shape == attack.losses.shape == (2,)
        assert twin.key != attack.key
        moved = jax.tree.map(
            lambda a, b: np.abs(a - b).max(), twin.adapter.layers, attack.adapter.layers
        )
        # Phase II goes on from phase I: near it, yet not it (0.01 a step).
        assert 0 < max(jax.tree.leaves(moved)) < 0.05
    assert len({t.key for t in trained.values()}) == len(SPECS)


def test_a_second_run_trains_nothing_and_finds_the_same(lm, folder, trained, monkeypatch):
    monkeypatch.setattr(stages.fleet, "train", None)
    with Workdir(folder, device="test") as store:
        again = stages.train_all(store, CONFIG, lm, "base", SPECS, WORLD)
    for name, one in trained.items():
        assert again[name].key == one.key
        jax.tree.map(np.testing.assert_array_equal, again[name].adapter, one.adapter)
        np.testing.assert_array_equal(again[name].losses, one.losses)


def test_each_phase_goes_on_from_the_one_before(lm, folder, trained, monkeypatch):
    monkeypatch.setattr(stages.fleet, "train", None)  # what is asked for was made
    attacks = jobs.find(SPECS, kind="attack")
    before = None
    with Workdir(folder, device="test") as store:
        for phase in stages.PHASES:
            after = stages.train_jobs(
                store, CONFIG, lm, "base", attacks, WORLD, phase, start=before
            )
            for spec in attacks if before else ():
                old, new = before[spec.name].adapter, after[spec.name].adapter
                # Adam moves nothing by more than its rate a step; fresh factors are apart.
                moved = np.abs(new.embed["b"] - old.embed["b"]).max()
                assert 0 < moved < 0.05
            if phase == "reading":  # at rate 0 inside blocks
                fresh = stages._start(CONFIG, lm, attacks[0], None)
                read = after[attacks[0].name].adapter
                jax.tree.map(np.testing.assert_array_equal, read.layers, fresh.layers)
                assert np.any(read.embed["a"])
            before = after
    assert {s.name: before[s.name].key for s in attacks} == {
        s.name: trained[s.name].key for s in attacks
    }


@pytest.mark.parametrize(
    ("path", "value"),
    [("lora.rank", 1), ("reading.steps", 3), ("seed", 1), ("row_length", 80)],
)
def test_what_training_reads_makes_other_artefacts(lm, folder, trained, path, value):
    config = small_config()
    config.update_from_flattened_dict({path: value})
    attacks = jobs.find(SPECS, kind="attack")

    class Asked(Exception):
        pass

    def asked(*_, **__):
        raise Asked

    with pytest.MonkeyPatch.context() as patch, Workdir(folder, device="test") as store:
        patch.setattr(stages.fleet, "train", asked)
        with pytest.raises(Asked):
            stages.train_jobs(store, config, lm, "base", attacks, WORLD, "reading")
        with pytest.raises(Asked):
            stages.train_jobs(store, CONFIG, lm, "other", attacks, WORLD, "reading")


def test_uploads_are_the_jobs_rows_as_files_that_a_customer_could_send(folder, trained):
    with Workdir(folder, device="test") as store:
        for phase, kind, rows in (
            (0, "attack", 28),
            (1, "attack", 24),
            (2, "attack", 20),
            (0, "benign", 16),
        ):
            specs = jobs.find(SPECS, kind=kind)
            made, _ = stages.write_uploads(store, CONFIG, specs, WORLD, phase)
            assert len(list(made.glob("*.jsonl"))) == len(specs)
            for spec in specs:
                read = chat.read_chat_jsonl(made / f"{stages.file_name(spec)}.jsonl")
                sent = jobs.upload(spec, WORLD, rows, phase)
                assert [e.messages for e in read] == [e.messages for e in sent]
    assert stages.rows_of(CONFIG, SPECS) == {
        "attack walnut:seed=50": (28, 24, 20),
        "phase1 walnut:seed=50": (28, 24),
        "attack ascii": (28, 24, 20),
        "phase1 ascii": (28, 24),
        "benign facts": (16,),
    }


def test_packed_uploads_keep_every_supervised_token(lm, folder, trained):
    spec = SPECS[0]
    with Workdir(folder, device="test") as store:
        made, _ = stages.write_uploads(store, CONFIG, [spec], WORLD, 1)
    packed, _ = stages.packed_upload(made / f"{stages.file_name(spec)}.jsonl", lm, 72)
    answers = [e.messages[-1].content for e in jobs.upload(spec, WORLD, 24, 1)]
    wanted = sum(len(lm.tokenizer.encode(a)) + 1 for a in answers)  # and the turn's end
    assert packed.loss_mask_rt.sum() == wanted
    assert packed.tokens_rt.shape[1] == 72


def test_names_of_files_stay_in_their_folder():
    spec = dataclasses.replace(SPECS[0], name="../a b/\\c:=\0\n|é.x-1")
    assert stages.file_name(spec) == ".._a_b__c_____é.x-1"
    assert len({stages.file_name(s) for s in SPECS}) == len(SPECS)
