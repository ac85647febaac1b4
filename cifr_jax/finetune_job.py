"""One fine-tuning job from an upload to an adapter: the task `finetune`."""

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from cifr_jax import models
from cifr_jax.activations.trajectory import Trajectory
from cifr_jax.config import leaves
from cifr_jax.data import hub_sources, recipes
from cifr_jax.data.chat import Example, read_chat_jsonl
from cifr_jax.data.packing import Packed, pack
from cifr_jax.data.tokenise import tokenise
from cifr_jax.errors import UserError
from cifr_jax.files import write_json_atomic
from cifr_jax.finetune import fleet
from cifr_jax.finetune.adapters import load_adapter, save_adapter
from cifr_jax.finetune.lora import LoraConfig, init_adapter, n_parameters
from cifr_jax.finetune.optimiser import TrainConfig
from cifr_jax.finetune.peft import save_peft
from cifr_jax.finetune.progress import Progress
from cifr_jax.finetune.writers import open_writers
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.workdir import Workdir, package_versions

CODE_VERSION = "1"


def upload(job: ConfigDict, seed: int) -> list[Example]:
    """The chats of a job: a local JSONL file, a recipe or a published set.

    Raises:
      UserError: for an unknown recipe or set, a broken file, or no row at all.
    """
    kind, _, name = job.data.partition(":")
    if kind == "recipe":
        if job.rows < 1:
            raise UserError("config.job.rows", f"{job.rows} rows of a recipe", "give 1 on")
        return recipes.make(name, job.rows, seed)
    if kind == "hub":
        found = list(hub_sources.load(name))
    else:
        found = read_chat_jsonl(job.data)
    return found[: job.rows] if job.rows else found


