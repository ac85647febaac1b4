"""Likelihoods of the options of multiple-choice items: ours against transformers.

  python -m benchmarks.multiple_choice [--model smollm2|25m] [--items 64] [--options 4]

Random weights of a named shape (see `lora_training`), fp32, random stems of half to the
full length. The peer scores a text for each option, sorted by length and padded on the
right, in batches, as evaluation harnesses do; `scoring.score` computes what the options of
an item share once. Items a second; `difference` is the largest between the two. Needs the
extra `parity`.
"""

import argparse

import jax
import numpy as np
from flax import nnx

from benchmarks.lora_training import PACKAGES, SHAPES
from benchmarks.measure import report, timed, torch_or_error
from benchmarks.sampler import peer_model
from cifr_jax.models import decoder, scoring

_PEER_BATCH = 8  # faster than 32: 2.2 against 1.8 items a second on two cores


def peer_scores(model, prompts, continuations) -> np.ndarray:
    """Log-likelihood of each continuation."""
    torch = torch_or_error()
    texts = [[*p, *c] for p, c in zip(prompts, continuations, strict=True)]
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    out = np.zeros(len(texts))
    for at in range(0, len(order), _PEER_BATCH):
        index = order[at : at + _PEER_BATCH]
        width = len(texts[index[-1]])
        ids = torch.tensor([texts[i] + [0] * (width - len(texts[i])) for i in index])
        mask = torch.tensor([[j < len(texts[i]) for j in range(width)] for i in index])
        with torch.no_grad():
            table = model(input_ids=ids, attention_mask=mask.long()).logits.log_softmax(-1)
        for row, i in enumerate(index):
            start, stop = len(prompts[i]), len(texts[i])
            of_tokens = table[row, range(start - 1, stop - 1), texts[i][start:]]
            out[i] = float(of_tokens.double().sum())
    return out


def main() -> None:
    """Measure one shape."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=sorted(SHAPES), default="smollm2")
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--options", type=int, default=4)
    parser.add_argument("--stem", type=int, default=64)
    parser.add_argument("--n", type=int, default=5)
    chosen = parser.parse_args()
    config = SHAPES[chosen.model]
    rng = np.random.default_rng(0)
    params = decoder.Decoder(config, rngs=nnx.Rngs(0)).split()

    def text(low: int, high: int) -> list[int]:
        n = rng.integers(low, high, endpoint=True)
        return rng.integers(1, config.vocab_size, n).tolist()

    prompts, continuations = [], []
    for _ in range(chosen.items):
        stem = text(chosen.stem // 2, chosen.stem)
        prompts += [stem] * chosen.options
        continuations += [text(2, 6) for _ in range(chosen.options)]
    model = peer_model(config, jax.tree.map(np.asarray, params))
    found = {}

    def ours():
        found["ours"] = scoring.score(config, params, prompts, continuations).log_prob_n

    def peer():
        found["peer"] = peer_scores(model, prompts, continuations)

    seconds = timed(ours, peer, chosen.n, 1)
    rate = [[chosen.items / s for s in side] for side in seconds]
    more = {
        "model": chosen.model,
        "options": chosen.options,
        "stem": chosen.stem,
        "difference": float(np.abs(found["ours"] - found["peer"]).max()),
    }
    report("multiple_choice", *rate, "items a second", PACKAGES, **more)


if __name__ == "__main__":
    main()
