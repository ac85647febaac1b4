"""Which option of its item a reply names, and the reply with the names masked.

A tutor's reply differs with the answer; what is left after masking is the wording, which
an honest tutor chooses blindly. "B", "(b)", "option 2" and the option's text are names.

A reply "2" may be the second option or the option "2", and "red" may be an answer or an
arbitrary colour. Both are settled over all rows of a template: marks count if no reply
calls an option that is not there, and texts count if replies name their own items' options
more often than those of other rows' items.

Legend: n rows.
"""

import re
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import numpy as np

from cifr_jax.monitors.dataset.embedded_questions import Embedded
from cifr_jax.monitors.dataset.plain_text import words

OPTION, OTHER = "{option}", "{other}"
# None; a digit is a small mark; texts as shown and in other letters.
MANNERS = (
    "", "mark", "small mark", "text", "small text", "text in capitals", "text respelt",
)  # fmt: skip
_MAX_CHARS = 4_000  # of a reply
_NEAR = 16  # characters on each side that tell a mark from a word
_SET_PHRASE = 200  # characters of a reply that may be one
_LEAST_SHARE = 0.05  # of a template's rows with an item that name an option
_BRACKETED = re.compile(r"\(([A-Ha-h]|[1-8])\)|(?<![^\W_])([A-Ha-h]|[1-8])\)")
_BARE = re.compile(r"(?<![\w'’.,/+×<-])([A-Za-z]|\d{1,3})(?![\w'’/+×-]|[.,]\d)")
# Within what no space parts: "答案是B", "answer_B", "optB", "'B'"; see `_mark_within`.
_WITHIN = re.compile(r"(?<![A-Z\d</])(?:([A-H])|(?<![.,])([1-8]))(?![A-Za-z\d]|[.,]\d)")
# "A" and "I" are words as well. No article stands before these, and within a sentence none
# is a capital; "I" is a mark only where it is all that is said.
_AFTER_MARK = re.compile(
    r"[ *\"']*(?:$|[\n.,;:!?)\]]|\d{1,2}[.:)](?!\d)|"
    r"(?:is|it|was|would|seems?|looks?|fits|sounds|works|feels|makes|has|must|should|here|then|for|because|since|as|again|too|please|indeed|"
    r"obviously|clearly|definitely|certainly)\b)",
    re.IGNORECASE,
)
# Thai and Lao, kana, Chinese signs; Korean particles stand at their noun.
_SPACELESS = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_SENTENCE_START = re.compile(r"(?:^|[.!?:\n])[ *\"'(\-]*$")


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


