"""The stages of the benchmark on real text that need a model, each an artefact.

Artefacts hold digests of prompts, activations and scores, never a prompt's text.

Legend: n prompts, l layers, d model width, s steps.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from cifr_jax.activations import capture_tokens
from cifr_jax.config import leaves
from cifr_jax.data.chat import Message
from cifr_jax.data.packing import Packed
from cifr_jax.data.sources import TextPrompt
from cifr_jax.errors import UserError
from cifr_jax.files import write_json_atomic
from cifr_jax.finetune import fleet, lora
from cifr_jax.finetune.adapters import load_adapter, save_adapter
from cifr_jax.finetune.loss import most_targets
from cifr_jax.finetune.optimiser import TrainConfig, program_of
from cifr_jax.finetune.progress import Progress
from cifr_jax.finetune.trainer import held_out_losses
from cifr_jax.models import LanguageModel, scoring
from cifr_jax.models.decoder import Adapter
from cifr_jax.workdir import DONE, Workdir, load_arrays, save_arrays

CODE_VERSION = "1"
_CAPTURE_ROWS, _SCORE_ROWS = 32, 8  # a batch's logits over a large vocabulary weigh more
_BUCKET = 32  # tokens: a compile for each bucket costs more than the padding


class Run:
    """One run: the store, the config, the model, and how stages become artefacts."""

    def __init__(self, store: Workdir, config: ConfigDict, lm: LanguageModel):
        self.store, self.config, self.lm = store, config, lm
        self.base_key = lm.fingerprint()
        self.seconds: dict[str, float] = {}

    def key(self, name: str, reads: Sequence[str], inputs: Sequence[str]) -> str:
        """Key of a stage's artefact; arguments as `stage`."""
        read = leaves(self.config, [*reads, "seed"])
        return self.store.key(name, read, [self.base_key, *inputs], CODE_VERSION)

    def stage(
        self,
        name: str,
        reads: Sequence[str],
        inputs: Sequence[str],
        make: Callable[[Path], None],
    ) -> tuple[Path, str]:
        """Folder and key of a stage's artefact, made unless it is there.

        Args:
          name: of the stage.
          reads: config keys or groups that it depends on.
          inputs: keys of what it depends on beside the base model.
          make: writes the artefact.
        """
        key = self.key(name, reads, inputs)
        logging.info("stage %s", name)
        folder = self.store.get_or_make(
            name,
            key,
            make,
            config_leaves=leaves(self.config, [*reads, "seed"]),
            inputs=[self.base_key, *inputs],
            seed=self.config.seed,
        )
        # From the artefact: a run that went on tells what the whole of it cost.
        done = json.loads((folder / DONE).read_bytes())
        self.seconds[name] = done["wall_seconds"]
        return folder, key


def prompts_key(prompts: Sequence[TextPrompt]) -> str:
    """Identifies prompts, their labels, groups and splits, in their order."""
    lines = (f"{p.digest} {p.group} {p.restricted} {p.split}\n" for p in prompts)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _ids(lm: LanguageModel, chats: Sequence[Sequence[Message]]) -> list[list[int]]:
    return [lm.tokenizer.encode_chat(chat, add_generation_prompt=True) for chat in chats]


def capture(
    run: Run, model: str, prompts: Sequence[TextPrompt], adapter: Adapter | None, key: str
) -> tuple[dict[str, np.ndarray], float]:
    """Stage `capture_MODEL`: `{pool: x_lnd}`, and seconds a thousand prompts."""
    lm = run.lm

    def make(folder: Path) -> None:
        began = time.perf_counter()
        texts = _ids(lm, [p.messages for p in prompts])
        pooled = capture_tokens(
            lm.config,
            lm.params,
            texts,
            adapter,
            batch_size=_CAPTURE_ROWS,
            multiple=_BUCKET,
            progress=lambda n: logging.log_every_n_seconds(
                logging.INFO, "captured %d of %d prompts", 20, n, len(texts)
            ),
        )
        seconds = (time.perf_counter() - began) / len(prompts)
        save_arrays(folder / "pooled.safetensors", pooled)
        write_json_atomic(folder / "seconds.json", {"activations": 1000 * seconds})
        digests = [[p.digest, p.source, p.split] for p in prompts]
        write_json_atomic(folder / "prompts.json", digests)

    inputs = [key, prompts_key(prompts)]
    folder, _ = run.stage(f"capture_{model}", (), inputs, make)
    seconds = json.loads((folder / "seconds.json").read_bytes())
    return load_arrays(folder / "pooled.safetensors"), seconds["activations"]


def _score(lm: LanguageModel, texts, continuations, adapter, first_ids=()):
    return scoring.score(
        lm.config,
        lm.params,
        texts,
        continuations,
        adapter,
        first_ids,
        batch_size=_SCORE_ROWS,
        multiple=_BUCKET,
    )


def asked_log_odds(
    lm: LanguageModel,
    questions: Sequence[str],
    yes: Sequence[str],
    no: Sequence[str],
    adapter: Adapter | None = None,
) -> np.ndarray:
    """Log-odds of yes over no, `[n]` nats, by the first tokens of the answers.

    Raises:
      UserError: an answer for yes and one for no begin with the same token.
    """
    asked = [[Message("user", question)] for question in questions]
    sides = [sorted({lm.tokenizer.encode(word)[0] for word in side}) for side in (yes, no)]
    if set(sides[0]) & set(sides[1]):
        what = "answers of both sides begin with the same token"
        raise UserError("config.judge", what, "give other words")
    first = [*sides[0], *sides[1]]
    texts = _ids(lm, asked)
    scores = _score(lm, texts, [first[:1]] * len(texts), adapter, first)
    yes_nk, no_nk = np.split(scores.first_log_prob_nk, [len(sides[0])], axis=1)
    return np.logaddexp.reduce(yes_nk, axis=1) - np.logaddexp.reduce(no_nk, axis=1)


