"""Every family loaded onto a mesh beside one device, for weights_test: prints figures.

python sharded_loading.py DEVICES MESH [COORDINATOR PROCESSES PROCESS]
"""

import json
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

DEVICES, MESH, *DISTRIBUTED = sys.argv[1:]
jax.config.update("jax_num_cpu_devices", int(DEVICES))
if DISTRIBUTED:
    address, processes, process = DISTRIBUTED
    jax.distributed.initialize(address, int(processes), int(process))

from cifr_jax.models import sharding, weights  # noqa: E402
from cifr_jax.models.config import DecoderConfig  # noqa: E402
from cifr_jax.models.families import tensor_slots  # noqa: E402
from cifr_jax.models.families.registry import FAMILIES  # noqa: E402
from cifr_jax.models.safetensors_file import SafetensorsFile  # noqa: E402
from cifr_jax.testing_families import random_model, random_parameters  # noqa: E402

mesh = sharding.make_mesh(json.loads(MESH))
EVEN = DecoderConfig(64, 32, 2, 8, 8, 8, 64)  # everything divides by eight


class Counting:
    """A file that knows how many rows were asked of it."""

    def __init__(self, path, config):
        self._file, self.rows_read = SafetensorsFile(path), {}
        self.found = {
            name: weights.Found(str(path), stored.shape)
            for name, stored in self._file.tensors.items()
        }

    def rows(self, name, start, stop):
        self.rows_read[name] = self.rows_read.get(name, 0) + stop - start
        return self._file.rows(name, start, stop)


found = {}
models = {family: random_model(family, seed=0) for family in FAMILIES}
models["even"] = EVEN, random_parameters(EVEN, np.random.default_rng(0))
for family, (config, params) in models.items():
    params = jax.tree.map(np.asarray, params)
    with tempfile.TemporaryDirectory() as folder:
        from safetensors.numpy import save_file

        path = Path(folder) / "w.safetensors"
        slots = tensor_slots(config)
        save_file({name: slot.read(params) for name, slot in slots.items()}, path)
        counting = Counting(path, config)
        loaded = weights.read_parameters(config, counting, "float32", mesh)
    held = dict.fromkeys(jax.local_devices(), 0)
    equal, replicated, whole = True, [0], 0
    for x, y in zip(jax.tree.leaves(params), jax.tree.leaves(loaded), strict=True):
        whole += x.nbytes
        replicated += [x.nbytes] if y.is_fully_replicated else []
        for shard in y.addressable_shards:
            held[shard.device] += shard.data.nbytes
            equal &= np.array_equal(np.asarray(shard.data), x[shard.index])
    same_layout = jax.tree.map(
        lambda x, layout: x.sharding == layout,
        loaded,
        sharding.parameter_shardings(config, mesh),
    )
    found[family] = {
        "equal": bool(equal),
        "same_layout": all(jax.tree.leaves(same_layout)),
        "most_held": max(held.values()),
        "whole": whole,
        "replicated": sum(replicated),
        "rows_read": counting.rows_read,
    }
print(json.dumps(found))
