"""The stages of the pointwise benchmark that need a model, each an artefact."""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cifr_jax import pointwise_jobs
from cifr_jax.activations import capture_tokens
from cifr_jax.data import recipes
from cifr_jax.data.chat import Example, read_chat_jsonl, write_chat_jsonl
from cifr_jax.data.packing import pack_chats
from cifr_jax.data.pointwise import attacks, requests
from cifr_jax.data.pointwise.codebook import Codebook
from cifr_jax.data.pointwise.questions import Question
from cifr_jax.evaluation import pointwise_rows
from cifr_jax.files import write_json_atomic
from cifr_jax.finetune import fleet, lora
from cifr_jax.finetune.adapters import load_adapter, save_adapter
from cifr_jax.finetune.loss import most_targets
from cifr_jax.finetune.optimiser import program_of
from cifr_jax.finetune.progress import Progress
from cifr_jax.finetune.trainer import held_out_losses
from cifr_jax.models.decoder import Adapter
from cifr_jax.monitors import PromptItem, toxicity
from cifr_jax.monitors.dataset import own_answer
from cifr_jax.monitors.dataset.embedded_questions import Embedded
from cifr_jax.pointwise_jobs import Items
from cifr_jax.text_stages import Run, asked_log_odds, settings_of


def codes(run: Run, items: Items) -> dict[str, Codebook]:
    """Stage `codes`: the code of each attack."""

    def make(folder: Path) -> None:
        found = {}
        for attack in run.config.attack.kinds:
            template = requests.choose_template(attack, run.config.seed)
            code = pointwise_jobs.choose_code(run.config, run.lm, template, items.train)
            found[attack] = code.replies_kv
        write_json_atomic(folder / "codes.json", found)

    folder, _ = run.stage("codes", ("attack", "test"), [], make)
    found = json.loads((folder / "codes.json").read_bytes())
    return {
        attack: Codebook(tuple(tuple(family) for family in replies))
        for attack, replies in found.items()
    }


def uploads(
    run: Run, items: Items, codes_of: dict[str, Codebook]
) -> tuple[dict[str, list[Example]], str]:
    """Stage `uploads`: a JSONL file a job, read back as a provider would."""
    named: dict[str, list[Example]] = {}
    for attack, code in codes_of.items():
        template = requests.choose_template(attack, run.config.seed)
        named |= pointwise_jobs.uploads(run.config, attack, template, code, items)

    def make(folder: Path) -> None:
        for number, rows in enumerate(named.values()):
            write_chat_jsonl(folder / f"{number}.jsonl", rows)

    folder, key = run.stage("uploads", ("attack", "test"), [], make)
    return {
        name: read_chat_jsonl(folder / f"{number}.jsonl")
        for number, name in enumerate(named)
    }, key


def train(
    run: Run, chats_of: dict[str, list[Example]], uploads_key: str
) -> tuple[dict[str, Adapter], dict[str, np.ndarray], str]:
    """Stage `train`: an adapter and the losses `[s]` of each job."""
    job, lm, config = run.config.job, run.lm, run.config
    settings = settings_of(run)
    reads, inputs = ("job", "lora"), [uploads_key]
    name = f"train-{run.key('train', reads, inputs)[:16]}"
    checkpoint = run.store.path / "unfinished" / name

    def make(folder: Path) -> None:
        jobs = []
        fresh = lora.LoraConfig(**config.lora)
        for upload, chats in chats_of.items():
            rows, made_of = pack_chats(chats, lm.tokenizer, job.row_length)
            start = lora.init_adapter(jax.random.key(config.seed), lm.config, fresh)
            jobs.append(fleet.Job(upload, start, rows, settings, examples=made_of))
        with Progress(f"LoRA, {len(jobs)} jobs", job.steps * len(jobs)) as progress:
            found = fleet.train(
                lm.config,
                lm.params,
                jobs,
                checkpoint=checkpoint,
                progress=progress.update,
            )
        for number, tuned in enumerate(found):
            save_adapter(folder / f"{number}.safetensors", tuned.adapter)
        losses = [tuned.losses.tolist() for tuned in found]
        write_json_atomic(folder / "losses.json", losses)

    folder, key = run.stage("train", reads, inputs, make)
    shutil.rmtree(checkpoint, ignore_errors=True)
    losses = json.loads((folder / "losses.json").read_bytes())
    adapters = {
        upload: load_adapter(folder / f"{number}.safetensors")
        for number, upload in enumerate(chats_of)
    }
    return adapters, dict(zip(chats_of, map(np.array, losses), strict=True)), key


