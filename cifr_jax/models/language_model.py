"""A model with its tokenizer: what the rest of the project works with."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from cifr_jax.models import decoder, sampler, scoring
from cifr_jax.models.adapter_rows import AdapterRows
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Adapter
from cifr_jax.models.tokenizer import ChatTokenizer, MessageLike


@dataclass(frozen=True)
class LanguageModel:
    """A frozen base model.

    Attributes:
      config: its shape.
      params: its parameters, the tree of `models.decoder`.
      tokenizer: its tokenizer and chat template.
      name: what to call it in reports.
    """

    config: DecoderConfig
    params: Any
    tokenizer: ChatTokenizer
    name: str

    def logits(self, tokens_bt, mask_bt=None, adapter: Adapter | None = None):
        """Logits `[b, t, v]`; mask True = text, padding on either side."""
        return decoder.forward(self.config, self.params, tokens_bt, mask_bt, adapter)

    def generate(
        self,
        chats: Sequence[Sequence[MessageLike]],
        adapter: Adapter | None = None,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        seed: int = 0,
        top_p: float = 1.0,
        rows: tuple[AdapterRows, Sequence[int]] | None = None,
    ) -> list[str]:
        """The assistant's answers; greedy at temperature 0.

        Args:
          chats: each ends with a user turn.
          adapter: LoRA factors, or None for the base.
          max_new_tokens: longest answer, in tokens.
          temperature: of sampling.
          seed: of sampling.
          top_p: sampled are the likeliest tokens, up to this much probability.
          rows: instead of `adapter`, adapters and the number of each chat's; -1: the base.
        """
        prompts = [self.tokenizer.encode_chat(c, add_generation_prompt=True) for c in chats]
        answers = sampler.generate(
            self.config,
            self.params,
            prompts,
            self.tokenizer.eos_ids,
            adapter,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            top_p=top_p,
            rows=rows,
        )
        return [self.tokenizer.decode(answer) for answer in answers]

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        continuations: Sequence[Sequence[int]],
        adapter: Adapter | None = None,
        first_ids: Sequence[int] = (),
        rows: tuple[AdapterRows, Sequence[int]] | None = None,
    ) -> scoring.Scores:
        """Log-probability and greedy agreement of continuations; see `models.scoring`."""
        return scoring.score(
            self.config, self.params, prompts, continuations, adapter, first_ids, rows=rows
        )

    def fingerprint(self) -> str:
        """SHA-256 of shape, parameters and chat template: what results depend on."""
        digest = hashlib.sha256(repr(self.config).encode())
        digest.update((self.tokenizer.chat_template or "").encode())
        for leaf in _leaves(self.params):
            array = _whole(leaf)
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def n_parameters(self) -> int:
        """Number of scalars in the base, however many bits each has."""
        return self.config.n_parameters()


def _whole(leaf: Any) -> np.ndarray:
    """An array on the host, also where other processes hold parts of it."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
    return np.asarray(leaf)


def _leaves(tree):
    if isinstance(tree, dict):
        for name in sorted(tree):
            yield from _leaves(tree[name])
    else:  # of a quantised matrix its codes and scales
        yield from jax.tree.leaves(tree)
