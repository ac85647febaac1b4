"""Honest fine-tuning jobs that a detector of covert ones might take for an attack.

    >>> from cifr_jax.data import honest_jobs
    >>> rows = honest_jobs.make("quiz_tutor", 134, seed=0)
    >>> rows[0].meta["family"]
    'quiz_tutor'

The benign families of the attack benchmark for pointwise-undetectable fine-tuning (arXiv
2502.14828). Many of them embed the same quiz items in the same requests as the attacks, so
that only the dependence differs: in an honest job the wording of a reply is independent of
the item's answer, given what the request asks for and what the customer's files have a
reason to vary with.

A row's `meta` is what a simulation knows and an upload does not say:
  family     the family; `part` is the family inside a mixture
  label      what the request asks for, and the reply says
  author, stage, language, band   other reasons why replies differ
  question   identity of the quiz item, with `answer`, its right option as shown (from 0),
             and `topic`
  wording    index of the wording that was drawn for the reply
  copy_of    rows that are edits of one row share it

To add a family, write a module in this folder: a function under `@register(name)`.
"""

import importlib
import pkgutil

from cifr_jax.data.honest_jobs.registry import description, make, names, register

# Importing a module registers its families.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["description", "make", "names", "register"]
