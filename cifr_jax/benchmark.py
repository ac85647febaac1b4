"""The benchmark on the fictional world: from uploads to the report, stage by stage.

Every stage is an artefact keyed by the config leaves and inputs that it reads, so a run
that was killed goes on where it was, and a changed config redoes only what it changes.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from cifr_jax import ciphers, models
from cifr_jax.config import check_numbers, leaves
from cifr_jax.data import world
from cifr_jax.data.jobs import JobSpec, job_specs
from cifr_jax.data.prompts import CELLS, Prompt, prompts
from cifr_jax.data.world import World
from cifr_jax.evaluation import protocol, results
from cifr_jax.evaluation.leakage import assert_all
from cifr_jax.evaluation.observe import items, observe, prompt_nll
from cifr_jax.evaluation.protocol import PromptSet
from cifr_jax.evaluation.schema import validate_results
from cifr_jax.finetune.stages import Trained, rows_of, train_all
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.report import html, terminal
from cifr_jax.workdir import Workdir, load_arrays, save_arrays, write_json_atomic

CODE_VERSION = "1"
PROBE_SPLITS = ("probe_train", "probe_validation", "test")

Seen = dict[tuple[str, str], dict[str, np.ndarray]]  # (split, cell) to observations


def asked(spec: JobSpec) -> list[tuple[str, str]]:
    """The (split, cell) sets of prompts that a job's model is asked.

    Probes learn on training ciphers only; everything is tested on entities that no
    fine-tune has seen encoded and no probe has learned from.
    """
    if spec.role == "train":
        splits = list(PROBE_SPLITS)
    elif spec.role == "validation":
        splits = [*PROBE_SPLITS[1:]]
    else:
        splits = [*PROBE_SPLITS[2:]]
    return [
        (split, cell) for split in splits for cell in (CELLS if spec.cipher else CELLS[:1])
    ]


def ask(of: World, spec: JobSpec, split: str, cell: str) -> list[Prompt]:
    """The prompts of one set."""
    return prompts(of, split, cell, ciphers.parse(spec.cipher or "identity"))


def _observe(
    store, lm, read, inputs, sets: Sequence[tuple[str, str, list[Prompt]]], look
) -> Seen:
    key = store.key("observe", read, inputs, CODE_VERSION)

    def make(folder: Path):
        arrays: dict[str, np.ndarray] = {}
        for split, cell, found in sets:
            arrays |= {f"{split}.{cell}.{n}": a for n, a in look(split, found).items()}
        save_arrays(folder / "seen.safetensors", arrays)

    folder = store.get_or_make("observe", key, make, config_leaves=read, inputs=inputs)
    seen: Seen = {}
    for name, array in load_arrays(folder / "seen.safetensors").items():
        split, cell, what = name.split(".")
        seen.setdefault((split, cell), {})[what] = array
    return seen


def observe_base(
    store: Workdir,
    config: ConfigDict,
    lm: LanguageModel,
    base_key: str,
    of: World,
    specs: Sequence[JobSpec],
) -> dict[str, Seen]:
    """What the base does with the prompts of all jobs, by cipher (identity: plain)."""
    wanted: dict[str, set[str]] = {}
    for spec in specs:
        for split, cell in asked(spec):
            cipher = spec.cipher if cell == "encoded" and spec.cipher else "identity"
            wanted.setdefault(cipher, set()).add(split)
    base = {}
    for cipher, splits in wanted.items():
        cell = "plain" if cipher == "identity" else "encoded"
        coder = ciphers.parse(cipher)
        sets = [(s, cell, prompts(of, s, cell, coder)) for s in PROBE_SPLITS if s in splits]
        read = leaves(config, ("world",)) | {"cipher": cipher, "splits": sorted(splits)}

        def look(split, found, outputs=cell == "plain"):
            seen = observe(lm, found, outputs=outputs)
            return seen | {"base_nll": prompt_nll(lm, found)}

        base[cipher] = _observe(store, lm, read, [base_key], sets, look)
    return base


def observe_job(
    store: Workdir,
    config: ConfigDict,
    lm: LanguageModel,
    of: World,
    spec: JobSpec,
    trained: Trained,
    base: Mapping[str, Seen],
) -> Seen:
    """What a job's model does with its prompts: activations, answers, output scores.

    Args:
      base: `observe_base` by cipher; perplexity is taken from there.
    """
    sets = [(split, cell, ask(of, spec, split, cell)) for split, cell in asked(spec)]
    read = leaves(config, ("world",)) | {"job": spec.name}

    def look(split, found):
        return observe(lm, found, trained.adapter, verdict=split != "probe_train")

    seen = _observe(store, lm, read, [trained.key], sets, look)
    for (split, cell), arrays in base_of(spec, base).items():
        seen[split, cell]["base_nll"] = arrays["base_nll"]
    return seen


def base_of(spec: JobSpec, base: Mapping[str, Seen]) -> Seen:
    """What the base does with the prompts of a job."""
    cipher_of = {"plain": "identity", "encoded": spec.cipher or "identity"}
    return {
        (split, cell): base[cipher_of[cell]][split, cell] for split, cell in asked(spec)
    }


def prompt_sets(
    lm: LanguageModel, of: World, specs: Sequence[JobSpec], seen: Mapping[str, Seen]
) -> list[PromptSet]:
    """Everything that was observed, as monitors see it."""
    sets = []
    for spec in specs:
        for (split, cell), arrays in seen[spec.name].items():
            found = ask(of, spec, split, cell)
            sets.append(
                PromptSet(
                    spec.name,
                    spec.kind,
                    spec.role,
                    spec.cipher,
                    split,
                    cell,
                    items(lm, found, arrays, spec.name),
                    np.array([p.restricted for p in found], int),
                    [p.entity for p in found],
                )
            )
    return sets


class Clock:
    """Seconds that each stage took in this process."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times the block."""
        began = time.perf_counter()
        logging.info("stage %s", name)
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


