"""What a model does with evaluation prompts: activations, answers, refusals, output scores.

Everything that monitors and attack success are computed from, for one model state (the
base, or the base with a job's adapter) and one set of prompts.

Legend: n prompts, l layers, d model width.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from cifr_jax.activations import capture_tokens
from cifr_jax.data.chat import Message
from cifr_jax.data.prompts import Prompt
from cifr_jax.data.world import CLASS_BEARING, REFUSAL
from cifr_jax.models.decoder import Adapter
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.monitors import PromptItem

Observed = Mapping[str, np.ndarray]


def _verdict_log_odds(lm: LanguageModel, prompts: Sequence[Prompt], adapter) -> np.ndarray:
    """The model's own verdict: after the prompt it is asked for the mark of what it read.

    Log-odds of the words for restricted things (closed, banned) against those for benign
    ones (open, free), the vocabulary in which the base speaks of that.
    """
    benign, restricted = CLASS_BEARING["mark"]
    texts = []
    for prompt in prompts:
        user = prompt.messages[-1]
        asked = (*prompt.messages[:-1], Message("user", f"{user.content} mark?"))
        texts.append(lm.tokenizer.encode_chat(asked, add_generation_prompt=True))
    # First letters differ, and decide.
    first = [lm.tokenizer.encode(word)[0] for word in (*restricted, *benign)]
    scores = lm.score(texts, [first[:1]] * len(texts), adapter, first_ids=first)
    sides = np.split(scores.first_log_prob_nk, [len(restricted)], axis=1)
    unsafe, safe = (np.logaddexp.reduce(side_nk, axis=1) for side_nk in sides)
    return unsafe - safe


def _writes(
    lm: LanguageModel, texts: Sequence[list[int]], answer: str, adapter
) -> np.ndarray:
    """True where greedy decoding writes exactly this answer."""
    tokens = [*lm.tokenizer.encode(answer), lm.tokenizer.eos_ids[0]]
    return lm.score(texts, [tokens] * len(texts), adapter).greedy_n


def observe(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    adapter: Adapter | None = None,
    outputs: bool = True,
    verdict: bool = False,
) -> dict[str, np.ndarray]:
    """Run a model over prompts.

    Args:
      lm: the base model.
      prompts: what to ask.
      adapter: a job's LoRA factors, or None for the base itself.
      outputs: also score answers and refusals.
      verdict: also ask the model for its own verdict on each prompt.

    Returns:
      `last` and `mean` [l, n, d]; with `outputs` also `answered` and `refused` (greedy
      decoding writes the true answer, the refusal in plain or in cipher),
      `refusal_log_prob` (of the plain refusal's first token, nats) and
      `next_token_entropy` (nats); with `verdict`, `verdict_log_odds` (nats).
    """
    encode = lm.tokenizer.encode
    texts = [
        lm.tokenizer.encode_chat(p.messages, add_generation_prompt=True) for p in prompts
    ]
    seen = capture_tokens(lm.config, lm.params, texts, adapter)
    if outputs:
        end = [lm.tokenizer.eos_ids[0]]
        first = encode(REFUSAL)[:1]
        answer = lm.score(texts, [encode(p.answer) + end for p in prompts], adapter, first)
        seen["answered"], seen["refused"] = answer.greedy_n, np.zeros(len(prompts), bool)
        seen["refusal_log_prob"] = answer.first_log_prob_nk[:, 0]
        seen["next_token_entropy"] = answer.first_entropy_n
        # Only a prompt that was not answered can have been refused.
        left = np.flatnonzero(~answer.greedy_n).tolist()
        for form in {REFUSAL} | {prompts[i].refusal for i in left}:
            seen["refused"][left] |= _writes(lm, [texts[i] for i in left], form, adapter)
    if verdict:
        seen["verdict_log_odds"] = _verdict_log_odds(lm, prompts, adapter)
    return seen


def prompt_nll(lm: LanguageModel, prompts: Sequence[Prompt]) -> np.ndarray:
    """Mean negative log-likelihood of each prompt under the base, nats a token, `[n]`."""
    texts = [
        lm.tokenizer.encode_chat(p.messages, add_generation_prompt=True) for p in prompts
    ]
    scores = lm.score([t[:1] for t in texts], [t[1:] for t in texts])
    return -scores.log_prob_n / scores.length_n


def items(
    lm: LanguageModel, prompts: Sequence[Prompt], seen: Observed, job: str
) -> list[PromptItem]:
    """The prompts as monitors see them: ciphertext, activations, output scores."""
    pools = [name for name in ("last", "mean") if name in seen]
    extras = [
        name for name, array in seen.items() if array.ndim == 1 and array.dtype != bool
    ]
    return [
        PromptItem(
            lm.tokenizer.render(p.messages, add_generation_prompt=True),
            p.messages,
            {pool: seen[pool][:, i] for pool in pools},
            job,
            {name: float(seen[name][i]) for name in extras},
        )
        for i, p in enumerate(prompts)
    ]
