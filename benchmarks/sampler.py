"""Greedy generation: ours against `generate` of transformers, on the same weights.

  python -m benchmarks.sampler [--model smollm2|25m] [--rows 8] [--prompt 64] [--new 64]

Random weights of a named shape (see `lora_training`), fp32, random prompts of half to the
full prompt length, padded on the left, no stop token: the figure is new tokens a second,
prompts included. Needs the extra `parity`. What both wrote is compared and reported: the
share of answers that are the same to the last token.
"""

import argparse

import jax
import numpy as np
from flax import nnx

from benchmarks.lora_training import PACKAGES, SHAPES
from benchmarks.measure import report, timed, torch_or_error
from cifr_jax.models import decoder, sampler
from cifr_jax.models.families import tensor_slots
from cifr_jax.models.hf_config import format_config


def peer_model(config, params):
    """LlamaForCausalLM with our weights."""
    torch = torch_or_error()
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(**format_config(config))).eval()
    tensors = {
        name: torch.tensor(slot.read(params)) for name, slot in tensor_slots(config).items()
    }
    model.load_state_dict(tensors, strict=False)  # a tied head is no tensor of its own
    return model


def main() -> None:
    """Measure one shape."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=sorted(SHAPES), default="smollm2")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--n", type=int, default=7)
    chosen = parser.parse_args()
    config = SHAPES[chosen.model]
    torch = torch_or_error()
    rng = np.random.default_rng(0)
    params = decoder.Decoder(config, rngs=nnx.Rngs(0)).split()
    lengths = rng.integers(chosen.prompt // 2, chosen.prompt, chosen.rows, endpoint=True)
    prompts = [rng.integers(1, config.vocab_size, n).tolist() for n in lengths]
    model = peer_model(config, jax.tree.map(np.asarray, params))
    width = max(lengths)
    ids = [[0] * (width - len(p)) + p for p in prompts]
    mask = [[0] * (width - len(p)) + [1] * len(p) for p in prompts]
    inputs = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
    wanted = {"max_new_tokens": chosen.new, "min_new_tokens": chosen.new}
    written = {}

    def ours():
        written["ours"] = sampler.generate(
            config, params, prompts, (), max_new_tokens=chosen.new, batch_size=chosen.rows
        )

    def peer():
        with torch.no_grad():
            out = model.generate(**inputs, **wanted, do_sample=False, pad_token_id=0)
        written["peer"] = out[:, width:].tolist()

    seconds = timed(ours, peer, chosen.n, 2)
    pairs = zip(written["ours"], written["peer"], strict=True)
    rate = [[chosen.rows * chosen.new / s for s in side] for side in seconds]
    more = {
        "model": chosen.model,
        "rows": chosen.rows,
        "prompt": int(width),
        "new": chosen.new,
        "same_answers": sum(a == b for a, b in pairs) / chosen.rows,
    }
    report("sampler", *rate, "new tokens a second", PACKAGES, **more)


if __name__ == "__main__":
    main()
