"""Which option of its item a reply names, and the reply with the names masked.

A tutor's reply differs with the answer; what is left after masking is the wording, which
an honest tutor chooses blindly. "B", "(b)", "option 2" and the option's text are names.

A reply "2" may be the second option or the option "2", and "red" may be an answer or an
arbitrary colour. Both are settled over all rows of a template: marks count if no reply
calls an option that is not there, and texts count if replies name their own items' options
more often than those of other rows' items.

Legend: n rows.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cifr_jax.monitors.dataset.embedded_questions import Embedded
from cifr_jax.monitors.dataset.option_places import (
    Place,
    folded_reply,
    mark_in_phrase,
    mark_places,
    mark_with_text,
    mark_within,
    text_places,
)
from cifr_jax.monitors.dataset.plain_text import words

OPTION, OTHER = "{option}", "{other}"
# None; a digit is a small mark; texts as shown and in other letters.
MANNERS = (
    "", "mark", "small mark", "text", "small text", "text in capitals", "text respelt",
)  # fmt: skip
_MAX_CHARS = 4_000  # of a reply
_LEAST_SHARE = 0.05  # of a template's rows with an item that name an option


class Names(NamedTuple):
    """What the n replies name.

    Attributes:
      option_n: index of the option as shown; -1: none, or no item.
      other_n: index of another option that is mentioned besides; -1: none.
      masked_n: the replies, with `OPTION` and `OTHER` in place of names.
      manner_n: how the option is first named, an index into `MANNERS`.
    """

    option_n: np.ndarray
    other_n: np.ndarray
    masked_n: list[str]
    manner_n: np.ndarray


def _mask(reply: str, places: Sequence[Place], option: int) -> str:
    masked = reply
    for place in sorted(places, reverse=True):
        name = OPTION if place.option == option else OTHER
        masked = masked[: place.start] + name + masked[place.end :]
    return masked


def _apart(first: Sequence[Place], second: Sequence[Place]) -> list[Place]:
    """All of the first, and those of the second that do not overlap them."""
    return [
        *first,
        *(s for s in second if not any(f.start < s.end and s.start < f.end for f in first)),
    ]


def _first(places: Sequence[Place]) -> int:
    return min(places).option if places else -1


def _manners(named: str, option: str, is_text: bool) -> list[int]:
    """Which of `MANNERS` an option's name may be; 42 is the same in all letters."""
    if not is_text:
        return [1 if named.isupper() else 2]
    shown = option.strip(" .")
    begun = shown[:1].upper() + shown[1:]  # as a sentence may
    forms = ((3, shown), (3, begun), (4, shown.lower()), (5, shown.upper()))
    return sorted({manner for manner, form in forms if form == named}) or [6]


def _settled(manners_m: Sequence[Sequence[int]]) -> list[int]:
    """One manner for each name of a template: where several may be, the most frequent of
    those that leave no doubt, so that a house style in capitals is one style."""
    clear = Counter(found[0] for found in manners_m if len(found) == 1)
    return [max(found, key=lambda manner: (clear[manner], -manner)) for found in manners_m]


def _common(folded_n: Sequence[str], items: Sequence[Embedded]) -> set[str]:
    """Options that are words of the replies of other rows ("answer", in "My answer: ..."),
    in more than a fifth of the rows whose items lack them."""
    said: Counter[str] = Counter()
    shown: Counter[str] = Counter()
    said_where_shown: Counter[str] = Counter()
    for folded, item in zip(folded_n, items, strict=True):
        words_of = set(words(folded))
        said.update(words_of)
        for option in {option.lower().strip(" .") for option in item.options}:
            shown[option] += 1
            said_where_shown[option] += option in words_of
    return {
        option
        for option, count in shown.items()
        if said[option] - said_where_shown[option] > 0.2 * (len(items) - count)
    }


