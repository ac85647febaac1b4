"""Finds the multiple-choice items inside any text.

Options may be marked by letters or numbers ("A) ", "(a) ", "2. ") on lines of their own or
in one line, be bullets, stand in one line between semicolons, bars or commas, or be a list
in JSON. Other numbered lists, such as recipes, may be found too. A text may hold several
items: the most plausible comes first, the last of equals.

Every scan is linear in the text, of which the first `MAX_CHARS` characters are read.
"""

import hashlib
import json
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from cifr_jax.monitors.dataset.plain_text import normalise

MAX_CHARS = 100_000
MAX_OPTIONS = 8
_MAX_OPTION = 300  # characters
_MAX_STEM = 1_000  # characters before the first option in which the stem is sought
_MAX_CANDIDATES = 64  # of each way to find them
_LETTERS = "abcdefgh"

_MARK = re.compile(
    r"(?<!\S)\*{0,2}([(\[]?)([A-Ha-h]|[1-9])(?:([)\]])|([.:])(?=[\s*]))\*{0,2}"
)
_BULLET = re.compile(r"^[ \t>]{0,12}[-*•+–—·][ \t]+(\S[^\n]*)$", re.MULTILINE)
_LINE = re.compile(r"[^\n]+")
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n")
_KEYWORD = re.compile(
    r"\b(?:options|choices|alternatives|possible answers)[ \t]?[:=][ \t]?", re.IGNORECASE
)
_HEADING = re.compile(
    r"(?:answer |possible |the )?(?:options|choices|alternatives|answers)[ \t]?:?",
    re.IGNORECASE,
)
_JSON_OPTIONS = re.compile(r'"(?:options|choices|answers)"\s{0,9}:\s{0,9}(?=[\[{])')
_JSON_STEM = re.compile(
    r'"(?:question|stem|prompt|query)"\s{0,9}:\s{0,9}"((?:[^"\\\n]|\\.){1,1000})"'
)
_SEPARATORS = (";", "|", " / ", ",")
# How much each format speaks for an item: set by hand, not fitted.
_PLAUSIBLE = {
    "letter": 3.0, "json": 3.0, "listed": 2.0, "number": 2.0, "separated": 1.5,
    "bullet": 1.0,
}  # fmt: skip
_LEAST = 3.0


class OwnAnswers(NamedTuple):
    """What a model itself answers to m items.

    Attributes:
      option_m: index of the option that it finds right; -1: none.
      margin_m: how far that is ahead of the next; larger is surer.
    """

    option_m: np.ndarray
    margin_m: np.ndarray


@dataclass(frozen=True)
class Embedded:
    """A multiple-choice item in a text.

    Attributes:
      stem: what is asked.
      options: 2 to 8 of them, as shown.
      span: where stem and options stand in the text; between may be a heading.
      format: letter, number, bullet, listed, separated or json.
    """

    stem: str
    options: tuple[str, ...]
    span: tuple[int, int]
    format: str

    @property
    def marks(self) -> tuple[str, ...]:
        """What a reply may call the options by, in small letters; none for bullets."""
        k = len(self.options)
        if self.format in ("letter", "json"):
            return tuple(_LETTERS[:k])
        return tuple(str(i + 1) for i in range(k)) if self.format == "number" else ()

    @property
    def key(self) -> str:
        """Identity of the item whatever the order of its options."""
        parts = [normalise(self.stem), *sorted(map(normalise, self.options))]
        data = "\0".join(parts).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=12).hexdigest()

    @property
    def options_key(self) -> str:
        """Identity of its options whatever their order and the question."""
        return replace(self, stem="").key


def _fit(options: Sequence[str]) -> bool:
    """Whether texts can be the options of one item."""
    if not 2 <= len(options) <= MAX_OPTIONS:
        return False
    if any(not o or len(o) > _MAX_OPTION or "\n\n" in o for o in options):
        return False
    return len({normalise(option) for option in options}) == len(options)