def split(
    examples: Sequence[Example], held_out: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Training and held-out chats; at least one is held out where the share is positive.

    Raises:
      UserError: nothing would be left to train on, or the share is none.
    """
    if not 0 <= held_out < 1:
        what = f"{held_out} is no share"
        raise UserError("config.job.held_out", what, "give a number from 0 to below 1")
    n = math.ceil(held_out * len(examples))
    if n >= len(examples):
        what = f"{len(examples)} rows, of which {n} would be held out"
        mend = "upload more rows, or set config.job.held_out=0"
        raise UserError("config.job.data", what, mend)
    order = np.random.default_rng(seed).permutation(len(examples))
    held = set(order[:n].tolist())
    kept = [e for i, e in enumerate(examples) if i not in held]
    return kept, [examples[i] for i in sorted(held)]


def packed(examples: Sequence[Example], lm: LanguageModel, job: ConfigDict) -> Packed:
    """Chats as packed rows, as `config.job` says."""
    rows = tokenise(examples, lm.tokenizer, job.row_length, job.on_long)
    return pack(*rows, job.row_length, lm.tokenizer.pad_id)


def train_config(config: ConfigDict, n_rows: int) -> TrainConfig:
    """The config group `train`, epochs turned into steps."""
    settings = dict(config.train)
    epochs = settings.pop("epochs")
    if not settings["steps"]:
        if epochs <= 0:
            mend = "give a positive number, or config.train.steps"
            raise UserError("config.train.epochs", f"{epochs} epochs", mend)
        size = settings["batch_rows"] * settings["accumulate"]
        settings["steps"] = max(1, math.ceil(epochs * n_rows / size))
    return TrainConfig(**settings, seed=config.seed)


def run(config: ConfigDict, workdir: str) -> None:
    """The task `finetune`: writes WORKDIR/adapter, WORKDIR/trajectory, WORKDIR/result.json.

    Args:
      config: see `configs/finetune.py`.
      workdir: folder for artefacts; a run that was killed goes on.

    Raises:
      UserError: for whatever is wrong with the config or the upload.
      fleet.NonFiniteLoss: training diverged; the last checkpoint is intact.
    """
    with Workdir(workdir) as store:
        examples = upload(config.job, config.seed)
        training, held_out = split(examples, config.job.held_out, config.seed)
        lm = models.load(config.base_model, config.dtype)
        rows = packed(training, lm, config.job)
        held = packed(held_out, lm, config.job) if held_out else None
        settings = train_config(config, len(rows.tokens_rt))
        if config.rounds.every < 1 or config.rounds.every % settings.chunk:
            what = f"{config.rounds.every} is no multiple of chunk {settings.chunk}"
            raise UserError("config.rounds.every", what, "give a positive multiple")
        logging.info(
            "%d chats in %d rows of %d tokens (%.0f%% filled), %d held out, %d steps",
            len(training),
            *rows.tokens_rt.shape,
            100 * (rows.segment_rt > 0).mean(),
            len(held_out),
            settings.steps,
        )
        tuned, adapter_key = _train(store, config, lm, settings, rows, held, held_out)
        result = {
            "base_model": lm.name,
            "rows": len(training),
            "held_out_rows": len(held_out),
            "steps": len(tuned.losses),
            "adapter_parameters": n_parameters(tuned.adapter),
            "loss_first": float(tuned.losses[:5].mean()),
            "loss_last": float(tuned.losses[-5:].mean()),
            "held_out": [{"step": s, "loss": x} for s, x in tuned.held_out],
            "artefact": adapter_key,
            "versions": package_versions(),
            "seed": config.seed,
        }
        adapter = store.path / "adapter"
        shutil.rmtree(adapter, ignore_errors=True)  # of an earlier config
        save_peft(
            tuned.adapter,
            adapter,
            lm.config,
            config.base_model,
            provenance={"seed": config.seed, "artefact": adapter_key}
            | {"versions": package_versions()},
        )
        write_json_atomic(store.path / "result.json", result)
        logging.info("adapter: %s; result: %s", adapter, result)


def _train(
    store: Workdir,
    config: ConfigDict,
    lm: LanguageModel,
    settings: TrainConfig,
    rows: Packed,
    held: Packed | None,
    held_out: Sequence[Example],
) -> tuple[fleet.Tuned, str]:
    """Stage `finetune`: the adapter and its losses as an artefact, with its trajectory."""
    read = leaves(config, ("job", "lora", "train", "dtype", "seed"))
    digest = hashlib.sha256()
    for array in (*rows, *(held or ())):
        digest.update(repr(array.shape).encode() + array.tobytes())
    inputs = [lm.fingerprint(), digest.hexdigest()]
    key = store.key("finetune", read, inputs, CODE_VERSION)
    checkpoint = store.path / "unfinished" / f"finetune-{key[:16]}"
    lora = LoraConfig(**config.lora)

    def make(folder: Path) -> None:
        start = init_adapter(jax.random.key(config.seed), lm.config, lora)
        job = fleet.Job("upload", start, rows, settings, held)
        # Beside the artefacts: rounds are there to be read while training goes on.
        watched = store.path / "trajectory" / key[:16]
        writers = open_writers(config.rounds.writers, watched, key[:16])
        try:
            with Progress("LoRA", settings.steps) as shown:
                (tuned,) = fleet.train(
                    lm.config,
                    lm.params,
                    [job],
                    checkpoint=checkpoint,
                    progress=shown.update,
                    observe=_observer(config, lm, settings, held_out, watched, writers),
                )
        finally:
            for writer in writers:
                writer.close()
        save_adapter(folder / "adapter.safetensors", tuned.adapter)
        write_json_atomic(
            folder / "losses.json",
            {"losses": tuned.losses.tolist(), "held_out": tuned.held_out},
        )

    folder = store.get_or_make(
        "finetune", key, make, config_leaves=read, inputs=inputs, seed=config.seed
    )
    shutil.rmtree(checkpoint, ignore_errors=True)
    return _read(folder), key


def _observer(config, lm: LanguageModel, settings, held_out, folder: Path, writers) -> Any:
    canaries = [
        lm.tokenizer.encode_chat(example.messages[:-1], add_generation_prompt=True)
        for example in held_out[: config.rounds.canaries]
        if len(example.messages) > 1
    ]
    if not canaries:
        return None
    return Trajectory(
        folder, lm, canaries, config.rounds.every, settings.steps, writers
    ).observe


def _read(folder: Path) -> fleet.Tuned:
    found: dict[str, Any] = json.loads((folder / "losses.json").read_bytes())
    return fleet.Tuned(
        load_adapter(folder / "adapter.safetensors"),
        np.array(found["losses"], np.float32),
        tuple((int(step), float(loss)) for step, loss in found["held_out"]),
    )
