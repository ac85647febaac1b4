"""The audit with training, measured: customers who tune a model through a cipher or not.

uploads -> phase I of every cipher, phase II on top, honest jobs -> a probe from the
training attacks -> figures of every customer -> combination and thresholds on customers
of their own -> power on unseen ciphers, false alarms on honest customers
"""

import functools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from cifr_jax import ciphers, monitors
from cifr_jax.config import leaves
from cifr_jax.data import jobs, world
from cifr_jax.data.cipher_jobs import Customer, customers
from cifr_jax.data.prompts import CELLS, prompts
from cifr_jax.data.world import World
from cifr_jax.evaluation import cipher_job_results, schema
from cifr_jax.evaluation.observe import items, observe
from cifr_jax.files import write_json_atomic
from cifr_jax.finetune.stages import PHASES, Trained, train_jobs
from cifr_jax.models import load
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.monitors.trained.calibration import TrainedCalibration
from cifr_jax.monitors.trained.canaries import world_canaries
from cifr_jax.monitors.trained.evidence import EDGE, TrainedJob, baseline, measure
from cifr_jax.monitors.trained.probe import ActivationProbe
from cifr_jax.report import jobs_page, jobs_terminal
from cifr_jax.workdir import Workdir, git_revision, package_versions

CODE_VERSION = "1"
_PHASE_OF = {"attack": 2, "encoded": 2, "phase1": 1, "benign": 0}  # whose upload is audited


def train_customers(
    store: Workdir,
    config: ConfigDict,
    lm: LanguageModel,
    base_key: str,
    found: Sequence[Customer],
    of: World,
) -> dict[str, Trained]:
    """An adapter for every customer, by name; phase I is trained once for each cipher."""
    train = functools.partial(train_jobs, store, config, lm, base_key)
    of_kind: dict[str, list[jobs.JobSpec]] = {kind: [] for kind in _PHASE_OF}
    for customer in found:
        of_kind[customer.spec.kind].append(customer.spec)
    first = of_kind["phase1"]
    phase1 = train(first, of, PHASES[1], start=train(first, of, PHASES[0]))
    by_cipher = {spec.cipher: phase1[spec.name] for spec in first}
    second = of_kind["attack"] + of_kind["encoded"]
    start = {spec.name: by_cipher[spec.cipher] for spec in second}
    trained = phase1 | train(second, of, PHASES[2], start=start)
    return trained | train(of_kind["benign"], of, "benign")


def fit_probe(
    store: Workdir,
    config: ConfigDict,
    lm: LanguageModel,
    found: Sequence[Customer],
    trained: Mapping[str, Trained],
    of: World,
) -> tuple[ActivationProbe, str]:
    """Stage `probe`: restricted against benign requests, plain and encoded, in the models
    of the training attacks; layer, pool and C by leaving one of them out."""
    teachers = [c.spec for c in found if c.split == "train" and c.attack]
    read = leaves(config, ("world", "probe"))
    inputs = [trained[spec.name].key for spec in teachers]
    key = store.key("probe", read, inputs, CODE_VERSION)

    def make(folder: Path) -> None:
        parts: dict[str, tuple[list, list]] = {}
        for split in ("probe_train", "probe_validation"):
            rows, labels = [], []
            for spec in teachers:
                cipher = ciphers.parse(spec.cipher or "identity")
                for cell in CELLS:
                    asked = prompts(of, split, cell, cipher)
                    seen = observe(lm, asked, trained[spec.name].adapter, outputs=False)
                    rows += items(lm, asked, seen, spec.name)
                    labels += [int(p.restricted) for p in asked]
            parts[split] = rows, labels
        monitor = monitors.get("linear_probe", Cs=config.probe.Cs)
        monitor.fit(*parts["probe_train"], *parts["probe_validation"])
        probe = ActivationProbe.of(monitor)
        write_json_atomic(folder / "probe.json", probe.__dict__)

    folder = store.get_or_make("probe", key, make, config_leaves=read, inputs=inputs)
    return ActivationProbe(**json.loads((folder / "probe.json").read_bytes())), key


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
    trained: Mapping[str, Trained],
    probe: tuple[ActivationProbe, str],
) -> list[dict[str, Any]]:
    """Stage `customer`, an artefact each: figures, and what an attack taught."""
    base = baseline(lm, world_canaries(of, config.canaries), probe[0])
    made = []
    for i, customer in enumerate(found):
        spec, one = customer.spec, trained[customer.spec.name]
        read = leaves(config, ("world", "canaries", "audit_rows", "learned_prompts"))
        inputs = [one.key, probe[1]]
        key = store.key("customer", read | {"name": spec.name}, inputs, CODE_VERSION)

        def make(folder: Path, spec=spec, one=one) -> None:
            phase = _PHASE_OF[spec.kind]
            n = config["benign" if spec.kind == "benign" else PHASES[phase]].rows
            began = time.perf_counter()
            fall = float(one.losses[:EDGE].mean() - one.losses[-EDGE:].mean())
            job = TrainedJob(jobs.upload(spec, of, n, phase), one.adapter, fall)
            figures = measure(lm, job, probe[0], base, config.audit_rows, config.seed)
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
    seconds: dict[str, float] = {}
    clock = [time.perf_counter()]

    def done(stage: str) -> None:
        now = time.perf_counter()
        seconds[stage], clock[0] = now - clock[0], now

    of = world.make_world(config.world.entities, config.world.seed, config.world.fractions)
    found = customers(config.jobs, config.seed)
    with Workdir(workdir) as store:
        lm = load(config.base_model)
        base_key = lm.fingerprint()
        trained = train_customers(store, config, lm, base_key, found, of)
        done("finetune")
        probe = fit_probe(store, config, lm, found, trained, of)
        done("probe")
        seen = records(store, config, lm, of, found, trained, probe)
        done("figures")
        rows = list(zip(found, seen, strict=True))
        train = [(c, r) for c, r in rows if c.split == "train"]
        honest = [(c, r) for c, r in rows if c.split == "calibration"]
        calibration = TrainedCalibration.fit(
            (lm.name, base_key),
            probe[0],
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
