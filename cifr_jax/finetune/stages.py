"""Fine-tuning as resumable stages of a benchmark: uploads, then adapters."""

import dataclasses
import functools
import shutil
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from cifr_jax.config import leaves
from cifr_jax.data import chat, jobs
from cifr_jax.data.jobs import JobSpec
from cifr_jax.data.packing import pack_chats
from cifr_jax.data.world import World
from cifr_jax.finetune import fleet, lora
from cifr_jax.finetune.adapters import load_adapter, save_adapter
from cifr_jax.finetune.optimiser import TrainConfig
from cifr_jax.finetune.progress import Progress
from cifr_jax.models.decoder import Adapter
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.workdir import Workdir, load_arrays, save_arrays

CODE_VERSION = "1"
PHASES = ("reading", "phase1", "phase2")  # uploads of an attack; phase I has two


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a job's training left.

    Attributes:
      adapter: its LoRA factors.
      losses: `[s]`, nats a supervised token.
      key: of the artefact.
    """

    adapter: Adapter
    losses: np.ndarray
    key: str


def file_name(spec: JobSpec) -> str:
    """A file name for a job: letters, digits, dots and dashes of its name."""
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in spec.name)


def packed_upload(path: Path, lm: LanguageModel, row_length: int):
    """Read an upload back from its JSONL, as a provider would, and pack it."""
    return pack_chats(chat.read_chat_jsonl(path), lm.tokenizer, row_length)


def write_uploads(
    store: Workdir, config: ConfigDict, specs: Sequence[JobSpec], of: World, phase: int
) -> tuple[Path, str]:
    """The uploads of a phase as OpenAI JSONL files, one a job. Returns folder and key."""
    rows = {s.name: upload_rows(config, s, phase) for s in specs}
    read = leaves(config, ("world", "jobs", "seed"))
    read |= {"phase": phase, "rows": rows}
    key = store.key("uploads", read, [], CODE_VERSION)

    def make(folder: Path):
        for spec in specs:
            examples = jobs.upload(spec, of, rows[spec.name], phase)
            chat.write_chat_jsonl(folder / f"{file_name(spec)}.jsonl", examples)

    return store.get_or_make(
        "uploads", key, make, config_leaves=read, seed=config.seed
    ), key


def upload_rows(config: ConfigDict, spec: JobSpec, phase: int) -> int:
    """How many rows a job's upload of a phase has."""
    return config.benign.rows if spec.kind == "benign" else config[PHASES[phase]].rows


def rows_of(config: ConfigDict, specs: Sequence[JobSpec]) -> dict[str, tuple[int, ...]]:
    """Uploaded rows of each phase, by job name."""
    return {
        spec.name: tuple(
            upload_rows(config, spec, phase)
            for phase in {"attack": (0, 1, 2), "phase1": (0, 1), "benign": (0,)}[spec.kind]
        )
        for spec in specs
    }


def train_jobs(
    store: Workdir,
    config: ConfigDict,
    lm: LanguageModel,
    base_key: str,
    specs: Sequence[JobSpec],
    of: World,
    phase: str,
    start: dict[str, Trained] | None = None,
) -> dict[str, Trained]:
    """Train one adapter for each job, all in one program.

    Args:
      store: where artefacts live; an unfinished training goes on from its checkpoint.
      config: with the groups `lora`, `world`, `jobs` and the one named `phase`.
      lm: the base model.
      base_key: identifies its weights.
      specs: the jobs, all of one phase.
      of: the world.
      phase: one of `PHASES`, or benign: the config group with steps, rows and rate.
      start: job name to the adapter that a phase goes on from; None: fresh ones.

    Returns:
      Job name to what training left.
    """
    number = PHASES.index(phase) if phase in PHASES else 0
    uploads, uploads_key = write_uploads(store, config, specs, of, number)
    read = leaves(config, ("lora", phase, "row_length", "seed"))
    inputs = [base_key, uploads_key] + [start[s.name].key for s in specs if start]
    key = store.key(f"train_{phase}", read, inputs, CODE_VERSION)
    checkpoint = store.path / "unfinished" / f"{phase}-{key[:16]}"
    settings = TrainConfig(
        steps=config[phase].steps,
        batch_rows=config[phase].batch_rows,
        learning_rate=config[phase].learning_rate,
        block_rate=config[phase].block_rate,
        seed=config.seed,
    )

    def make(folder: Path):
        made = [
            fleet.Job(
                spec.name,
                _start(config, lm, spec, start),
                rows,
                dataclasses.replace(settings, seed=config.seed + k),
                examples=made_of,
            )
            for k, spec in enumerate(specs)
            for rows, made_of in [
                packed_upload(uploads / f"{file_name(spec)}.jsonl", lm, config.row_length)
            ]
        ]
        with Progress(f"{phase}, {len(specs)} jobs", len(specs) * settings.steps) as shown:
            tuned = fleet.train(
                lm.config,
                lm.params,
                made,
                checkpoint=checkpoint,
                progress=shown.update,
            )
        for spec, one in zip(specs, tuned, strict=True):
            save_adapter(folder / f"{file_name(spec)}.safetensors", one.adapter)
        losses = np.stack([one.losses for one in tuned], axis=1)
        save_arrays(folder / "losses.safetensors", {"loss_sk": losses})

    folder = store.get_or_make(
        f"train_{phase}", key, make, config_leaves=read, inputs=inputs, seed=config.seed
    )
    shutil.rmtree(checkpoint, ignore_errors=True)
    loss_sk = load_arrays(folder / "losses.safetensors")["loss_sk"]
    return {
        spec.name: Trained(
            load_adapter(folder / f"{file_name(spec)}.safetensors"),
            loss_sk[:, k],
            f"{key}/{k}",
        )
        for k, spec in enumerate(specs)
    }


def _start(
    config, lm: LanguageModel, spec: JobSpec, start: dict[str, Trained] | None
) -> Adapter:
    if start is not None:
        return start[spec.name].adapter
    settings = lora.LoraConfig(**config.lora)
    return lora.init_adapter(jax.random.key(spec.seed), lm.config, settings)


def train_all(
    store: Workdir,
    config: ConfigDict,
    lm: LanguageModel,
    base_key: str,
    specs: Sequence[JobSpec],
    of: World,
) -> dict[str, Trained]:
    """All jobs of a benchmark: phase I of every cipher, phase II on top, honest jobs.

    A phase-I-only job is exactly the state in which its attack's second upload finds the
    adapter, so phase I is trained once for both.
    """
    train = functools.partial(train_jobs, store, config, lm, base_key)
    attacks, twins = jobs.find(specs, kind="attack"), jobs.find(specs, kind="phase1")
    honest = jobs.find(specs, kind="benign")
    trained: dict[str, Trained] = {}
    if attacks:
        phase1 = train(attacks, of, "phase1", start=train(attacks, of, "reading"))
        for attack, twin in zip(attacks, twins, strict=True):
            trained[twin.name] = phase1[attack.name]
        trained |= train(attacks, of, "phase2", start=phase1)
    if honest:
        trained |= train(honest, of, "benign")
    return trained