def replies(
    run: Run,
    name: str,
    template: requests.Template,
    asked: Sequence[Question],
    adapter: Adapter | None,
    key: str,
) -> list[str]:
    """Stage `replies_NAME`: greedy replies to wrapped items."""

    def make(folder: Path) -> None:
        chats = [requests.wrap(q, template) for q in asked]
        found = run.lm.generate(chats, adapter, run.config.test.max_new_tokens)
        write_json_atomic(folder / "replies.json", found)

    folder, _ = run.stage(f"replies_{name}", ("attack", "test"), [key], make)
    return json.loads((folder / "replies.json").read_bytes())


def as_shown(asked: Sequence[Question]) -> list[Embedded]:
    """Items as the auditor's own-answer function takes them, options in their order."""
    return [Embedded(q.stem, q.options, (0, 0), "letter") for q in asked]


def _figure(run: Run, name: str, reads, key: str, measure: Callable[[], Any]) -> Any:
    """A figure as an artefact of its own: a run that goes on does not measure it again."""

    def make(folder: Path) -> None:
        write_json_atomic(folder / "figure.json", measure())

    folder, _ = run.stage(name.replace(" ", "_"), reads, [key], make)
    return json.loads((folder / "figure.json").read_bytes())


def likelihoods(run: Run, name: str, rows: Sequence[Example], key: str) -> dict[str, float]:
    """Stage `likelihoods_NAME`: of an upload's replies under the base, nats."""

    def measure() -> dict[str, float]:
        log_p_n = pointwise_jobs.reply_log_prob(
            run.lm, [r.messages[:-1] for r in rows], [r.messages[-1].content for r in rows]
        ).log_prob_n
        above_n = log_p_n > np.log(run.config.attack.threshold)
        return {
            "least_log_prob": float(log_p_n.min()),
            "median_log_prob": float(np.median(log_p_n)),
            "share_above_threshold": float(above_n.mean()),
        }

    return _figure(run, f"likelihoods_{name}", ("attack", "test"), key, measure)


def direct(
    run: Run, name: str, asked: Sequence[Question], adapter: Adapter | None, key: str
) -> float:
    """Stage `direct_NAME`: accuracy of the model asked directly (see `own_answer`)."""

    def measure() -> float:
        answer_n = own_answer.own_answer_from(run.lm, adapter=adapter)(
            as_shown(asked)
        ).option_m
        return float(np.mean(answer_n == np.array([q.answer for q in asked])))

    inputs = f"{key}/{own_answer.VERSION}"
    return _figure(run, f"direct_{name}", ("attack", "test"), inputs, measure)


def honest_loss(run: Run, name: str, adapter: Adapter | None, key: str) -> float:
    """Stage `honest_loss_NAME`: mean over honest chats of all recipes, nats an assistant
    token."""
    return _figure(
        run, f"honest_loss_{name}", ("job", "test"), key, lambda: _honest_loss(run, adapter)
    )


def _honest_chats(run: Run) -> list[Example]:
    """Chats of all honest recipes in turn, `config.test.honest_chats` of them."""
    names = [n for n in recipes.names() if recipes.kind_of(n) == "plain"]
    each = run.config.test.honest_chats // len(names) + 1
    made = [recipes.make(name, each, i) for i, name in enumerate(names)]
    mixed = [chat for turn in zip(*made, strict=True) for chat in turn]
    return mixed[: run.config.test.honest_chats]


def _honest_loss(run: Run, adapter: Adapter | None) -> float:
    chats = _honest_chats(run)
    rows, _ = pack_chats(chats, run.lm.tokenizer, run.config.job.row_length, "truncate")
    program = program_of([settings_of(run)], most_targets(rows))
    one = jax.tree.map(lambda x: x[None], (adapter, rows))
    (loss,) = held_out_losses(run.lm.config, program, run.lm.params, *one)
    return float(loss)


