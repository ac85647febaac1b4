"""Fine-tuning jobs on real-looking text, by name: honest customers and covert ones.

    >>> from cifr_jax.data import recipes
    >>> rows = recipes.make("worked_maths", 100, seed=0)
    >>> rows[0].meta["recipe"]
    'worked_maths'

Everything is generated here, offline, and is a pure function of the seed; `data.sources`
and `data.hub_sources` read the texts of others. To add a recipe, write one module in this
folder: a function under `@register("name", kind)`.
"""

import importlib
import pkgutil

from cifr_jax.data.recipes.registry import KINDS, kind_of, make, names, register

# Importing a module registers its recipes.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["KINDS", "kind_of", "make", "names", "register"]
