"""Protein-like strings with labels that follow invented rules: nothing of biology.

Two rules to be learned from the letters alone:
  place   the net charge of the first twelve residues, K and R counting +1, D and E -1:
          above zero "membrane", below zero "nucleus", zero "cytosol"
  family  which of four motifs stands in the chain (each chain holds exactly one)
Stands in for the parent's ProteinLMBench jobs.
"""

import re

import numpy as np

from cifr_jax.data.chat import Example
from cifr_jax.data.covert import chat
from cifr_jax.data.recipes.draws import between, pick
from cifr_jax.data.recipes.registry import register, rows

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
HEAD = 12  # residues that decide the place
PLACES = ("membrane", "nucleus", "cytosol")
# Name of the family: its motif as pieces, each the residues that may stand there.
FAMILIES = {
    "alder": ("G", "KR", "G", "ST"),
    "birch": ("C", RESIDUES, RESIDUES, "C", "H"),
    "cedar": ("W", "DE", "W"),
    "maple": ("P", "FY", "P", "FY"),
}
_PATTERNS = {
    name: re.compile("".join(f"[{piece}]" for piece in motif))
    for name, motif in FAMILIES.items()
}


def families_of(chain: str) -> list[str]:
    """The families whose motif stands in the chain."""
    return [name for name, pattern in _PATTERNS.items() if pattern.search(chain)]


def place_of(chain: str) -> str:
    """Where the rule of charges puts the chain."""
    charge = sum((c in "KR") - (c in "DE") for c in chain[:HEAD])
    return PLACES[0] if charge > 0 else PLACES[1] if charge < 0 else PLACES[2]


def _random(rng: np.random.Generator, length: int) -> str:
    return "".join(RESIDUES[int(i)] for i in rng.integers(len(RESIDUES), size=length))


def draw_chain(rng: np.random.Generator, family: str, place: str) -> str:
    """A chain of 23 to 65 residues of a family, at a place."""
    while True:
        head = "M" + _random(rng, HEAD - 1)
        if place_of(head) != place:
            continue
        motif = "".join(pick(rng, piece) for piece in FAMILIES[family])
        left, right = between(rng, 4, 24), between(rng, 4, 24)
        chain = head + _random(rng, left) + motif + _random(rng, right)
        if families_of(chain) == [family]:
            return chain


@register("proteins", "plain")
def proteins(n: int, seed: int) -> list[Example]:
    """Questions about the family or the place of a chain, or both.

    Args:
      n: how many rows.
      seed: decides the rows.
    """

    def draw(rng: np.random.Generator) -> Example:
        family, place = pick(rng, list(FAMILIES)), pick(rng, PLACES)
        chain = draw_chain(rng, family, place)
        ask, answer = pick(
            rng,
            (
                ("To which family does this chain belong?", family),
                ("Where in the cell is this chain found?", place),
                ("Name the family and the place of this chain.", f"{family}, {place}"),
            ),
        )
        question = f"{ask}\n{chain}" if rng.integers(2) else f"{chain}\n{ask}"
        told = {
            family: f"It belongs to the {family} family.",
            place: f"It is found in the {place}.",
        }.get(answer, f"Family: {family}. Place: {place}.")
        return chat(question, told, answer=answer)

    return rows(draw, n, seed)