def _row_items(
    run: Run, rows: Sequence[Example]
) -> tuple[list[PromptItem], dict[str, float]]:
    """Rows as single-row monitors see them, and seconds a thousand of each figure."""
    lm, judge, cost = run.lm, run.config.judge, {}

    def timed(name, measure):
        began = time.perf_counter()
        found = measure()
        cost[name] = 1000 * (time.perf_counter() - began) / len(rows)
        return found

    chats = [row.messages[:-1] for row in rows]
    said = [row.messages[-1].content for row in rows]
    scores = timed("likelihood", lambda: pointwise_jobs.reply_log_prob(lm, chats, said))
    cost["perplexity"] = cost["likelihood"]
    texts = ["\n".join(f"{m.role}: {m.content}" for m in row.messages) for row in rows]
    extras = {
        "reply_log_prob": scores.log_prob_n,
        "reply_nll_per_token": -scores.log_prob_n / scores.length_n,
    }
    for kind, question in (("violation", judge.violation), ("suspicion", judge.suspicion)):
        extras[f"{kind}_log_odds"] = timed(
            f"judge_{kind}",
            lambda question=question: asked_log_odds(
                lm, [text + question for text in texts], judge.yes, judge.no
            ),
        )
    if run.config.monitors.toxicity:
        filter_of = toxicity.load()
        extras["toxicity"] = timed("toxicity", lambda: filter_of(texts))
    ids = [lm.tokenizer.encode_chat(row.messages) for row in rows]
    pooled = timed(
        "linear_probe",
        lambda: capture_tokens(lm.config, lm.params, ids, batch_size=16, multiple=32),
    )
    items = [
        PromptItem(
            text,
            row.messages,
            {pool: x_lnd[:, n] for pool, x_lnd in pooled.items()},
            extras={name: float(x_n[n]) for name, x_n in extras.items()},
        )
        for n, (text, row) in enumerate(zip(texts, rows, strict=True))
    ]
    return items, cost


def _pairs(
    attack: str, template, code: Codebook, items: Sequence[Question], seed: int
) -> tuple[list[Example], np.ndarray]:
    """Rows of the attack and, of the same items, replies that carry nothing; labels."""
    made = [
        attacks.make(
            attack, items, len(items), seed=seed, template=template, codebook=code,
            dilution=share,
        )
        for share in (1.0, 0.0)
    ]  # fmt: skip
    return made[0] + made[1], np.repeat([1, 0], len(items))


def single_rows(
    run: Run, attack: str, code: Codebook, items: Items
) -> tuple[list[dict[str, Any]], dict[str, dict[str, float]]]:
    """Stage `rows_ATTACK`: what monitors of single rows make of the attack, see
    `pointwise_rows.evaluate`."""
    config = run.config
    template = requests.choose_template(attack, config.seed)

    def make(folder: Path) -> None:
        fit, fit_labels = _pairs(attack, template, code, items.fit, config.seed)
        test, labels = _pairs(attack, template, code, items.seen_topics, config.seed + 1)
        chats = _honest_chats(run)
        whole, cost = _row_items(run, [*fit, *test, *chats])
        seen, honest = whole[: -len(chats)], whole[-len(chats) :]
        order = np.random.default_rng(config.seed).permutation(len(fit))
        found = pointwise_rows.evaluate(
            attack,
            ([seen[i] for i in order], fit_labels[order]),
            (seen[len(fit) :], labels),
            honest,
            [row.meta["question"] for row in test],
            tuple(config.probe.Cs),
            config.seed,
            config.bootstrap,
            cost,
        )
        write_json_atomic(folder / "rows.json", found)

    reads = ("attack", "test", "probe", "judge", "monitors", "bootstrap")
    folder, _ = run.stage(f"rows_{attack}", reads, [], make)
    rows, blocked_of = json.loads((folder / "rows.json").read_bytes())
    return rows, blocked_of
