"""What `config.task` may name, and the function that each name stands for."""

import difflib
import importlib

from ml_collections import ConfigDict

from cifr_jax.errors import UserError

# Imported only when chosen: a fault in the command line is told within the second.
TASKS = {
    "benchmark_tiny": "cifr_jax.benchmark:run",
    "benchmark_text": "cifr_jax.text_benchmark:run",
    "cipher_jobs": "cifr_jax.cipher_job_benchmark:run",
    "audit": "cifr_jax.audit:main",
    "audit_service": "cifr_jax.audit_service:run",
    "finetune": "cifr_jax.finetune_job:run",
    "job_benchmark": "cifr_jax.job_benchmark:run",
    "pointwise": "cifr_jax.pointwise_benchmark:run",
    "pretrain": "cifr_jax.finetune.pretrain:run",
    "stream": "cifr_jax.stream:run",
}


def run_task(config: ConfigDict, workdir: str) -> None:
    """Runs the task that `config.task` names; raises UserError if there is none such."""
    task = config.get("task")
    if not isinstance(task, str) or task not in TASKS:
        close = difflib.get_close_matches(str(task), TASKS, 1)
        mend = f"did you mean {close[0]}?" if close else f"known: {', '.join(TASKS)}"
        raise UserError("config key task", f"unknown task {task!r}", mend)
    module, _, function = TASKS[task].partition(":")
    getattr(importlib.import_module(module), function)(config, workdir)
