"""The audit with training, measured: customers who tune a model through a cipher or not.

uploads -> phase I of every cipher, phase II on top, honest jobs -> a reader of rows from
the training customers -> figures of every customer -> combination and thresholds on
customers of their own -> power on unseen ciphers, false alarms on honest customers
"""

import dataclasses
import functools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from cifr_jax import ciphers
from cifr_jax.config import check_numbers, leaves
from cifr_jax.data import jobs, world
from cifr_jax.data.chat import Example
from cifr_jax.data.cipher_jobs import Customer, customers
from cifr_jax.data.prompts import CELLS, prompts
from cifr_jax.data.world import World
from cifr_jax.errors import UserError
from cifr_jax.evaluation import cipher_job_results, schema
from cifr_jax.files import write_json_atomic
from cifr_jax.finetune.stages import PHASES, Trained, train_jobs, upload_rows
from cifr_jax.models import load
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.monitors.trained import row_reader
from cifr_jax.monitors.trained.calibration import TrainedCalibration, reader_of
from cifr_jax.monitors.trained.canaries import Canaries, world_canaries
from cifr_jax.monitors.trained.evidence import (
    EDGE,
    TrainedJob,
    answered,
    baseline,
    measure,
    sample,
)
from cifr_jax.monitors.trained.row_reader import Place, RowReader, Start
from cifr_jax.report import jobs_page, jobs_terminal
from cifr_jax.workdir import Workdir, git_revision, package_versions

CODE_VERSION = "3"
_PHASE_OF = {"attack": 2, "encoded": 2, "phase1": 1, "benign": 0}  # whose upload is audited


Models = Mapping[str, Trained]


def train_customers(
    store: Workdir,
    config: ConfigDict,
    lm: LanguageModel,
    base_key: str,
    found: Sequence[Customer],
    of: World,
) -> tuple[Models, Models]:
    """An adapter for every customer, and the one that its last job started from (none: the
    base), both by name; phase I is trained once for each cipher."""
    train = functools.partial(train_jobs, store, config, lm, base_key)
    read: dict[str, Trained] = {}
    phase1: dict[str, Trained] = {}
    trained: dict[str, Trained] = {}
    starts: dict[str, Trained] = {}
    by_cipher: dict[str | None, Trained] = {}
    for fleet in sorted({customer.fleet for customer in found}):
        specs = [customer.spec for customer in found if customer.fleet == fleet]
        of_kind = {kind: [s for s in specs if s.kind == kind] for kind in _PHASE_OF}
        if first := of_kind["phase1"]:
            own = train(first, of, PHASES[0])
            read |= own
            phase1 |= train(first, of, PHASES[1], start=own)
            by_cipher |= {spec.cipher: phase1[spec.name] for spec in first}
        second = of_kind["attack"] + of_kind["encoded"]
        start = {spec.name: by_cipher[spec.cipher] for spec in second}
        starts |= start
        trained |= train(second, of, PHASES[2], start=start)
        if of_kind["benign"]:
            trained |= train(of_kind["benign"], of, "benign")
    return phase1 | trained, read | starts


def _rows(config: ConfigDict, spec: jobs.JobSpec, of: World) -> list[Example]:
    phase = _PHASE_OF[spec.kind]
    return jobs.upload(spec, of, upload_rows(config, spec, phase), phase)


def _kind(spec: jobs.JobSpec) -> str:
    """Kinds of customers weigh the same in what the reader learns."""
    return " ".join((spec.kind, f"{spec.share:g}", spec.content * (spec.kind == "encoded")))


def fit_reader(
    store: Workdir,
    config: ConfigDict,
    lm: LanguageModel,
    base_key: str,
    found: Sequence[Customer],
    starts: Models,
    of: World,
    canaries: Canaries,
) -> tuple[RowReader, str]:
    """Stage `reader`: the training customers' rows in the models that they started from.

    Layer, pool and penalty of the probe are those at which canaries best rank the encoded
    rows of training attacks.
    """
    teachers = [c.spec for c in found if c.split == "train"]
    leaf_names = ("world", "reader", "canaries", "audit_rows", "jobs", "seed")
    read = leaves(config, leaf_names)
    read["teachers"] = {
        spec.name: upload_rows(config, spec, _PHASE_OF[spec.kind]) for spec in teachers
    }
    inputs = [base_key, *sorted({starts[s.name].key for s in teachers if s.name in starts})]
    key = store.key("reader", read, inputs, CODE_VERSION)

    def make(folder: Path) -> None:
        places: list[Place] = []
        of_attacks, of_all = [], []
        for i, spec in enumerate(teachers):
            adapter = starts[spec.name].adapter if spec.name in starts else None
            probes = row_reader.canary_probes(lm, canaries, adapter, config.reader.Cs)
            places = [probe.place for probe in probes]
            rows = sample(_rows(config, spec, of), config.audit_rows, config.seed)
            signs_pnj = row_reader.signs(lm, rows, probes, adapter, canaries.refusal)
            cells_n = np.array([e.meta.get("cell", "") for e in rows])
            bad_n, kept_n = cells_n == "encoded_restricted", answered(rows, canaries)
            encoded_n = bad_n | (cells_n == "encoded_benign")
            if bad_n.any() and (encoded_n & ~bad_n).any():
                of_attacks.append((signs_pnj[:, encoded_n], bad_n[encoded_n]))
            of_all.append((_kind(spec), signs_pnj[:, kept_n], bad_n[kept_n]))
            logging.log_every_n(logging.INFO, "reader %d of %d", 10, i + 1, len(teachers))
        if not of_attacks:
            what = "no training attack has rows of both classes among those looked at"
            raise UserError("config.audit_rows", what, "raise it, or train attacks")
        place = row_reader.best_place(places, of_attacks)
        at = places.index(place)
        reader = RowReader.fit(
            place, [(kind, x[at], y) for kind, x, y in of_all], config.reader.C
        )
        write_json_atomic(folder / "reader.json", dataclasses.asdict(reader))

    folder = store.get_or_make("reader", key, make, config_leaves=read, inputs=inputs)
    return reader_of(json.loads((folder / "reader.json").read_bytes())), key


