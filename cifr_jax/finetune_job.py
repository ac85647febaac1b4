"""One fine-tuning job from an upload to an adapter: the task `finetune`."""

import contextlib
import functools
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
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cifr_jax import models
from cifr_jax.activations.trajectory import Trajectory
from cifr_jax.config import leaves
from cifr_jax.data import hub_sources, recipes
from cifr_jax.data.chat import Example, digest, read_chat_jsonl
from cifr_jax.data.packing import Packed, pack_chats
from cifr_jax.errors import UserError
from cifr_jax.files import write_json_atomic
from cifr_jax.finetune import fleet, plan
from cifr_jax.finetune.adapters import load_adapter, save_adapter
from cifr_jax.finetune.lora import LoraConfig, init_adapter, n_parameters
from cifr_jax.finetune.optimiser import TrainConfig
from cifr_jax.finetune.peft import load_peft, save_peft
from cifr_jax.finetune.progress import Progress
from cifr_jax.finetune.writers import open_writers
from cifr_jax.models import loading, sharding
from cifr_jax.models.decoder import Adapter
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
    found = TrainConfig(**settings, seed=config.seed)
    if config.rounds.every < 1 or config.rounds.every % found.chunk:
        what = f"{config.rounds.every} is no multiple of chunk {found.chunk}"
        raise UserError("config.rounds.every", what, "give a positive multiple")
    return found


def plan_of(config: ConfigDict) -> str:
    """What `run` would do and need, told without a weight being read.

    Raises:
      UserError: as `run`, but for faults of the weights.
    """
    examples = upload(config.job, config.seed)
    training, held_out = split(examples, config.job.held_out, config.seed)
    mesh = _mesh(config)
    source = loading.find(config.base_model, weights=False)
    base, tokenizer = source.read_settings()
    rows, _ = pack_chats(training, tokenizer, config.job.row_length, config.job.on_long)
    if config.job.adapter:
        start = load_peft(config.job.adapter, base)
    else:
        init = functools.partial(init_adapter, base=base, lora=LoraConfig(**config.lora))
        start = jax.eval_shape(init, jax.random.key(config.seed))
    one = mesh or jax.make_mesh((1, 1, 1), sharding.AXES, devices=jax.devices()[:1])
    stored = config.dtype, config.quantise
    settings = train_config(config, len(rows.tokens_rt))
    needs = plan.needs_of_device(base, stored, start, settings, rows, bool(held_out), one)
    called = f"{source.name}, {base.n_parameters():,} parameters"
    shown = tokenizer.render(training[0].messages)
    return plan.describe(called, stored, settings, rows, one, needs, shown)


def run(config: ConfigDict, workdir: str) -> None:
    """The task `finetune`: writes WORKDIR/adapter, WORKDIR/trajectory, WORKDIR/result.json.

    Args:
      config: see `configs/finetune.py`.
      workdir: folder for artefacts; a run that was killed goes on.

    Raises:
      UserError: for whatever is wrong with the config or the upload.
      fleet.NonFiniteLoss: training diverged; the last checkpoint is intact.
    """
    lead = jax.process_index() == 0
    if config.dry_run:
        told = plan_of(config)
        print(told if lead else "", flush=True)
        return
    # Process 0 alone writes; the others compute with it.
    with Workdir(workdir) if lead else contextlib.nullcontext() as store:
        examples = upload(config.job, config.seed)
        training, held_out = split(examples, config.job.held_out, config.seed)
        mesh = _mesh(config)
        lm = models.load(config.base_model, config.dtype, mesh, config.quantise)
        fingerprint = lm.fingerprint()
        how = (lm.tokenizer, config.job.row_length, config.job.on_long)
        rows, made_of = pack_chats(training, *how)
        held = pack_chats(held_out, *how)[0] if held_out else None
        settings = train_config(config, len(rows.tokens_rt))
        logging.info(
            "%d chats in %d rows of %d tokens (%.0f%% filled), %d held out, %d steps",
            len(training),
            *rows.tokens_rt.shape,
            100 * (rows.segment_rt > 0).mean(),
            len(held_out),
            settings.steps,
        )
        start, start_key = _start(config, lm)
        job = fleet.Job("upload", start, rows, settings, held, made_of)
        read = leaves(config, ("job", "lora", "train", "dtype", "quantise", "seed"))
        inputs = [fingerprint, _digest(rows, held), *start_key]
        key = Workdir.key("finetune", read, inputs, CODE_VERSION)
        checkpoint = Path(workdir) / "unfinished" / f"finetune-{key[:16]}"
        train = functools.partial(
            fleet.train, lm.config, lm.params, [job], checkpoint=checkpoint, mesh=mesh
        )
        made = _agreed(store is not None and store.finished("finetune", key))
        if store is None:
            if not made:
                train()
            return
        # Beside the artefacts: rounds are there to be read while training goes on.
        watched = store.path / "trajectory" / key[:16]

        def make(folder: Path) -> None:
            writers = open_writers(config.rounds.writers, watched, key[:16])
            try:
                with Progress("LoRA", settings.steps) as shown:
                    observe = _observer(config, lm, settings, held_out, watched, writers)
                    (tuned,) = train(progress=shown.update, observe=observe)
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
        rows_of: dict[str, Any] = {"rows": len(training), "held_out_rows": len(held_out)}
        rows_of |= {"upload": digest(examples)}
        _write_result(store.path, config, lm, _read(folder), key, rows_of)


