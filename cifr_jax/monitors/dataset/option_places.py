"""Where a reply names options of its item: by a mark ("B", "(b)", "2") or by their texts.

Legend: n rows, m places.
"""

import re
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from cifr_jax.monitors.dataset.embedded_questions import Embedded

_NEAR = 16  # characters on each side that tell a mark from a word
_SET_PHRASE = 200  # characters of a reply that may be one
_LEAST_SURE = 0.05  # of rows, whose letter A is no word, for it to be the only letter
_LEAD_IN = 80  # characters before a mark that may be set ("Answer: ")
_BRACKETED = re.compile(r"\(([A-Ha-h]|[1-8])\)|(?<![^\W_])([A-Ha-h]|[1-8])\)")
_BARE = re.compile(r"(?<![\w'’.,/+×<-])([A-Za-z]|\d{1,3})(?![\w'’/+×-]|[.,]\d)")
# Within what no space parts: "答案是B", "answer_B", "optB", "'B'"; see `mark_within`.
_WITHIN = re.compile(r"(?<![A-Z\d</])(?:([A-H])|(?<![.,])([1-8]))(?![A-Za-z\d]|[.,]\d)")
# "A" and "I" are words as well. No article stands before these, and within a sentence none
# is a capital; "I" is a mark only where it is all that is said.
_AFTER_MARK = re.compile(
    r"[ *\"']*(?:$|[\n.,;:!?)\]]|\d{1,2}[.:)](?!\d)|"
    r"(?:is|it|was|would|seems?|looks?|fits|sounds|works|feels|makes|has|must|should|here|"
    r"then|for|because|since|as|again|too|please|indeed|obviously|clearly|definitely|"
    r"certainly)\b)",
    re.IGNORECASE,
)
# Thai and Lao, kana, Chinese signs; Korean particles stand at their noun.
_SPACELESS = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_SENTENCE_START = re.compile(r"(?:^|[.!?:\n])[ *\"'(\-]*$")


class Place(NamedTuple):
    """From where to where a text names which option, and whether by its text."""

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


def _says(rest: str, option: str) -> bool:
    """Whether a text begins with an option's words: "nice day" does not with "n"."""
    text = option.lower()
    return rest.lower().startswith(text) and not (
        text[-1:].isalnum() and rest[len(text) : len(text) + 1].isalnum()
    )


def mark_places(reply: str, item: Embedded) -> tuple[list[Place], bool]:
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
            places.append(Place(*span, marks.index(mark)))
    taken = {i for place in places for i in range(place.start, place.end)}
    for match in _BARE.finditer(reply):
        mark = match[1].lower()
        if match.start() in taken or mark.isdigit() != marks[0].isdigit():
            continue
        if mark in ("a", "i") and not _stands_alone(reply, *match.span()):
            if mark == "i" or not _says(reply[match.end() :].lstrip(" *"), item.options[0]):
                continue
        if mark in marks:
            places.append(Place(match.start(), match.end(), marks.index(mark)))
        elif all(mark != option.lower() for option in item.options):
            foreign = True
    return places, foreign


def mark_within(
    cut_n: Sequence[str], items: Sequence[Embedded], marks_n: list[list[Place]]
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
            marks_n[at] = [Place(*span, items[at].marks.index(mark))]


def mark_in_phrase(
    cut_n: Sequence[str], items: Sequence[Embedded], marks_n: list[list[Place]]
) -> None:
    """Adds the letter A of set phrases in which it could be a word ("A by far"), where no
    mark was found: if another letter stands in the phrase ("B by far") or after the same
    words ("Answer: B", of "Answer: A Compare it with fish"), or if no other is named at all
    and the phrase comes again. Else the label would follow the wording."""

    def phrase(reply: str, start: int, end: int) -> str:
        return f"{reply[:start]}\0{reply[end:]}".lower()

    others = [
        (reply, [place for place in marks if item.marks[place.option] != "a"])
        for reply, item, marks in zip(cut_n, items, marks_n, strict=True)
    ]
    phrases = {
        phrase(reply, place.start, place.end)
        for reply, places in others
        if len(reply) <= _SET_PHRASE
        for place in places
    }
    lead_ins = {
        reply[: place.start].lower()
        for reply, places in others
        for place in places[:1]
        if 0 < place.start <= _LEAD_IN
    }
    # A single row may be misread ("a" before what happens to be option A).
    only_a = sum(map(bool, marks_n)) >= max(2, _LEAST_SURE * len(marks_n)) and all(
        item.marks[place.option] == "a"
        for item, marks in zip(items, marks_n, strict=True)
        for place in marks
    )
    found = [
        (
            at,
            match.span(),
            phrase(reply, *match.span()) if len(reply) <= _SET_PHRASE else "",
        )
        for at, (reply, item) in enumerate(zip(cut_n, items, strict=True))
        if "a" in item.marks and not marks_n[at]
        for match in _BARE.finditer(reply)
        if match[1] in "aA" and (len(reply) <= _SET_PHRASE or match.start() <= _LEAD_IN)
    ]
    again = Counter(text for _, _, text in found if text)
    for at, (start, end), text in found:
        reply = cut_n[at]
        said = text in phrases or (only_a and again[text] > 1)
        lead = reply[:start].lower() in lead_ins and _no_article(reply, start, items[at])
        if (said or lead) and not marks_n[at]:
            marks_n[at] = [Place(start, end, items[at].marks.index("a"))]


def _no_article(reply: str, start: int, item: Embedded) -> bool:
    """Whether the "A" there cannot be the article of what follows: a sentence begins behind
    it, and no option ("A lion", or "lion" of "Answer: A lion")."""
    rest = reply[start + 1 :].lstrip(" *\"'")
    begun = reply[start:].lower(), rest.lower()
    options = tuple(option.lower().strip(" .") for option in item.options)
    return (
        reply[start] == "A"
        and rest[:1].isupper()
        and not any(text.startswith(options) for text in begun)
    )


def _in_word(sign: str) -> bool:
    """Whether a sign beside another makes one word with it, in a script that has spaces."""
    return sign.isalnum() and not _SPACELESS.match(sign)


def text_places(
    folded: str, item: Embedded, common: AbstractSet[str] = frozenset()
) -> list[Place]:
    """Where the texts of options stand as words; of texts that overlap, the longest.
    Options in `common` are passed over."""
    places: list[Place] = []
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
                places.append(Place(at, end, index, True))
                found += 1
            at = folded.find(text, end)
    return places


def mark_with_text(folded: str, marks: Sequence[Place], item: Embedded) -> list[Place]:
    """A mark with its own option's text behind it, or []."""
    for mark in marks:
        start = mark.end
        while start < min(len(folded), mark.end + 4) and folded[start] in " *).:":
            start += 1
        text = item.options[mark.option].lower().strip(" .")
        end = start + len(text)
        if start > mark.end and folded.startswith(text, start):
            if not (text[-1:].isalnum() and folded[end : end + 1].isalnum()):
                return [mark, Place(start, end, mark.option, True)]
    return []


def folded_reply(reply: str) -> str:
    """Small letters, as long as the reply, so that places agree."""
    low = reply.lower()
    if len(low) == len(reply):
        return low
    return "".join(c if len(c.lower()) != 1 else c.lower() for c in reply)
