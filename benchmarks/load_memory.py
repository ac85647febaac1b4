"""Peak memory of loading a checkpoint: ours against `from_pretrained` of transformers.

  python -m benchmarks.load_memory [--layers 8] [--shards 4] [--fsdp 1]

A random Llama of about 2 GB of parameters is written in shards to a temporary folder. Each
loader runs in a fresh process, which reports the peak of its resident memory (`ru_maxrss`)
over the bytes of the parameters, its imports and the pages of the files included. Needs the
extra `parity` for the peer; without it the peer's figure is null. With several virtual
devices the base is split over them; the largest part that one holds is reported.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import threads, versions
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.families import parameter_shapes
from cifr_jax.models.hf_folder import save_hf_folder
from cifr_jax.testing import byte_tokenizer

_MEASURED = """
import json, resource, sys, time
more = {{}}
began = time.perf_counter()
{load}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
seconds = time.perf_counter() - began
found = {{"peak": peak, "n_bytes": n_bytes, "seconds": seconds}}
print(json.dumps(found | more))
"""
_OURS = """
import jax
from cifr_jax.models import load, sharding
fsdp = {fsdp}
jax.config.update("jax_num_cpu_devices", fsdp)
lm = load(sys.argv[1], sys.argv[2], sharding.make_mesh({{"fsdp": fsdp}}))
leaves = jax.block_until_ready(jax.tree.leaves(lm.params))
n_bytes = sum(x.nbytes for x in leaves)
held = dict.fromkeys(jax.devices(), 0)
for x in leaves:
    for shard in x.addressable_shards:
        held[shard.device] += shard.data.nbytes
more["largest_share"] = max(held.values()) / n_bytes
"""
_PEER = """
import torch
from transformers import LlamaForCausalLM
model = LlamaForCausalLM.from_pretrained(sys.argv[1], dtype=getattr(torch, sys.argv[2]))
n_bytes = sum(x.numel() * x.element_size() for x in model.parameters())
"""


def write_checkpoint(folder: Path, layers: int, shards: int, stored: str) -> None:
    """Random weights, one array in memory for all layers."""
    tokenizer = byte_tokenizer()
    config = DecoderConfig(
        vocab_size=tokenizer.vocab_size, d_model=2048, n_layers=layers, n_heads=16,
        n_kv_heads=16, d_head=128, d_ff=8192, tie_embeddings=True,
    )  # fmt: skip
    rng = np.random.default_rng(0)

    def draw(shape, stacked=False):
        if not stacked:
            return rng.standard_normal(shape, np.float32).astype(stored)
        return np.broadcast_to(draw(shape[1:]), shape)

    shapes = parameter_shapes(config)
    inside = {name: draw(shape, True) for name, shape in shapes.pop("layers").items()}
    params = {name: draw(shape) for name, shape in shapes.items()} | {"layers": inside}
    most = config.n_parameters() * np.dtype(stored).itemsize // shards + 1
    save_hf_folder(folder, config, params, tokenizer, most)


def measure(load: str, folder: Path, dtype: str) -> dict | None:
    """Peak, bytes of the parameters and seconds of a fresh process."""
    command = [sys.executable, "-c", _MEASURED.format(load=load), str(folder), dtype]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--stored", choices=("float32", "float16"), default="float16")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--fsdp", type=int, default=1, help="virtual devices of ours")
    chosen = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), chosen.layers, chosen.shards, chosen.stored)
        print(f"written in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        found = {
            name: measure(load, Path(folder), chosen.dtype)
            for name, load in (("ours", _OURS.format(fsdp=chosen.fsdp)), ("peer", _PEER))
        }
    line = {"name": "load_memory", "unit": "peak resident memory over parameters' bytes"}
    for name, one in found.items():
        line[name] = one and round(one["peak"] / one["n_bytes"], 3)
        line[f"{name}_seconds"] = one and round(one["seconds"], 1)
    line["largest_share"] = found["ours"] and found["ours"]["largest_share"]
    line["n_bytes"] = found["ours"] and found["ours"]["n_bytes"]
    line |= vars(chosen) | {"threads": threads(), "versions": versions(("jax", "numpy"))}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
