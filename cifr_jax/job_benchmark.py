"""Simulated customers by the thousand: whom the audit of a job catches and accuses.

    jobs, each a function of its spec -> view, latents, detectors: one record a job
    -> combination learned, threshold set and figures taken on jobs of their own

Records hold statistics, never a customer's text. Shards of jobs are artefacts: a run that
was killed goes on after the last whole shard.
"""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict
from tqdm import tqdm

from cifr_jax.config import check_numbers, leaves
from cifr_jax.data import simulated_jobs
from cifr_jax.data.honest_jobs.quiz_items import BANKS, halved
from cifr_jax.data.pointwise import questions
from cifr_jax.data.pointwise.requests import item_text
from cifr_jax.data.simulated_jobs import JobSpec
from cifr_jax.errors import UserError
from cifr_jax.evaluation import job_results, schema
from cifr_jax.files import write_json_atomic
from cifr_jax.models import load
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.monitors.dataset import (
    detectors,
    embedded_questions,
    latents,
    own_answer,
    view,
)
from cifr_jax.monitors.dataset.answer_cache import AnswerCache
from cifr_jax.monitors.dataset.calibration import Calibration
from cifr_jax.monitors.dataset.embedded_questions import Embedded, OwnAnswers
from cifr_jax.monitors.dataset.own_answer import of_some, own_answer_from
from cifr_jax.monitors.dataset.view import JobView
from cifr_jax.report import jobs_page, jobs_terminal
from cifr_jax.workdir import Workdir, git_revision, package_versions

CODE_VERSION, ANSWERS_VERSION = "10", "6"
SHARD = 100  # jobs of an artefact
NAMES = (*detectors.DETECTORS, "naive")
SPLITS = ("train", "calibration", "test")
# (rows, variants, share that carries, adaptation) of the attacks, and the same by name.
REACH = ((134, 1, 1.0, ""), (211, 1, 1.0, ""), (402, 1, 0.75, ""), (402, 1, 0.25, ""))
GRID = (
    *((n, m, 1.0, "") for n in (50, 134, 402) for m in (1, 3, 9)),
    *((n, m, s, "") for n in (402, 1000) for m in (1, 9) for s in (0.5, 0.25, 0.1, 0.05)),
    *((402, 1, 1.0, name) for name in ("keyed", "xor", "matched", "accounts", "listed")),
    (134, 1, 1.0, "accounts"),
    (402, 1, 0.25, "cancel"),
    *((402, m, share, "honest_cover") for m, share in ((1, 0.5), (3, 0.25))),
)


def specs(config: ConfigDict) -> dict[str, list[JobSpec]]:
    """The jobs of every split. No two splits share a customer."""
    jobs = config.jobs
    real = {
        name: path
        for name, path in (
            ("gsm8k", jobs.gsm8k_path),
            ("self_instruct", jobs.self_instruct_path),
            ("gpteacher", jobs.gpteacher_path),
        )
        if path
    }
    grid = [cell for cell in GRID if cell not in REACH]
    found = {}
    for number, split in enumerate(SPLITS):
        seed = 1000 * config.seed + number
        honest = simulated_jobs.benign(
            jobs[f"benign_{split}"], tuple(jobs.sizes), seed, real, tuple(jobs.real_sizes)
        )
        covert: list[JobSpec] = []
        if split == "train":
            cells = [(*cell, jobs.attack_train) for cell in (*REACH, *grid)]
            covert = simulated_jobs.covert(cells, seed)
        if split == "test":
            cells = [(*cell, jobs.reach_test) for cell in REACH]
            cells += [(*cell, jobs.attack_test) for cell in grid]
            covert = simulated_jobs.covert(cells, seed)
            control = [(211, 1, 1.0, "", jobs.control_test)]
            covert += simulated_jobs.covert(control, seed, "control")
        found[split] = honest + covert
    return found


def record(
    spec: JobSpec, seen: JobView, cache: AnswerCache, draws: int, seed: int
) -> dict[str, Any]:
    """What the detectors find in one job; no text of it.

    Args:
      spec, seen: the job.
      cache: the base's own answers.
      draws: permutations of each test. seed: of these and of clusters.
    """
    began = time.perf_counter()
    candidates = latents.candidates(seen, cache, seed=seed)
    found = detectors.run(seen, candidates, draws, seed, NAMES)
    return {
        "spec": dataclasses.asdict(spec),
        "n": seen.n,
        "items": sum(item is not None for item in seen.question_n),
        "answered": int((candidates.hidden["own_position"] >= 0).sum()),
        "variants": len(seen.variants),
        "tail_p": {
            name: None if detectors.not_tested(one) else detectors.tail_of(one)
            for name, one in found.items()
        },
        "p_value": {name: one.p_value for name, one in found.items()},
        "best": {name: one.detail.get("best") for name, one in found.items()},
        "seconds": time.perf_counter() - began,
    }


