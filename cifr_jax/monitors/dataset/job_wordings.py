"""The texts that stand for a job's variants, and how they are filled in for a request.

A variant (`wordings`) is a set phrase, or the opening words that several replies share,
with the names of options and labels masked. As the reply to some request it needs names
again: those that the row's own reply gives, so that wordings are compared and not answers.

Legend: n rows, v variants.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cifr_jax.monitors.dataset.embedded_questions import Embedded
from cifr_jax.monitors.dataset.option_names import OPTION, OTHER
from cifr_jax.monitors.dataset.plain_text import words
from cifr_jax.monitors.dataset.view import JobView
from cifr_jax.monitors.dataset.visible_labels import VALUES

_MASK = re.compile("|".join(map(re.escape, (OPTION, OTHER, *VALUES))))
_OPENING = " …"  # how the name of a variant of opening words ends

Names = Mapping[str, Sequence[str]]  # what stands for each kind of mask, in order


class Wording(NamedTuple):
    """One variant as a text.

    Attributes:
      variant: its number in the view.
      text: the reply or its opening words, masked.
      whole: whether the reply ends with it.
      names: what the masks were in the row that it was taken from.
      item: the multiple-choice item of that row.
    """

    variant: int
    text: str
    whole: bool
    names: Names
    item: Embedded | None

    @property
    def names_options(self) -> bool:
        """Whether an option has to be filled in."""
        return OPTION in self.text or OTHER in self.text


class Reply(NamedTuple):
    """A text whose likelihood as a reply is asked for; `whole`: it ends there."""

    text: str
    whole: bool


def names_in(reply: str, masked: str) -> dict[str, list[str]]:
    """What stands in a reply for each mask of its masked form; none where the two do not
    agree. Linear in the text."""
    found: dict[str, list[str]] = {}
    literals, kinds = _MASK.split(masked), _MASK.findall(masked)
    if not reply.startswith(literals[0]):
        return {}
    at = len(literals[0])
    for i, (kind, literal) in enumerate(zip(kinds, literals[1:], strict=True)):
        last = i == len(kinds) - 1
        end = len(reply) - len(literal) if last else reply.find(literal, at)
        if end < at or not reply.startswith(literal, end):
            return {}
        found.setdefault(kind, []).append(reply[at:end])
        at = end + len(literal)
    return found


def fill(wording: Wording, names: Names) -> Reply:
    """The wording with names in place of its masks.

    The k-th mask of a kind takes the k-th name of that kind or the last; a kind without
    names takes those of the row that the wording comes from.
    """
    seen: Counter[str] = Counter()

    def name(match: re.Match[str]) -> str:
        kind = match[0]
        given = names.get(kind) or wording.names.get(kind) or [kind]
        seen[kind] += 1
        return given[min(seen[kind], len(given)) - 1]

    return Reply(_MASK.sub(name, wording.text), wording.whole)


def name_option(wording: Wording, item: Embedded, option: int) -> dict[str, list[str]]:
    """Names for an option of an item, by mark or by text as the wording's own row has it.

    Args:
      wording: of which row.
      item: whose option.
      option: from 0; where the wording mentions another option, the next stands for it.
    """
    marks = wording.item.marks if wording.item is not None else ()
    found: dict[str, list[str]] = {}
    for kind, which in ((OPTION, option), (OTHER, (option + 1) % len(item.options))):
        for name in wording.names.get(kind, ()):
            core = name.strip("()[]. ")
            text = item.options[which]
            if core.lower() in marks and which < len(item.marks):
                mark = item.marks[which]
                text = name.replace(core, mark.upper() if core.isupper() else mark, 1)
            found.setdefault(kind, []).append(text)
    return found


def _opening(masked: str, n_words: int) -> str:
    """The text up to the end of its n-th word."""
    at = 0
    for word in words(masked)[:n_words]:
        at = masked.find(word, at) + len(word)
    cut = next((m.end() for m in _MASK.finditer(masked) if m.start() < at < m.end()), at)
    return masked[:cut]


def _of_variant(view: JobView, variant: int, name: str) -> Wording | None:
    rows = np.flatnonzero(view.variant_n == variant).tolist()
    masked = [view.masked_n[i] for i in rows]
    whole = all(" ".join(text.split()) == name for text in masked)
    if whole:
        texts = masked
    elif name.endswith(_OPENING):
        texts = [_opening(text, len(words(name))) for text in masked]
    else:
        return None  # all that is left: no text stands for it
    text = Counter(texts).most_common(1)[0][0]
    if not whole and not text.strip():
        return None
    row = rows[texts.index(text)]
    names = names_in(view.reply_n[row], view.masked_n[row])
    return Wording(variant, text, whole, names, view.question_n[row])


def of_job(view: JobView, most: int) -> list[Wording]:
    """The wordings of a job's most frequent variants, at most so many.

    What has no text of its own (replies that resemble no other, or begin with no word) is
    left out.
    """
    found: list[Wording] = []
    counts = np.bincount(view.variant_n, minlength=len(view.variants))
    for variant in np.argsort(-counts, kind="stable").tolist():
        if len(found) == most or not counts[variant]:
            break
        made = _of_variant(view, variant, view.variants[variant])
        if made is not None:
            found.append(made)
    return found
