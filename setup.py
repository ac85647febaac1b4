"""Packaging. Lower bounds name the oldest version that can work, or that was tested."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# Exactly what cifr_jax imports: tests/setup_test.py compares. No upper bounds: jax, flax
# and numpy drop old Pythons at different times, so the resolver picks the newest set that
# fits together (Python 3.11 ends at jax 0.10, flax 0.12.8).
REQUIREMENTS = [
    "absl-py>=2.0",  # 2.0: typed FlagHolder.value
    "flax>=0.12",  # 0.12: nnx.List and nnx.Param as the decoder uses them; needs no orbax code
    "jax>=0.10",  # 0.10: the oldest series that the tests have run on
    "jinja2>=3.1.6",  # 3.1.6: closes escapes from the sandbox that chat templates run in
    "markupsafe>=2.0",  # 2.0: what jinja2 3.1 asks for
    "matplotlib>=3.9",  # 3.9: the oldest with wheels built for numpy 2
    "ml-collections>=1.0",  # 1.0: the oldest with ConfigDict.get_type on placeholders tested
    "numpy>=2.0",  # 2.0: what jax 0.10 asks for
    "optax>=0.2.5",  # 0.2.5: contrib.muon with weight_dimension_numbers
    "rich>=13.0",  # 13.0: Text.from_ansi and Table as the terminal summary uses them
    "safetensors>=0.5",  # 0.5: bfloat16 through numpy by ml_dtypes
    "scipy>=1.13",  # 1.13: the oldest built for numpy 2
    "tokenizers>=0.20",  # 0.20: reads tokenizer.json with merges written as pairs
    "tqdm>=4.66",  # 4.66: the oldest without the code injection of its command line
]