def _texts_count(
    folded_n: Sequence[str],
    items: Sequence[Embedded],
    texts_n: Sequence[Sequence[Place]],
    rng: np.random.Generator,
) -> bool:
    """Whether replies name own options more often than those of other rows' items."""
    m = len(items)
    own = np.mean([bool(places) for places in texts_n])
    if own < _LEAST_SHARE:
        return False
    named = []
    for i, j in enumerate(rng.integers(0, m, m)):
        if {*items[i].options} != {*items[j].options}:
            named.append(bool(text_places(folded_n[i], items[j])))
    if not named:
        return True
    other = float(np.mean(named))
    spread = np.sqrt(own * (1 - own) / m + other * (1 - other) / len(named) + 1 / m**2)
    return bool(own - other > 2 * spread)


def read(
    replies: Sequence[str],
    items: Sequence[Embedded | None],
    template_n: np.ndarray,
    seed: int = 0,
) -> Names:
    """Finds the options that n replies name.

    Args:
      replies, items: of the rows.
      template_n: number of each row's template; what counts as a name is settled for each.
      seed: of the rows whose items are swapped for comparison.
    """
    n = len(replies)
    names = Names(np.full(n, -1), np.full(n, -1), list(replies), np.zeros(n, np.int64))
    rng = np.random.default_rng(seed)
    for template in np.unique(template_n):
        rows = [
            (i, item) for i in np.flatnonzero(template_n == template).tolist()
            if (item := items[i]) is not None
        ]  # fmt: skip
        if rows:
            _read_template(names, rows, replies, rng)
    return names


def _read_template(
    names: Names,
    rows: Sequence[tuple[int, Embedded]],
    replies: Sequence[str],
    rng: np.random.Generator,
) -> None:
    cut_n = [replies[i][:_MAX_CHARS] for i, _ in rows]
    folded_n = [folded_reply(reply) for reply in cut_n]
    items = [item for _, item in rows]
    read_n = [mark_places(*pair) for pair in zip(cut_n, items, strict=True)]
    marks_n, foreign_n = [marks for marks, _ in read_n], [foreign for _, foreign in read_n]
    mark_within(cut_n, items, marks_n)
    mark_in_phrase(cut_n, items, marks_n)
    common = _common(folded_n, items)
    texts_n = [
        text_places(folded, item, common)
        for folded, item in zip(folded_n, items, strict=True)
    ]
    by_text = _texts_count(folded_n, items, texts_n, rng)
    called = np.mean([bool(places) for places in marks_n])
    # Numbers or letters that no option has are another code, of topics for example.
    by_mark = called >= _LEAST_SHARE and np.mean(foreign_n) <= 0.2 * called
    if by_mark and by_text:
        # Where a reply can be read either way, the reading that more rows leave open.
        only_marks = sum(bool(m) and not t for m, t in zip(marks_n, texts_n, strict=True))
        only_texts = sum(bool(t) and not m for m, t in zip(marks_n, texts_n, strict=True))
    else:
        only_marks, only_texts = int(by_mark), int(by_text)
    manners: dict[int, list[int]] = {}  # by row
    for at, (i, item) in enumerate(rows):
        marks, texts = (marks_n[at] if by_mark else []), (texts_n[at] if by_text else [])
        # "2 3" is the second option, "3"; its text is no mark.
        both = mark_with_text(folded_n[at], marks, item)
        first, second = (marks, texts) if only_marks >= only_texts else (texts, marks)
        places = _apart(both, texts) if both else _apart(first, second)
        if not places:
            continue
        option = both[0].option if both else _first(first or second)
        names.option_n[i] = option
        named = min(place for place in places if place.option == option)
        said = cut_n[at][named.start : named.end]
        manners[i] = _manners(said, item.options[option], named.is_text)
        names.other_n[i] = _first([place for place in places if place.option != option])
        names.masked_n[i] = _mask(cut_n[at], places, option) + replies[i][_MAX_CHARS:]
    if manners:
        names.manner_n[list(manners)] = _settled(list(manners.values()))