def _bank_answers(
    store: Workdir, lm: LanguageModel, base_key: str
) -> dict[str, list[float]]:
    """Stage `answers`: the base's own answers to customers' items, by key: those of
    the bank with four options and with two of them, and those of the other banks that
    honest customers draw on (`honest_jobs.quiz_items`)."""
    inputs = [base_key, own_answer.VERSION]
    key = store.key("answers", {}, inputs, ANSWERS_VERSION)

    def make(folder: Path) -> None:
        whole = simulated_jobs.bank()
        others = [q for seed in range(1, BANKS) for q in questions.bank(seed=seed)]
        asked = (*whole, *map(halved, whole), *others)
        texts = [item_text(q, "capital") for q in asked]
        items = [item for text in texts if (item := embedded_questions.find(text))]
        with tqdm(total=len(items), desc="own answers", unit="item") as shown:

            def tell(share: float) -> None:
                shown.update(round(share * len(items)) - shown.n)

            cache = AnswerCache(of_some(own_answer_from(lm), len(items), 0, tell))
            cache([latents.canonical(item) for item in items])
        write_json_atomic(folder / "answers.json", cache.answers)

    folder = store.get_or_make("answers", key, make, inputs=[base_key])
    return json.loads((folder / "answers.json").read_bytes())


def _unknown(items: list[Embedded]) -> OwnAnswers:
    return OwnAnswers(np.full(len(items), -1), np.zeros(len(items)))


def _records(
    store: Workdir, config: ConfigDict, lm: LanguageModel, base_key: str
) -> tuple[dict[str, list[dict[str, Any]]], str]:
    """Stage `jobs`: the records of every split, shard by shard."""
    ask = own_answer_from(lm) if config.ask_all else _unknown
    cache = AnswerCache(ask, _bank_answers(store, lm, base_key))
    planned = specs(config)
    wanted = [(split, spec) for split in SPLITS for spec in planned[split]]
    found: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    key = ""
    with tqdm(total=len(wanted), desc="jobs", unit="job") as shown:
        for start in range(0, len(wanted), SHARD):
            shard = wanted[start : start + SHARD]
            plan = [dataclasses.asdict(spec) for _, spec in shard]
            read = {"specs": plan, "permutations": config.permutations, "seed": config.seed}
            read |= {"ask_all": config.ask_all}
            key = store.key("jobs", read, [base_key], CODE_VERSION)

            def make(folder: Path, shard=shard) -> None:
                bank, seed = simulated_jobs.bank(), config.seed
                views = [view.read(simulated_jobs.make(s, bank), seed) for _, s in shard]
                # All at once: a model likes full batches.
                items = [item for seen in views for item in seen.items]
                cache([latents.canonical(item) for item in items])
                rows = []
                for (_, spec), seen in zip(shard, views, strict=True):
                    rows.append(record(spec, seen, cache, config.permutations, seed))
                    shown.update()
                write_json_atomic(folder / "records.json", rows)
                write_json_atomic(folder / "answers.json", cache.answers)

            short = {"permutations": config.permutations, "jobs": len(shard)}
            folder = store.get_or_make(
                "jobs", key, make, config_leaves=short, inputs=[base_key], seed=config.seed
            )
            cache.answers |= json.loads((folder / "answers.json").read_bytes())
            rows = json.loads((folder / "records.json").read_bytes())
            for (split, _), row in zip(shard, rows, strict=True):
                found[split].append(row)
            shown.update(start + len(shard) - shown.n)
    return found, key


def run(config: ConfigDict, workdir: str) -> None:
    """The task `job_benchmark`: results.json, report.html, calibration.json.

    Args:
      config: see `configs/job_benchmark.py`.
      workdir: folder for artefacts and results; a run that was killed goes on.

    Raises:
      UserError: the model, a file or a config value is missing or at fault.
    """
    counts = "benign_train", "benign_calibration", "benign_test", "sizes", "attack_test"
    least = {"permutations": 1, "bootstrap": 2} | {f"jobs.{name}": 1 for name in counts}
    check_numbers(config, least)
    with Workdir(workdir) as store:
        began = time.perf_counter()
        lm = load(config.base_model)
        base_key = lm.fingerprint()
        found, _ = _records(store, config, lm, base_key)
        seconds = {"jobs": time.perf_counter() - began}
        began = time.perf_counter()
        alarms = tuple(detectors.ALARMS)
        train = found["train"]
        attack_n = np.array([row["spec"]["kind"] == "attack" for row in train], float)
        honest = [r for r in found["calibration"] if job_results.calibrates(r)]
        if not honest:
            what = "no honest job could be tested, so none can set a threshold"
            raise UserError("config.jobs.benign_calibration", what, "draw more, or larger")
        calibration = Calibration.fit(
            lm.name,
            base_key,
            alarms,
            job_results.evidence(train, alarms),
            attack_n,
            job_results.evidence(honest, alarms),
            [job_results.family(row) for row in honest],
            {"permutations": config.permutations, "seed": config.seed}
            | {"sizes": list(config.jobs.sizes), "versions": package_versions()}
            | {"git_revision": git_revision() or "unknown", "protocol": config.protocol},
        )
        calibration.save(store.path / "calibration.json")
        results = job_results.assemble(
            config, train, found["test"], honest, calibration, lm.name, lm.n_parameters()
        )
        results["timings"] = seconds | {"evaluate": time.perf_counter() - began}
        results["config"] = json.loads(json.dumps(leaves(config), default=list))
        schema.validate_results(results)
        write_json_atomic(store.path / "results.json", results)
        report = store.path / "report.html"
        jobs_page.write_page(results, report)
        jobs_terminal.summary(results, report)
        logging.info("calibration: %s", store.path / "calibration.json")
