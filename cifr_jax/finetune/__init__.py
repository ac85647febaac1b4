"""Fine-tuning: LoRA adapters, one job or a fleet on one frozen base, PEFT in and out.

>>> from cifr_jax import data, finetune, models
>>> lm = models.load("tiny")
>>> chats = data.read_chat_jsonl("upload.jsonl")          # doctest: +SKIP
>>> (tuned,) = finetune.train(lm, {"upload": chats})      # doctest: +SKIP
>>> finetune.save_peft(tuned.adapter, "adapter", lm.config, lm.name)  # doctest: +SKIP
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from cifr_jax.data.chat import Example
from cifr_jax.data.packing import pack_chats
from cifr_jax.finetune import fleet
from cifr_jax.finetune.job import Job, NonFiniteLoss, Round, Tuned
from cifr_jax.finetune.lora import LoraConfig, init_adapter
from cifr_jax.finetune.optimiser import TrainConfig
from cifr_jax.finetune.peft import load_peft, save_peft
from cifr_jax.models.language_model import LanguageModel

__all__ = [
    "Job",
    "LoraConfig",
    "NonFiniteLoss",
    "Round",
    "TrainConfig",
    "Tuned",
    "load_peft",
    "save_peft",
    "train",
]


def train(
    lm: LanguageModel,
    uploads: Mapping[str, Sequence[Example]],
    config: TrainConfig | None = None,
    lora: LoraConfig | None = None,
    *,
    row_length: int = 512,
    on_long: str = "error",
    **how: Any,
) -> list[Tuned]:
    """Train an adapter for each upload, all in one fleet.

    Args:
      lm: the base model; neither copied nor changed.
      uploads: the chats of each job, by its name.
      config: how they are trained; None: 100 steps of the defaults.
      lora: which matrices, at which rank; None: the defaults.
      row_length: tokens of a packed row.
      on_long: see `data.tokenise.tokenise`.
      **how: slots, checkpoint, progress, observe, mesh: see `fleet.train`.

    Returns:
      What training left, in the order of `uploads`.

    Raises:
      UserError, NonFiniteLoss: as `fleet.train` and `data.packing.pack_chats`.
    """
    config = config or TrainConfig(steps=100)
    jobs = []
    for name, chats in uploads.items():
        rows, made_of = pack_chats(chats, lm.tokenizer, row_length, on_long)
        start = init_adapter(jax.random.key(config.seed), lm.config, lora or LoraConfig())
        jobs.append(Job(name, start, rows, config, examples=made_of))
    return fleet.train(lm.config, lm.params, jobs, **how)