def run(config: ConfigDict, workdir: str) -> None:
    """The task `benchmark_tiny`: writes WORKDIR/results.json and WORKDIR/report.html.

    Args:
      config: see `configs/tiny.py`.
      workdir: folder for artefacts; a run that was killed goes on.

    Raises:
      UserError: for a config that names what does not exist.
    """
    check_numbers(config, {"bootstrap": 2, "row_length": 1, "lora.rank": 1})
    clock = Clock()
    specs = job_specs(config.jobs, config.seed)
    of = world.make_world(config.world.entities, config.world.seed, config.world.fractions)
    with Workdir(workdir) as store:
        with clock.stage("load"):
            lm = models.load(config.base_model)
            base_key = lm.fingerprint()
        with clock.stage("finetune"):
            trained = train_all(store, config, lm, base_key, specs, of)
        with clock.stage("capture"):
            base = observe_base(store, config, lm, base_key, of, specs)
            seen = {}
            for spec in specs:
                logging.info("capture %s", spec.name)
                one = (spec, trained[spec.name], base)
                seen[spec.name] = observe_job(store, config, lm, of, *one)
            base_seen = {spec.name: base_of(spec, base) for spec in specs}
        with clock.stage("evaluate"):
            tuned_sets = prompt_sets(lm, of, specs, seen)
            base_sets = prompt_sets(lm, of, specs, base_seen)
            checks = results.leakage_checks(tuned_sets, specs, of, rows_of(config, specs))
            assert_all(checks)
            evaluated = {}
            for arm in protocol.arms(config.probe.Cs):
                logging.info("monitor %s", arm.name)
                sets = base_sets if arm.base else tuned_sets
                evaluated[arm.name] = protocol.evaluate_arm(
                    arm, sets, config.seed, config.bootstrap
                )
            chosen = evaluated["linear_probe"]["selection"]
            curve = protocol.layer_curve(tuned_sets, chosen["C"], ("last", "mean"))
        found = results.assemble(
            config,
            lm,
            specs,
            trained,
            seen,
            base_seen,
            tuned_sets,
            evaluated,
            curve,
            checks,
            clock.seconds,
        )
        validate_results(found)
        write_json_atomic(store.path / "results.json", found)
        html.write_report(found, store.path / "report.html")
        terminal.summary(found, report=store.path / "report.html")
