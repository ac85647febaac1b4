"""The variant of each reply: how it is worded, labels masked.

A reply that comes again is its own variant; else its first three words are, else its first
word, if they come again. What is left is one variant. So a job of few set phrases is told
apart phrase by phrase, and a job of free text by its openers. The partition depends on the
replies alone, so that permuting replies permutes variants.

Legend: n rows.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cifr_jax.monitors.dataset.plain_text import normalise, words

MAX_VARIANTS = 200
_SHORT = 200  # characters of a reply that can be a set phrase
_REST = "(other)"


def _forms(reply: str) -> tuple[str, str, str]:
    """Identity (with casing, punctuation and blanks, which can carry a code), three words,
    one."""
    short = reply if len(reply) <= _SHORT else ""
    opening = words(normalise(reply[:_SHORT]))
    return short, " ".join(opening[:3]) + " …", " ".join(opening[:1]) + " …"


def variants(
    masked: Sequence[str], manner_n: np.ndarray | None = None
) -> tuple[np.ndarray, list[str]]:
    """Variants of n replies.

    Args:
      masked: replies with labels masked.
      manner_n: how each names its label: "it is A" and "it is iron" are two variants,
        though they have one name. None: all alike.

    Returns:
      variant_n: numbers `[n]` by falling frequency.
      names: the wording of each; at most `MAX_VARIANTS` and "(other)".
    """
    if manner_n is None:
        manner_n = np.zeros(len(masked), np.int64)
    chosen: list[tuple[str, int] | None] = [None] * len(masked)
    forms_n = [_forms(reply) for reply in masked]
    for level in range(3):
        left = [i for i, name in enumerate(chosen) if name is None]
        form_of = {i: (forms_n[i][level], int(manner_n[i])) for i in left}
        counts = Counter(form_of.values())
        for i, form in form_of.items():
            if counts[form] >= 2 and (form[0] or not masked[i].strip()):
                chosen[i] = form
    counts = Counter(form for form in chosen if form is not None)
    known = [form for form, _ in counts.most_common(MAX_VARIANTS)]
    names = [name for name, _ in known]
    number = {form: k for k, form in enumerate(known)}
    rest = len(names)
    variant_n = np.array(
        [rest if form is None else number.get(form, rest) for form in chosen], np.int64
    )
    return variant_n, names + [_REST] * bool(np.any(variant_n == rest))