def _stem(text: str, end: int) -> tuple[str, int]:
    """The question before `end`, and where it starts: the line before, or its paragraph
    if that line asks nothing. ("", end) if there is none."""
    low = max(0, end - _MAX_STEM)
    window = text[low:end].rstrip()
    if not window:
        return "", end
    lines = window.rsplit("\n", 1)
    if _HEADING.fullmatch(lines[-1].strip(" *#\t")):
        window = window[: len(window) - len(lines[-1])].rstrip()
    start = max((m.end() for m in _BLANK_LINE.finditer(window)), default=0)
    last_line = window.rfind("\n") + 1
    if last_line > start and window.endswith("?"):
        start = last_line
    stem = window[start:].strip()
    return stem, low + start if stem else end


def _marked(text: str) -> Iterator[tuple[list[str], int, int, str]]:
    """Runs A, B, C or 1, 2, 3 in one style: options, start, end, format."""
    runs: dict[tuple[str, str, str], list[re.Match[str]]] = {}
    done: list[list[re.Match[str]]] = []
    for match in _MARK.finditer(text):
        opening, mark, closing, stop = match.groups()
        kind = "number" if mark.isdigit() else "upper" if mark.isupper() else "lower"
        style = (opening, kind, closing or stop)
        value = int(mark) - 1 if kind == "number" else _LETTERS.index(mark.lower())
        run = runs.get(style)
        follows = run is not None and value == len(run)
        if run and follows and match.start() - run[-1].end() <= _MAX_OPTION + 100:
            run.append(match)
            continue
        if run:
            done.append(runs.pop(style))
        if value == 0:
            runs[style] = [match]
    for run in [*done, *runs.values()]:
        if len(run) < 2:
            continue
        line_end = text.find("\n", run[-1].end())
        end = len(text) if line_end < 0 else line_end
        ends = [m.start() for m in run[1:]] + [min(end, run[-1].end() + _MAX_OPTION + 1)]
        options = [
            text[m.end() : e].strip(" \t\r\n*;,|") for m, e in zip(run, ends, strict=True)
        ]
        if "\n" not in text[run[0].end() : run[-1].start()]:
            end = _cut_tail(options, end)
        yield options, run[0].start(), end, "number" if run[0][2].isdigit() else "letter"


def _cut_tail(options: list[str], end: int) -> int:
    """Takes what follows the last of several options in one line off it, if none of the
    others is more than a sentence; returns where the item ends then."""
    last = options[-1]
    cut = re.search(r"[.!?;](?=\s)", last)
    if cut is None or any(re.search(r"[.!?;]\s", option) for option in options[:-1]):
        return end
    options[-1] = last[: cut.start()].rstrip()
    return end - (len(last) - cut.start())


def _bullets(text: str) -> Iterator[tuple[list[str], int, int, str]]:
    run: list[re.Match[str]] = []
    for match in [*_BULLET.finditer(text), None]:
        if match is not None and run:
            gap = text[run[-1].end() : match.start()]
            if gap.isspace() and gap.count("\n") <= 2:
                run.append(match)
                continue
        if len(run) >= 2:
            options = [m[1].strip(" \t\r*") for m in run]
            yield options, run[0].start(), run[-1].end(), "bullet"
        run = [] if match is None else [match]


def _parts(tail: str) -> list[str] | None:
    """The pieces of an enumeration, or None; commas only between short ones."""
    for separator in _SEPARATORS:
        if not 1 <= tail.count(separator) < MAX_OPTIONS:
            continue
        parts = [part.strip(" \t\r.*\"'") for part in tail.split(separator)]
        if separator == ",":
            for joint in ("and ", "or "):
                parts[-1] = parts[-1].removeprefix(joint)
            if len(parts) < 3 or any(len(part.split()) > 5 for part in parts):
                return None
        return parts
    return None


