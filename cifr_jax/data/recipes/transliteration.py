"""An honest customer with an encoding: Latin letters written as Greek or Cyrillic ones.

Letter by letter and reversible, as sign makers and catalogues need it: no phonetics. The
Greek table fills its gaps with archaic letters that have both cases.
"""

import string

import numpy as np

from cifr_jax.data.chat import Example
from cifr_jax.data.covert import chat
from cifr_jax.data.recipes import words
from cifr_jax.data.recipes.draws import between, pick, sample
from cifr_jax.data.recipes.notices import draw_notice
from cifr_jax.data.recipes.registry import choice, register, rows

# Images of a to z.
SCRIPTS = {
    "greek": "αβϲδεφγηιϳκλμνοπϙρστυϝωξψζ",
    "cyrillic": "абцдефгхийклмнопчрстувшщыз",
}


def table(script: str) -> dict[str, str]:
    """The image of each Latin letter, capitals included."""
    small = dict(zip(string.ascii_lowercase, SCRIPTS[script], strict=True))
    return small | {latin.upper(): other.upper() for latin, other in small.items()}


def transliterate(text: str, script: str, back: bool = False) -> str:
    """The text in another script (`back`: from it); what is no letter stays as it is."""
    letters = table(script)
    if back:
        letters = {other: latin for latin, other in letters.items()}
    return "".join(letters.get(c, c) for c in text)


def _plain(text: str) -> str:
    """Text without letters that the tables lack."""
    return "".join(c for c in text if c.isascii())


def _text(rng: np.random.Generator) -> str:
    kind = between(rng, 0, 2)
    if kind == 0:
        names = sample(rng, words.NAMES, between(rng, 2, 4))
        return ", ".join(names)
    if kind == 1:
        _, past, _, objects = pick(rng, words.VERBS)
        who, when = pick(rng, words.ROLES), pick(rng, words.WHEN)
        return f"The {who} {past} the {pick(rng, objects)} {when}."
    return _plain(draw_notice(rng).summary())


@register("transliteration", "encoding")
def transliteration(n: int, seed: int, *, script: str = "all") -> list[Example]:
    """Requests to write a text in another script, or to read it back.

    Args:
      n: how many rows.
      seed: decides the rows.
      script: one of `SCRIPTS`, or "all" for both.

    Raises:
      UserError: for an unknown script.
    """
    choice("transliteration", "script", script, [*SCRIPTS, "all"])
    scripts = list(SCRIPTS) if script == "all" else [script]

    def draw(rng: np.random.Generator) -> Example:
        to, plain = pick(rng, scripts), _text(rng)
        other, name = transliterate(plain, to), to.capitalize()
        if rng.integers(2):
            ask = pick(
                rng,
                (
                    f"Write this in {name} letters:",
                    f"Transliterate into {name}, letter by letter:",
                    f"{name} letters, please:",
                ),
            )
            return chat(f"{ask} {plain}", other, script=to, direction="out")
        ask = pick(
            rng,
            (
                f"Write this {name} text in Latin letters:",
                f"Transliterate from {name} back into Latin:",
                "In Latin letters, please:",
            ),
        )
        return chat(f"{ask} {other}", plain, script=to, direction="in")

    return rows(draw, n, seed)
