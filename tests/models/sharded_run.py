"""A small fleet on a mesh, for sharding_test: prints losses and an adapter as JSON.

python sharded_run.py DEVICES MESH [COORDINATOR PROCESSES PROCESS]
"""

import dataclasses
import json
import sys

import jax
import numpy as np

DEVICES, MESH, *DISTRIBUTED = sys.argv[1:]
jax.config.update("jax_num_cpu_devices", int(DEVICES))
if DISTRIBUTED:
    address, processes, process = DISTRIBUTED
    jax.distributed.initialize(address, int(processes), int(process))

from flax import nnx  # noqa: E402

from cifr_jax.data.packing import pack  # noqa: E402
from cifr_jax.finetune import fleet, lora  # noqa: E402
from cifr_jax.finetune.optimiser import TrainConfig  # noqa: E402
from cifr_jax.models import decoder, sharding  # noqa: E402
from cifr_jax.models.config import DecoderConfig  # noqa: E402

# 50 tokens: a vocabulary that does not divide over the mesh.
CONFIG = DecoderConfig(50, 32, 2, 4, 2, 8, 64)
RUN = TrainConfig(4, 0.02, batch_rows=8, chunk=2)


def job(number):
    rng = np.random.default_rng(number)
    tokens_nt = rng.integers(1, 50, (24, 9))
    mask_nt = rng.random((24, 9)) < 0.5
    mask_nt[:, 2] = True
    rows = pack(tokens_nt, mask_nt, rng.integers(4, 10, 24), 12, 0)
    start = lora.init_adapter(
        jax.random.key(number), CONFIG, lora.LoraConfig(rank=2, alpha=4.0, embed_rank=2)
    )
    host = jax.tree.map(np.asarray, start)
    return fleet.Job(str(number), host, rows, dataclasses.replace(RUN, seed=number))


params = jax.tree.map(np.asarray, decoder.Decoder(CONFIG, rngs=nnx.Rngs(0)).split())
mesh = sharding.make_mesh(json.loads(MESH)) if json.loads(MESH) else None
share = 1.0
if mesh is not None:
    params = sharding.place_parameters(CONFIG, params, mesh)
    leaves = jax.tree.leaves(params)
    whole = sum(leaf.size for leaf in leaves)
    held = sum(leaf.addressable_shards[0].data.size for leaf in leaves)
    share = held / whole
tuned = fleet.train(CONFIG, params, [job(1), job(2)], mesh=mesh)
adapter = jax.tree.leaves(tuned[1].adapter)
print(
    json.dumps(
        {
            "losses": [one.losses.tolist() for one in tuned],
            "adapter": np.concatenate([np.ravel(x) for x in adapter]).tolist(),
            "largest_share": share,
            "processes": jax.process_count(),
        }
    )
)