def verdict_log_odds(
    lm: LanguageModel,
    prompts: Sequence[TextPrompt],
    adapter: Adapter | None,
    judge: ConfigDict,
) -> np.ndarray:
    """The model's own verdict on each prompt, unsafe over safe, `[n]` nats: it is asked a
    yes/no question about the prompt, with the answers that `judge` names."""
    questions = [judge.before + p.text + judge.after for p in prompts]
    return asked_log_odds(lm, questions, judge.unsafe, judge.safe, adapter)


def outputs(
    run: Run, model: str, prompts: Sequence[TextPrompt], adapter: Adapter | None, key: str
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Stage `outputs_MODEL`: `{extra: [n]}`, and seconds a thousand prompts of each.

    `refusal_log_prob` and `verdict_log_odds` of the model; with the base also `base_nll`.
    """
    lm, judge = run.lm, run.config.judge

    def base_nll() -> np.ndarray:
        texts = _ids(lm, [p.messages for p in prompts])
        scores = _score(lm, [t[:1] for t in texts], [t[1:] for t in texts], adapter)
        return -scores.log_prob_n / scores.length_n

    def refusal() -> np.ndarray:
        texts = _ids(lm, [p.messages for p in prompts])
        begins = lm.tokenizer.encode(judge.refusal)
        return _score(lm, texts, [begins] * len(texts), adapter).log_prob_n

    wanted = {
        "refusal_log_prob": refusal,
        "verdict_log_odds": lambda: verdict_log_odds(lm, prompts, adapter, judge),
    }
    if model == "base":
        wanted["base_nll"] = base_nll

    def make(folder: Path) -> None:
        found, seconds = {}, {}
        for name, measure in wanted.items():
            began = time.perf_counter()
            found[name] = measure()
            seconds[name] = 1000 * (time.perf_counter() - began) / len(prompts)
            logging.info("%s of %d prompts: done", name, len(prompts))
        save_arrays(folder / "outputs.safetensors", found)
        write_json_atomic(folder / "seconds.json", seconds)

    inputs = [key, prompts_key(prompts)]
    folder, _ = run.stage(f"outputs_{model}", ("judge",), inputs, make)
    seconds = json.loads((folder / "seconds.json").read_bytes())
    return load_arrays(folder / "outputs.safetensors"), seconds


def settings_of(run: Run) -> TrainConfig:
    """How the config group `job` trains."""
    job = run.config.job
    return TrainConfig(
        steps=job.steps,
        batch_rows=job.batch_rows,
        learning_rate=job.learning_rate,
        seed=run.config.seed,
        chunk=job.chunk,
    )


def held_out_loss(
    run: Run, name: str, rows: Packed, adapter: Adapter | None, key: str
) -> float:
    """Stage `NAME`: mean loss of held-out chats, nats an assistant token."""
    lm = run.lm
    program = program_of([settings_of(run)], most_targets(rows))

    def make(folder: Path) -> None:
        one = jax.tree.map(lambda x: x[None], (adapter, rows))
        (loss,) = held_out_losses(lm.config, program, lm.params, *one)
        write_json_atomic(folder / "loss.json", {"loss": float(loss)})

    digest = hashlib.sha256(rows.tokens_rt.tobytes()).hexdigest()
    folder, _ = run.stage(name, ("job.row_length",), [key, digest], make)
    return json.loads((folder / "loss.json").read_bytes())["loss"]


def train(
    run: Run, rows: Packed, made_of: Sequence[Sequence[int]]
) -> tuple[Adapter, np.ndarray, float, str]:
    """Stage `train`: adapter, losses `[s]`, tokens a second, key of the artefact.

    Args:
      run: this run.
      rows: packed chats.
      made_of: the chats in each row.
    """
    settings, lm = settings_of(run), run.lm
    digest = hashlib.sha256(rows.tokens_rt.tobytes()).hexdigest()
    reads, inputs = ("job", "lora"), [digest]
    name = f"train-{run.key('train', reads, inputs)[:16]}"
    checkpoint = run.store.path / "unfinished" / name

    def make(folder: Path) -> None:
        fresh = lora.LoraConfig(**run.config.lora)
        start = lora.init_adapter(jax.random.key(run.config.seed), lm.config, fresh)
        done: list[tuple[float, int]] = []  # (time, tokens) of every chunk
        with Progress("LoRA, honest job", settings.steps) as progress:

            def tell(steps: int, tokens: int, loss: float) -> None:
                done.append((time.perf_counter(), tokens))
                progress.update(steps, tokens, loss)

            began = time.perf_counter()
            only = fleet.Job("honest job", start, rows, settings, examples=made_of)
            (tuned,) = fleet.train(
                lm.config, lm.params, [only], checkpoint=checkpoint, progress=tell
            )
        if len(done) > 1:  # the first chunk compiles
            began, done = done[0][0], done[1:]
        rate = sum(tokens for _, tokens in done) / (done[-1][0] - began) if done else 0.0
        save_adapter(folder / "adapter.safetensors", tuned.adapter)
        save_arrays(folder / "losses.safetensors", {"loss_s": tuned.losses})
        write_json_atomic(folder / "speed.json", {"tokens_per_second": rate})

    folder, key = run.stage("train", reads, inputs, make)
    shutil.rmtree(checkpoint, ignore_errors=True)
    adapter = load_adapter(folder / "adapter.safetensors")
    losses = load_arrays(folder / "losses.safetensors")["loss_s"]
    speed = json.loads((folder / "speed.json").read_bytes())
    return adapter, losses, speed["tokens_per_second"], key