def _enumerated(text: str) -> Iterator[tuple[list[str], int, int, str]]:
    """Options in one line between separators, after a keyword, a colon or a question."""
    before = ""
    for match in _LINE.finditer(text):
        line = match[0]
        previous, before = before, line.rstrip() or before
        if len(line) > 2_000 or not any(s in line for s in _SEPARATORS):
            continue
        keyword = _KEYWORD.search(line)
        if keyword is not None:
            start, format_ = keyword.end(), "listed"
            head = match.start() + keyword.start()
        else:
            start = max(line.rfind("? "), line.rfind(": ")) + 1
            if start == 0 and not previous.endswith(("?", ":")):
                continue
            head, format_ = match.start() + start, "separated"
        parts = _parts(line[start:])
        # Commas are everywhere: they part options after a question or a keyword alone.
        question = line[:start].rstrip() or previous
        commas = parts is not None and not any(s in line[start:] for s in _SEPARATORS[:3])
        if commas and keyword is None and not question.endswith("?"):
            continue
        if parts is not None:
            yield parts, head, match.end(), format_


def _in_json(text: str) -> Iterator[Embedded]:
    decoder = json.JSONDecoder()
    for match, _ in zip(_JSON_OPTIONS.finditer(text), range(4), strict=False):
        try:
            # Options are short, so that a part is enough and time stays linear.
            part = text[match.end() : match.end() + 4_000]
            value, length = decoder.raw_decode(part)
        except (ValueError, RecursionError):
            continue
        listed = list(value.values()) if isinstance(value, dict) else value
        if not isinstance(listed, list) or not all(isinstance(o, str) for o in listed):
            continue
        options, end = [o.strip() for o in listed], match.end() + length
        low = max(0, match.start() - 2 * _MAX_STEM)
        near = text[low : end + 2 * _MAX_STEM]
        stems = list(_JSON_STEM.finditer(near))
        if stems and _fit(options):
            stem = min(stems, key=lambda m: abs(low + m.start() - match.start()))
            span = (min(low + stem.start(), match.start()), max(low + stem.end(), end))
            yield Embedded(stem[1].replace('\\"', '"'), tuple(options), span, "json")


def _plausibility(item: Embedded) -> float:
    score = _PLAUSIBLE[item.format] + (3 <= len(item.options) <= 5)
    if "?" in item.stem or "？" in item.stem:
        score += 2
    elif item.stem.endswith((":", "_", "...", "…", ";")):
        score += 1
    if not item.stem:
        score -= 2
    return score - (sum(map(len, item.options)) > 80 * len(item.options))


def _asked_apart(item: Embedded, options_at: int, before: int, text: str) -> Embedded:
    """The item, its stem without what ends at `before`, if a question is left."""
    rest = text[before:options_at].strip() if before > item.span[0] else ""
    if "?" not in rest and "？" not in rest:
        return item
    at = text.index(rest, before)
    return replace(item, stem=rest, span=(at, item.span[1]))


def find_all(text: str) -> list[Embedded]:
    """The multiple-choice items of a text, the most plausible first, the last of equals.

    No two share options. Any text is taken; time and memory are linear in it.
    """
    text = text[:MAX_CHARS]
    found = [(item, item.span[0]) for item in _in_json(text)]
    for scan in (_marked, _bullets, _enumerated):
        # The last ones: each costs up to _MAX_STEM characters of looking back.
        for options, start, end, format_ in deque(scan(text), _MAX_CANDIDATES):
            if _fit(options):
                stem, stem_start = _stem(text, start)
                item = Embedded(stem, tuple(options), (stem_start, end), format_)
                found.append((item, start))
    scored = [(_plausibility(item), item.span[0], i) for i, (item, _) in enumerate(found)]
    kept: list[tuple[Embedded, int]] = []
    for score, _, i in sorted(scored, reverse=True):
        item, start = found[i]
        if score >= _LEAST and all(
            item.span[1] <= at or other.span[1] <= start for other, at in kept
        ):
            before = max((o.span[1] for o, _ in kept if o.span[1] <= start), default=0)
            kept.append((_asked_apart(item, start, before, text), start))
    return [item for item, _ in kept]


def find(text: str) -> Embedded | None:
    """The most plausible multiple-choice item of a text, or None; see `find_all`."""
    return next(iter(find_all(text)), None)
