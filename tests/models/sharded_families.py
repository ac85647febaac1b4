"""Every family on a mesh beside one device, for sharding_test: prints differences as JSON.

python sharded_families.py DEVICES MESH
"""

import json
import sys

import jax
import numpy as np

DEVICES, MESH = sys.argv[1:]
jax.config.update("jax_num_cpu_devices", int(DEVICES))

from cifr_jax.models import decoder, sharding  # noqa: E402
from cifr_jax.models.families.registry import FAMILIES  # noqa: E402
from cifr_jax.testing_families import random_model  # noqa: E402

mesh = sharding.make_mesh(json.loads(MESH))
forward = jax.jit(decoder.forward, static_argnums=0)
found = {}
for family in FAMILIES:
    config, params = random_model(family, seed=0)
    tokens_bt = np.random.default_rng(0).integers(0, config.vocab_size, (4, 16))
    whole = forward(config, params, tokens_bt)
    placed = sharding.place_parameters(config, params, mesh)
    rows = sharding.place(tokens_bt, jax.sharding.NamedSharding(mesh, sharding.BATCH))
    split = forward(config, placed, rows)
    apart = np.abs(np.asarray(split) - np.asarray(whole)).max()
    parts = {str(leaf.sharding.spec) for leaf in jax.tree.leaves(placed)}
    found[family] = {"difference": float(apart), "layouts": sorted(parts)}
print(json.dumps(found))
