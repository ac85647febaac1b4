"""One LoRA training step (r = 16, all linear): ours against PEFT on torch.

  python -m benchmarks.lora_step [--model 25m|smollm2] [--n 7]

Random weights of the named shape, fp32, AdamW, every token supervised, the same tokens.
25m: 8 layers of width 512, 8 rows of 256 tokens; smollm2: its shape, 4 rows of 128. The
peer is transformers' LlamaForCausalLM under PEFT with torch's AdamW, its loss over all
positions as `labels` gives it. Needs the extra `parity`.
"""

import argparse

import jax
import numpy as np
from flax import nnx

from benchmarks.measure import report, timed, torch_or_error
from cifr_jax.data.packing import Packed
from cifr_jax.finetune.lora import LoraConfig, init_adapter
from cifr_jax.finetune.loss import most_targets
from cifr_jax.finetune.optimiser import TrainConfig, hyper_of, program_of
from cifr_jax.finetune.trainer import fresh_state, run_steps
from cifr_jax.models import decoder
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.hf_config import format_config

SHAPES = {
    "25m": (
        DecoderConfig(8192, 512, 8, 8, 8, 64, 1376, tie_embeddings=True),
        (8, 256),
    ),
    "smollm2": (
        DecoderConfig(49152, 576, 30, 9, 3, 64, 1536, tie_embeddings=True),
        (4, 128),
    ),
}
RANK, STEPS = 16, 1


def our_step(config: DecoderConfig, tokens_bt: np.ndarray):
    """A function that runs one step of a fleet of one, and waits for it."""
    b, t = tokens_bt.shape
    mask_bt = np.ones((b, t), bool)
    mask_bt[:, 0] = False
    positions = np.broadcast_to(np.arange(t, dtype=np.int32), (b, t))
    rows = Packed(tokens_bt, mask_bt, np.ones((b, t), np.int32), positions)
    settings = TrainConfig(10**6, 1e-4, batch_rows=b, chunk=STEPS, schedule="constant")
    program = program_of([settings], most_targets(rows))
    params = decoder.Decoder(config, rngs=nnx.Rngs(0)).split()
    adapter = init_adapter(jax.random.key(0), config, LoraConfig(RANK, 32.0))
    first = lambda tree: jax.tree.map(lambda x: jax.numpy.asarray(x)[None], tree)  # noqa: E731
    state, data, hyper = first(fresh_state(adapter)), first(rows), first(hyper_of(settings))
    index_skmb = np.arange(b, dtype=np.int32)[None, None, None]

    def run():
        nonlocal state
        state, losses = run_steps(config, program, params, hyper, state, data, index_skmb)
        return jax.block_until_ready(losses)

    return run


def peer_step(config: DecoderConfig, tokens_bt: np.ndarray):
    """The same step by PEFT and torch."""
    torch = torch_or_error()
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    base = LlamaForCausalLM(LlamaConfig(**format_config(config)))
    settings = PeftConfig(
        r=RANK, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = get_peft_model(base, settings).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.AdamW(trained, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0)
    tokens = torch.tensor(tokens_bt, dtype=torch.long)

    def run():
        adam.zero_grad(set_to_none=True)
        model(input_ids=tokens, labels=tokens).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        adam.step()

    return run


def main() -> None:
    """Measure one shape."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=sorted(SHAPES), default="25m")
    parser.add_argument("--n", type=int, default=7)
    chosen = parser.parse_args()
    config, (b, t) = SHAPES[chosen.model]
    tokens_bt = np.random.default_rng(0).integers(1, config.vocab_size, (b, t))
    tokens_bt = tokens_bt.astype(np.int32)
    ours, peer = timed(
        our_step(config, tokens_bt), peer_step(config, tokens_bt), chosen.n, 2
    )
    packages = ("torch", "transformers", "peft")
    more = {"model": chosen.model, "batch": [b, t], "rank": RANK}
    report("lora_step", ours, peer, "seconds a step", packages, **more)


if __name__ == "__main__":
    main()
