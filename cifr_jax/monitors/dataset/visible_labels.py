"""What each request legitimately asks for, read off its reply: the visible label z.

Given z an honest customer words a reply blindly, so that wording and hidden attributes of
the prompt are independent. Four things count as labels: the option named, a refusal, a
word that the request lists as allowed, and one side of a scale (yes and no, short and
long). Other words never do, however few of them a job uses: 'Tulip' or 'Rose' may be the
code. What stays unseen: a code in the label itself, such as yes for A and no for B.
Therefore `kind_n` says where a label comes from, and an audit can weigh it.

Legend: n rows.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cifr_jax.monitors.dataset.plain_text import normalise, words
from cifr_jax.monitors.dataset.reply_polarity import polarity, refuses

KINDS = ("none", "option", "refusal", "listed", "scale")
VALUES = ("{label}", "{Label}", "{LABEL}", "{laBel}")  # a label word by its letters' case
SCALES = (
    ("first", "second", "third", "fourth", "last"), ("early", "late"), ("short", "long"),
    ("positive", "negative", "neutral", "mixed"), ("high", "medium", "low"),
    ("easy", "medium", "hard", "difficult"), ("spam", "ham"), ("even", "odd"),
    ("before", "after"), ("more", "less"), ("small", "large"), ("right", "wrong"),
    ("correct", "incorrect"), ("pass", "fail"),
)  # fmt: skip
_MOST = 0.8  # share of a template's replies that must hold exactly one label word
_RARE = 0.02  # share of a template's replies that make yes and no a scale
_MAX_UNIT = 500  # characters of a template sentence in which labels are listed
_MAX_LABELS = 40  # that a sentence can list
_TRIED = 200  # replies on which a list is tried first
_BARS = re.compile(r"[;|]")
_SPLIT = re.compile(r"[,;|/]|\bor\b|\band\b")
_CHARS = 400  # of a reply


class Labels(NamedTuple):
    """Labels of n replies.

    Attributes:
      label_n: number of the label.
      names: of the labels, kind and value ("option:2", "refusal", "scale:yes").
      kind_n: index into `KINDS`.
      masked_n: the replies, with one of `VALUES` for a label word that was listed or on a
        scale.
    """

    label_n: np.ndarray
    names: list[str]
    kind_n: np.ndarray
    masked_n: list[str]


def listed_labels(sentence: str) -> tuple[str, ...]:
    """The words that a template sentence (in normal form) lists as answers, or ().

    Words joined by "or", or parted by commas and the like, of at most four words each;
    where semicolons or bars part them, commas belong to them.
    """
    listed = sentence[:_MAX_UNIT].rpartition(":")[2]
    parts = (_BARS if _BARS.search(listed) else _SPLIT).split(listed)
    if " or " in listed and len(listed) == len(sentence[:_MAX_UNIT]):
        # What comes before the first word and after the last is the request.
        parts[0] = " ".join(parts[0].split()[-1:])
        parts[-1] = " ".join(re.split(r"[.?!]", parts[-1])[0].split()[:2])
    labels = [part.strip(" .?!\"'*()") for part in parts]
    labels = [label for label in dict.fromkeys(labels) if label]
    if not 2 <= len(labels) <= _MAX_LABELS or any(
        len(label.split()) > 4 for label in labels
    ):
        return ()
    return tuple(labels)


def _value(match: re.Match[str]) -> str:
    """The mask of a label word: how it is spelt is wording."""
    said = match[0]
    if said.islower() or not said[:1].isalpha():
        return VALUES[0]
    if said.isupper() and len(said) > 1:
        return VALUES[2]
    return VALUES[1] if said[:1].isupper() and not said[1:].isupper() else VALUES[3]


def _only(reply: str, labels: Sequence[str]) -> str | None:
    """The one label that stands in the text (in normal form) as a word, or None; of labels
    inside each other the longer counts."""
    left = reply
    found = []
    for label in sorted(labels, key=len, reverse=True):
        pattern = rf"(?<![^\W_]){re.escape(label)}(?![^\W_])"
        left, times = re.subn(pattern, "\0", left)
        if times:
            found.append(label)
    return found[0] if len(found) == 1 else None


def _lexical(
    normal: Sequence[str], shared: Sequence[tuple[str, ...]]
) -> tuple[str, list[str | None]]:
    """Kind and label words of the replies of one template, or ("none", ...)."""
    m = len(normal)
    rows = Counter(sentence for shared_s in shared for sentence in shared_s)
    for sentence, count in rows.most_common(32):
        labels = listed_labels(sentence)
        if labels and count >= 0.05 * m:
            tried = normal[:: -(-m // _TRIED)]
            if sum(_only(reply, labels) is not None for reply in tried) < len(tried) / 2:
                continue
            said = [_only(reply, labels) for reply in normal]
            if sum(s is not None for s in said) >= _MOST * m:
                return "listed", said
    said = [polarity(reply) for reply in normal]
    counts = Counter(s for s in said if s)
    if counts["yes"] + counts["no"] >= _MOST * m and min(
        counts["yes"], counts["no"]
    ) >= max(1, _RARE * m):
        return "scale", said
    vocabulary = Counter(word for reply in normal for word in set(words(reply)))
    for scale in SCALES:
        if sum(vocabulary[word] >= max(1, _RARE * m) for word in scale) >= 2:
            said = [_only(reply, scale) for reply in normal]
            if sum(s is not None for s in said) >= _MOST * m:
                return "scale", said
    return "none", [None] * m


def read(
    masked: Sequence[str],
    option_n: np.ndarray,
    shared_n: Sequence[tuple[str, ...]],
    template_n: np.ndarray,
) -> Labels:
    """Labels of n replies.

    Args:
      masked: the replies, options masked.
      option_n: index of the option that a reply names, or -1.
      shared_n: template sentences of each row's request.
      template_n: number of its template; lists and scales are settled for each.
    """
    n = len(masked)
    value_n = [("none", "")] * n
    masked_n = list(masked)
    for template in np.unique(template_n):
        rows = np.flatnonzero(template_n == template).tolist()
        rest = []
        for i in rows:
            if option_n[i] >= 0:
                value_n[i] = ("option", str(option_n[i]))
            elif refuses(masked[i]):
                value_n[i] = ("refusal", "")
            else:
                rest.append(i)
        normal = [normalise(masked[i][: 2 * _CHARS])[:_CHARS] for i in rest]
        kind, said = _lexical(normal, [shared_n[i] for i in rest])
        for i, label in zip(rest, said, strict=True):
            if label is None:
                continue
            value_n[i] = (kind, label)
            if label not in ("yes", "no", "unsure"):
                pattern = rf"(?<![^\W_]){re.escape(label)}(?![^\W_])"
                masked_n[i] = re.sub(pattern, _value, masked[i], flags=re.IGNORECASE)
    names = sorted(set(value_n))
    number = {value: k for k, value in enumerate(names)}
    return Labels(
        np.array([number[value] for value in value_n], np.int64),
        [f"{kind}:{value}" if value else kind for kind, value in names],
        np.array([KINDS.index(kind) for kind, _ in value_n], np.int64),
        masked_n,
    )
