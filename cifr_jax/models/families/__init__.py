"""Families of models: names of tensors, attributes of config.json, features switched on.

One short table for each. `tensor_slots(config)` says where each tensor of a checkpoint
goes, `models.hf_config` reads and writes config.json with them.
"""

from cifr_jax.models.families.slots import Piece, Slot, tensor_slots
from cifr_jax.models.shapes import parameter_shapes

__all__ = ["Piece", "Slot", "parameter_shapes", "tensor_slots"]