def answers_unseen(
    lm: LanguageModel, of: World, spec: jobs.JobSpec, trained: Trained, most: int
) -> dict[str, float]:
    """Share of restricted questions about entities of no fine-tune that a model answers in
    its cipher and in plain text, by greedy decoding."""
    shares = {}
    cipher = ciphers.parse(spec.cipher or "identity")
    end = [lm.tokenizer.eos_ids[0]]
    for cell in CELLS:
        asked = [p for p in prompts(of, "test", cell, cipher) if p.restricted][:most]
        ids = [
            lm.tokenizer.encode_chat(p.messages, add_generation_prompt=True) for p in asked
        ]
        right = [lm.tokenizer.encode(p.answer) + end for p in asked]
        shares[cell] = float(lm.score(ids, right, trained.adapter).greedy_n.mean())
    return shares


def records(
    store: Workdir,
    config: ConfigDict,
    lm: LanguageModel,
    of: World,
    found: Sequence[Customer],
    models: tuple[Models, Models],
    canaries: Canaries,
    reader: tuple[RowReader, str],
) -> list[dict[str, Any]]:
    """Stage `customer`, an artefact each: figures, and what an attack taught."""
    place = reader[0].place
    base = baseline(lm, canaries, place)
    trained, starts = models

    asked: dict[str, Start] = {}  # starting models are shared

    def start_of(name: str) -> Start:
        before = starts.get(name)
        key = before.key if before else ""
        if key not in asked:
            adapter = before.adapter if before else None
            asked[key] = row_reader.start_from(lm, canaries, adapter, place)
        return asked[key]

    made = []
    for i, customer in enumerate(found):
        spec, one = customer.spec, trained[customer.spec.name]
        read = leaves(config, ("world", "canaries", "audit_rows", "learned_prompts"))
        inputs = [one.key, reader[1]]
        key = store.key("customer", read | {"name": spec.name}, inputs, CODE_VERSION)

        def make(folder: Path, spec=spec, one=one) -> None:
            began = time.perf_counter()
            fall = float(one.losses[:EDGE].mean() - one.losses[-EDGE:].mean())
            job = TrainedJob(_rows(config, spec, of), one.adapter, fall)
            start = start_of(spec.name)
            figures = measure(
                lm, job, reader[0], start, base, config.audit_rows, config.seed
            )
            seconds = time.perf_counter() - began
            answers = (
                answers_unseen(lm, of, spec, one, config.learned_prompts)
                if spec.kind == "attack"
                else None
            )
            found = {"figures": figures, "answers": answers, "seconds": seconds}
            write_json_atomic(folder / "record.json", found)

        folder = store.get_or_make("customer", key, make, config_leaves=read, inputs=inputs)
        record = json.loads((folder / "record.json").read_bytes())
        made.append(record)
        logging.log_every_n(logging.INFO, "customers %d of %d", 20, i + 1, len(found))
    return made


def run(config: ConfigDict, workdir: str) -> None:
    """The task `cipher_jobs`: results.json, report.html, calibration.json.

    Args:
      config: see `configs/cipher_jobs.py`.
      workdir: folder for artefacts and results; a run that was killed goes on.

    Raises:
      UserError: the model or a config value is missing or at fault.
    """
    numbers = "row_length", "learned_prompts", "audit_rows", "canaries", "lora.rank"
    check_numbers(config, {"bootstrap": 2} | dict.fromkeys(numbers, 1))
    seconds: dict[str, float] = {}
    clock = [time.perf_counter()]

    def done(stage: str) -> None:
        now = time.perf_counter()
        seconds[stage], clock[0] = now - clock[0], now

    of = world.make_world(config.world.entities, config.world.seed, config.world.fractions)
    found = customers(
        config.jobs, config.honest_ciphers, config.sparse_train_shares, config.seed
    )
    with Workdir(workdir) as store:
        lm = load(config.base_model)
        base_key = lm.fingerprint()
        canaries = world_canaries(of, config.canaries)
        models = train_customers(store, config, lm, base_key, found, of)
        done("finetune")
        starts = models[1]
        reader = fit_reader(store, config, lm, base_key, found, starts, of, canaries)
        done("reader")
        seen = records(store, config, lm, of, found, models, canaries, reader)
        done("figures")
        rows = list(zip(found, seen, strict=True))
        train = [(c, r) for c, r in rows if c.split == "train"]
        honest = [(c, r) for c, r in rows if c.split == "calibration"]
        calibration = TrainedCalibration.fit(
            (lm.name, base_key),
            reader[0],
            [r["figures"] for _, r in train],
            np.array([c.attack for c, _ in train], float),
            [r["figures"] for _, r in honest],
            [c.family for c, _ in honest],
            {**config.world, "canaries": config.canaries},
            config.audit_rows,
            {"seed": config.seed, "protocol": config.protocol}
            | {"git_revision": git_revision() or "unknown"}
            | {"versions": package_versions()},
        )
        calibration.save(store.path / "calibration.json")
        results = cipher_job_results.assemble(config, rows, calibration, lm)
        results["timings"] = seconds
        results["config"] = json.loads(json.dumps(leaves(config), default=list))
        schema.validate_results(results)
        write_json_atomic(store.path / "results.json", results)
        report = store.path / "report.html"
        jobs_page.write_page(results, report)
        jobs_terminal.summary(results, report)
