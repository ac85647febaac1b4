"""Eight fine-tuning jobs as one fleet against eight runs one after the other.

  python -m benchmarks.fleet [--model smollm2|25m] [--jobs 8] [--n 5]

Both through `finetune.fleet.train`, r = 16 on all linear layers, fp32, 4 rows of 128 tokens
a step, two steps a job, compilation not counted. `memory_ratio` is the highest resident
memory of a process that trained the fleet, over that of one that trained one job plus the
adapters and optimiser states of the others; `against_base` the same over the base's
parameters plus all adapters and states, with nothing for activations or the program.
"""

import argparse
import multiprocessing
import resource
import sys

import jax
import numpy as np
from flax import nnx

from benchmarks import lora_training
from benchmarks.measure import report, timed
from cifr_jax.data.packing import Packed
from cifr_jax.finetune import fleet
from cifr_jax.finetune.lora import LoraConfig, init_adapter, n_parameters
from cifr_jax.finetune.optimiser import TrainConfig
from cifr_jax.models import decoder

ROWS, TOKENS, STEPS = 4, 128, 2


def jobs_on(model: str, n: int):
    """A base of random weights and n jobs on it, each with its own rows and seed."""
    config = lora_training.SHAPES[model]
    params = decoder.Decoder(config, rngs=nnx.Rngs(0)).split()
    lora = LoraConfig(lora_training.RANK, float(lora_training.ALPHA))
    shape = (STEPS * ROWS, TOKENS)
    jobs = []
    for seed in range(n):
        tokens_rt = np.random.default_rng(seed).integers(1, config.vocab_size, shape)
        mask_rt = np.ones(shape, bool)
        mask_rt[:, 0] = False
        position_rt = np.broadcast_to(np.arange(TOKENS, dtype=np.int32), shape)
        rows = Packed(
            tokens_rt.astype(np.int32), mask_rt, np.ones(shape, np.int32), position_rt
        )
        start = init_adapter(jax.random.key(seed), config, lora)
        settings = TrainConfig(STEPS, batch_rows=ROWS, chunk=STEPS, seed=seed)
        jobs.append(fleet.Job(f"job {seed}", start, rows, settings))
    return config, params, jobs


def peak_bytes(model: str, n: int) -> int:
    """Highest resident memory of a process that trains n jobs as a fleet (Linux)."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_train_and_measure, (model, n))


def _train_and_measure(model: str, n: int) -> int:
    config, params, jobs = jobs_on(model, n)
    fleet.train(config, params, jobs)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=sorted(lora_training.SHAPES), default="smollm2")
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--n", type=int, default=5)
    chosen = parser.parse_args()
    one, all_jobs = (peak_bytes(chosen.model, n) for n in (1, chosen.jobs))
    print("memory measured", file=sys.stderr)
    config, params, jobs = jobs_on(chosen.model, chosen.jobs)
    together = lambda: fleet.train(config, params, jobs)  # noqa: E731
    in_sequence = lambda: [fleet.train(config, params, [job]) for job in jobs]  # noqa: E731
    ours, peer = timed(together, in_sequence, chosen.n, 1)
    state = 3 * 4 * n_parameters(jobs[0].adapter)
    base = sum(x.nbytes for x in jax.tree.leaves(params))
    gib = 2**30
    more = {
        "model": chosen.model,
        "jobs": chosen.jobs,
        "batch": [ROWS, TOKENS],
        "peak_gib_fleet": round(all_jobs / gib, 3),
        "peak_gib_one": round(one / gib, 3),
        "base_gib": round(base / gib, 3),
        "state_gib": round(state / gib, 4),
        "memory_ratio": round(all_jobs / (one + (chosen.jobs - 1) * state), 3),
        "against_base": round(all_jobs / (base + chosen.jobs * state), 3),
    }
    report("fleet", ours, peer, "seconds for all jobs", (), **more)


if __name__ == "__main__":
    main()
