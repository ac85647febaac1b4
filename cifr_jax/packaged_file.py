"""One known file out of an installed package whose code is not run. Imports no JAX."""

import hashlib
import importlib.metadata
from pathlib import Path

from cifr_jax.errors import UserError


def find(package: str, suffix: str, sha256: str, install: str, where: str) -> Path:
    """The only file of a package that ends in `suffix`.

    Args:
      sha256: of the file: another one is refused.
      install: the command that installs the package.
      where: what needs it, for the error.

    Raises:
      UserError: the package is missing, or the file is not the known one.
    """
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    paths = [Path(str(file.locate())) for file in files if file.suffix == suffix]
    if len(paths) != 1 or not paths[0].is_file():
        raise UserError(where, f"needs the Python package {package}", install)
    with open(paths[0], "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        mend = f"pip uninstall {package}, then {install}"
        raise UserError(str(paths[0]), f"sha256 is {digest}, not {sha256}", mend)
    return paths[0]
