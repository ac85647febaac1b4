"""Ciphers: families of text encodings and their variants, by name.

    >>> from cifr_jax import ciphers
    >>> walnut = ciphers.parse("walnut:seed=53")
    >>> walnut.encode("a cab")
    'd| |k|d|q'
    >>> walnut.decode("d| |k|d|q")
    'a cab'

To add a family, write one module in this folder, or anywhere else that gets imported:
a frozen dataclass that derives from `Cipher`, under `@register("name")`.
"""

import importlib
import pkgutil

from cifr_jax.ciphers.base import Cipher, CipherDecodeError
from cifr_jax.ciphers.compose import Composition
from cifr_jax.ciphers.registry import families, names, parse, register

# Importing a module registers its families.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "Cipher",
    "CipherDecodeError",
    "Composition",
    "families",
    "names",
    "parse",
    "register",
]