def _start(config: ConfigDict, lm: LanguageModel) -> tuple[Adapter, list[str]]:
    """What training goes on from, and its digest where it is a customer's earlier job."""
    if not config.job.adapter:
        settings = LoraConfig(**config.lora)
        return init_adapter(jax.random.key(config.seed), lm.config, settings), []
    start = load_peft(config.job.adapter, lm.config, lm.params)
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(start):
        found.update(np.asarray(leaf).tobytes())
    return start, [found.hexdigest()]


def _write_result(
    path: Path,
    config: ConfigDict,
    lm: LanguageModel,
    tuned: fleet.Tuned,
    key: str,
    rows_of: dict[str, Any],
) -> None:
    source = {"seed": config.seed, "artefact": key, "versions": package_versions()}
    result = {
        "base_model": lm.name,
        "started_from": config.job.adapter,
        **rows_of,
        "steps": len(tuned.losses),
        "adapter_parameters": n_parameters(tuned.adapter),
        "loss_first": float(tuned.losses[:5].mean()),
        "loss_last": float(tuned.losses[-5:].mean()),
        "held_out": [{"step": s, "loss": x} for s, x in tuned.held_out],
        **source,
    }
    adapter = path / "adapter"
    shutil.rmtree(adapter, ignore_errors=True)  # of an earlier config
    save_peft(tuned.adapter, adapter, lm.config, config.base_model, provenance=source)
    if config.export_merged:
        shutil.rmtree(path / "merged", ignore_errors=True)
        models.export_merged(lm, tuned.adapter, path / "merged")
    write_json_atomic(path / "result.json", result)
    logging.info("adapter: %s; result: %s", adapter, result)


def _mesh(config: ConfigDict) -> Mesh | None:
    sizes = dict(config.mesh)
    if jax.process_count() > 1 and config.rounds.canaries:
        what = f"{config.rounds.canaries} canaries in {jax.process_count()} processes"
        mend = "set it to 0: activations are captured in one process"
        raise UserError("config.rounds.canaries", what, mend)
    if jax.process_count() > 1 and config.export_merged:
        what = f"export_merged in {jax.process_count()} processes"
        mend = "set it to False, and export from the adapter in one process"
        raise UserError("config.export_merged", what, mend)
    return sharding.make_mesh(sizes) if set(sizes.values()) != {1} else None


def _agreed(done: bool) -> bool:
    """What process 0 says."""
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(done)))


def _digest(rows: Packed, held: Packed | None) -> str:
    digest = hashlib.sha256()
    for array in (*rows, *(held or ())):
        digest.update(repr(array.shape).encode() + array.tobytes())
    return digest.hexdigest()


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