class _Place(NamedTuple):
    start: int
    end: int
    option: int
    is_text: bool = False


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether the letter there is a mark rather than a word."""
    before, after = text[max(0, start - _NEAR) : start], text[end : end + _NEAR]
    if text[start] in "iI":
        return not before.strip(" *\"'(") and not after.strip(" *\"').!")
    if _AFTER_MARK.match(text, end):
        return True
    in_capitals = (before + after).upper() == before + after
    return text[start] == "A" and not (_SENTENCE_START.search(before) or in_capitals)


def _mark_places(reply: str, item: Embedded) -> tuple[list[_Place], bool]:
    """Where marks stand, and whether the reply calls an option that is not there."""
    marks = item.marks
    if not marks:
        return [], False
    places, foreign = [], False
    for match in _BRACKETED.finditer(reply):
        mark = (match[1] or match[2]).lower()
        if mark in marks:
            # Without its brackets, which are wording.
            span = match.span(1 if match[1] else 2)
            places.append(_Place(*span, marks.index(mark)))
    taken = {i for place in places for i in range(place.start, place.end)}
    for match in _BARE.finditer(reply):
        mark = match[1].lower()
        if match.start() in taken or mark.isdigit() != marks[0].isdigit():
            continue
        if mark in ("a", "i") and not _stands_alone(reply, *match.span()):
            own = item.options[0].lower()
            if mark == "i" or not reply[match.end() :].lstrip(" *").lower().startswith(own):
                continue
        if mark in marks:
            places.append(_Place(match.start(), match.end(), marks.index(mark)))
        elif all(mark != option.lower() for option in item.options):
            foreign = True
    return places, foreign


def _mark_within(
    cut_n: Sequence[str], items: Sequence[Embedded], marks_n: list[list[_Place]]
) -> None:
    """Adds marks that stand within what no space parts, where none was found: if the same
    set phrase comes with two marks or more, or comes again with the one mark that is named
    at all. Scripts without spaces write so, and names of the "answer_B" kind; else the
    wording would be the answer, or the label would follow the wording."""
    named = {
        items[at].marks[place.option] for at, marks in enumerate(marks_n) for place in marks
    }
    found = [
        (at, match.span(), f"{reply[: match.start()]}\0{reply[match.end() :]}", mark)
        for at, (reply, item) in enumerate(zip(cut_n, items, strict=True))
        if item.marks and not marks_n[at] and len(reply) <= _SET_PHRASE
        for match in _WITHIN.finditer(reply)
        if (mark := match[0].lower()) in item.marks
    ]
    said: dict[str, Counter[str]] = {}
    for _, _, text, mark in found:
        said.setdefault(text, Counter())[mark] += 1
    for at, span, text, mark in found:
        one_for_all = named == {mark} and said[text][mark] > 1
        if (len(said[text]) > 1 or one_for_all) and not marks_n[at]:
            marks_n[at] = [_Place(*span, items[at].marks.index(mark))]


def _mark_in_phrase(
    cut_n: Sequence[str], items: Sequence[Embedded], marks_n: list[list[_Place]]
) -> None:
    """Adds the letter A of set phrases in which it could be a word ("A by far"), where no
    mark was found: if another letter stands in the phrase ("B by far"), or if no other is
    named at all and the phrase comes again. Else the label would follow the wording."""

    def phrase(reply: str, start: int, end: int) -> str:
        return f"{reply[:start]}\0{reply[end:]}".lower()

    others = {
        phrase(reply, place.start, place.end)
        for reply, item, marks in zip(cut_n, items, marks_n, strict=True)
        for place in marks
        if item.marks[place.option] != "a" and len(reply) <= _SET_PHRASE
    }
    only_a = any(marks_n) and all(
        item.marks[place.option] == "a"
        for item, marks in zip(items, marks_n, strict=True)
        for place in marks
    )
    found = [
        (at, match.span(), phrase(reply, *match.span()))
        for at, (reply, item) in enumerate(zip(cut_n, items, strict=True))
        if "a" in item.marks and not marks_n[at] and len(reply) <= _SET_PHRASE
        for match in _BARE.finditer(reply)
        if match[1] in "aA"
    ]
    again = Counter(text for _, _, text in found)
    for at, span, text in found:
        if text in others or (only_a and again[text] > 1):
            marks_n[at] = [_Place(*span, items[at].marks.index("a"))]


def _in_word(sign: str) -> bool:
    """Whether a sign beside another makes one word with it, in a script that has spaces."""
    return sign.isalnum() and not _SPACELESS.match(sign)


def _text_places(
    folded: str, item: Embedded, common: AbstractSet[str] = frozenset()
) -> list[_Place]:
    """Where the texts of options stand as words; of texts that overlap, the longest.
    Options in `common` are passed over."""
    places: list[_Place] = []
    by_length = sorted(enumerate(item.options), key=lambda pair: -len(pair[1]))
    for index, option in by_length:
        text = option.lower().strip(" .")
        at = folded.find(text) if text and text not in common else -1
        found = 0
        while at >= 0 and found < 8:
            end = at + len(text)
            elided = len(text) < 3 and re.match(r"['’][^\W\d_]", folded[end : end + 2])
            inside = (at > 0 and _in_word(folded[at - 1]) and _in_word(text[0])) or (
                end < len(folded) and _in_word(folded[end]) and _in_word(text[-1])
            )
            overlaps = any(p.start < end and at < p.end for p in places)
            article = text in ("a", "i") and not _stands_alone(folded, at, end)
            if not (inside or overlaps or article or elided):
                places.append(_Place(at, end, index, True))
                found += 1
            at = folded.find(text, end)
    return places


def _mark_with_text(folded: str, marks: Sequence[_Place], item: Embedded) -> list[_Place]:
    """A mark with its own option's text behind it, or []."""
    for mark in marks:
        start = mark.end
        while start < min(len(folded), mark.end + 4) and folded[start] in " *).:":
            start += 1
        text = item.options[mark.option].lower().strip(" .")
        end = start + len(text)
        if start > mark.end and folded.startswith(text, start):
            if not (text[-1:].isalnum() and folded[end : end + 1].isalnum()):
                return [mark, _Place(start, end, mark.option, True)]
    return []


def _folded(reply: str) -> str:
    """Small letters, as long as the reply, so that places agree."""
    low = reply.lower()
    if len(low) == len(reply):
        return low
    return "".join(c if len(c.lower()) != 1 else c.lower() for c in reply)


def _mask(reply: str, places: Sequence[_Place], option: int) -> str:
    masked = reply
    for place in sorted(places, reverse=True):
        name = OPTION if place.option == option else OTHER
        masked = masked[: place.start] + name + masked[place.end :]
    return masked


def _apart(first: Sequence[_Place], second: Sequence[_Place]) -> list[_Place]:
    """All of the first, and those of the second that do not overlap them."""
    return [
        *first,
        *(s for s in second if not any(f.start < s.end and s.start < f.end for f in first)),
    ]


def _first(places: Sequence[_Place]) -> int:
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
    texts_n: Sequence[Sequence[_Place]],
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
            named.append(bool(_text_places(folded_n[i], items[j])))
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
    folded_n = [_folded(reply) for reply in cut_n]
    items = [item for _, item in rows]
    read_n = [_mark_places(*pair) for pair in zip(cut_n, items, strict=True)]
    marks_n, foreign_n = [marks for marks, _ in read_n], [foreign for _, foreign in read_n]
    _mark_within(cut_n, items, marks_n)
    _mark_in_phrase(cut_n, items, marks_n)
    common = _common(folded_n, items)
    texts_n = [
        _text_places(folded, item, common)
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
        both = _mark_with_text(folded_n[at], marks, item)
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
