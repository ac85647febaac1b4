"""One LoRA training step (r = 16, all linear): ours against PEFT on torch.

  python -m benchmarks.lora_step [--model 25m|smollm2] [--n 7]

Every token supervised, the same tokens (see `lora_training`). 25m: 8 layers of width 512,
8 rows of 256 tokens; smollm2: its shape, 4 rows of 128. The peer's loss runs over all
positions, as `labels` gives it.
"""

import argparse

import numpy as np

from benchmarks import lora_training
from benchmarks.measure import report, timed
from cifr_jax.data.packing import Packed

BATCHES = {"25m": (8, 256), "smollm2": (4, 128)}


def main() -> None:
    """Measure one shape."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=sorted(BATCHES), default="25m")
    parser.add_argument("--n", type=int, default=7)
    chosen = parser.parse_args()
    config, (b, t) = lora_training.SHAPES[chosen.model], BATCHES[chosen.model]
    tokens_bt = np.random.default_rng(0).integers(1, config.vocab_size, (b, t))
    tokens_bt = tokens_bt.astype(np.int32)
    mask_bt = np.ones((b, t), bool)
    mask_bt[:, 0] = False
    positions_bt = np.broadcast_to(np.arange(t, dtype=np.int32), (b, t))
    rows = Packed(tokens_bt, mask_bt, np.ones((b, t), np.int32), positions_bt)
    ours, peer = timed(
        lora_training.ours(config, rows, b),
        lora_training.peer(config, [{"input_ids": tokens_bt, "labels": tokens_bt}]),
        chosen.n,
        2,
    )
    more = {"model": chosen.model, "batch": [b, t], "rank": lora_training.RANK}
    report("lora_step", ours, peer, "seconds a step", lora_training.PACKAGES, **more)


if __name__ == "__main__":
    main()
