"""LoRA training, ours and PEFT's on torch, as functions that the benchmarks time.

Random weights of a named shape, fp32, r = 16 on all linear layers, AdamW with clipping. The
peer is transformers' LlamaForCausalLM under PEFT. Needs the extra `parity`.

Legend: b rows of a batch, t tokens, r packed rows.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from flax import nnx

from benchmarks.measure import torch_or_error
from cifr_jax.data.packing import Packed
from cifr_jax.finetune.lora import LoraConfig, init_adapter
from cifr_jax.finetune.loss import most_targets
from cifr_jax.finetune.optimiser import TrainConfig, hyper_of, program_of
from cifr_jax.finetune.trainer import fresh_state, run_steps
from cifr_jax.models import decoder
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.hf_config import format_config

PACKAGES = ("torch", "transformers", "peft")
SHAPES = {
    "25m": DecoderConfig(8192, 512, 8, 8, 8, 64, 1376, tie_embeddings=True),
    "smollm2": DecoderConfig(49152, 576, 30, 9, 3, 64, 1536, tie_embeddings=True),
}
RANK, ALPHA, RATE, CLIP = 16, 32, 1e-4, 1.0


def ours(config: DecoderConfig, rows: Packed, batch_rows: int) -> Callable[[], object]:
    """A function that trains once over packed rows, in order, and waits for the end.

    The last batch is filled up with empty rows.
    """
    steps = -(-len(rows.tokens_rt) // batch_rows)
    missing = ((0, steps * batch_rows - len(rows.tokens_rt)), (0, 0))
    rows = Packed(*(np.pad(a, missing) for a in rows))
    settings = TrainConfig(
        10**6, RATE, batch_rows=batch_rows, chunk=steps, schedule="constant"
    )
    program = program_of([settings], most_targets(rows))
    params = decoder.Decoder(config, rngs=nnx.Rngs(0)).split()
    adapter = init_adapter(jax.random.key(0), config, LoraConfig(RANK, float(ALPHA)))
    hyper = hyper_of(settings)
    state, data, hyper = (
        jax.tree.map(lambda x: jax.numpy.asarray(x)[None], tree)
        for tree in (fresh_state(program, hyper, adapter), rows, hyper)
    )
    index = np.arange(steps * batch_rows, dtype=np.int32)
    index_skmb = index.reshape(steps, 1, 1, batch_rows)

    def run():
        nonlocal state
        state, losses = run_steps(config, program, params, hyper, state, data, index_skmb)
        return jax.block_until_ready(losses)

    return run


def peer(
    config: DecoderConfig, batches: Sequence[dict[str, np.ndarray]]
) -> Callable[[], object]:
    """A function that trains on each batch (input_ids, labels, ...) by PEFT and torch."""
    torch = torch_or_error()
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    base = LlamaForCausalLM(LlamaConfig(**format_config(config)))
    settings = PeftConfig(
        r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = get_peft_model(base, settings).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.AdamW(trained, lr=RATE, betas=(0.9, 0.99), weight_decay=0.0)
    inputs = [
        {name: torch.tensor(array, dtype=torch.long) for name, array in batch.items()}
        for batch in batches
    ]

    def run():
        for batch in inputs:
            adam.zero_grad(set_to_none=True)
            model(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, CLIP)
            adam.step()

    return run
