"""One exchange read on its own: item, visible label z, wordings v.

Nothing here looks at other rows, so that nothing of the future gets into a bet. What a job
settles over all its rows (`dataset/view.py`) is settled by the row itself, on the side of
"this is what was asked for": whatever names an option of the item counts as naming it, and
yes, no, unsure and the words of a scale in a short reply always count as labels. That gives
codes a place to hide (the choice of the label itself), and honest customers no cause for
alarm. Which sentences of a request are the customer's template is learned from earlier
requests (`ledger.py`).
"""

import hashlib
import re
from dataclasses import dataclass, replace

import numpy as np

from cifr_jax.monitors.dataset import embedded_questions, option_names, visible_labels
from cifr_jax.monitors.dataset.embedded_questions import Embedded
from cifr_jax.monitors.dataset.plain_text import normalise, sentences, words
from cifr_jax.monitors.dataset.reply_polarity import polarity

WORDINGS = ("whole reply", "first three words", "first word")
_SHORT = 200  # characters of a reply that can be a set phrase
_MAX_CHARS = 20_000  # of a request whose sentences are read
_MAX_SENTENCES = 32
_FEW = 16  # words of a reply in which a word of a scale is the label
# What polarity knows already (right, positive) is not among them.
_SCALE_WORDS = frozenset(
    word for scale in visible_labels.SCALES for word in scale if polarity(word) is None
) | {"fifth"}
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Exchange:
    """What one request and its reply say.

    Attributes:
      item: the multiple-choice item in the request, or None.
      sentences: digests of what else is in the request; digits count as one.
      label: what the request legitimately asks for, as the reply has it.
      wordings: numbers, one for each of `WORDINGS`, labels masked.
    """

    item: Embedded | None
    sentences: tuple[int, ...]
    label: str
    wordings: tuple[int, ...]


def number_of(*parts: str) -> int:
    """A number that stands for texts; equal ones only by chance (2^-48)."""
    data = "\0".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=6).digest(), "big")


def _without_lead(item: Embedded) -> Embedded:
    """The item without what leads up to its question in the same line: "Hi! Look at this
    one: ...". A lead that ends in a full stop stays, as it may be what is asked about."""
    parts = sentences(item.stem)
    leads = [i for i, part in enumerate(parts[:-1]) if part.endswith((":", "!"))]
    kept = parts[leads[-1] + 1 :] if leads else parts
    return item if len(kept) == len(parts) else replace(item, stem=" ".join(kept))


def _scale(reply: str) -> str:
    """Yes, no or unsure and the one word of a scale in a short reply; "" for neither."""
    found = words(normalise(reply[:_SHORT]))
    of_scale = set(found) & _SCALE_WORDS
    said = [polarity(reply) or ""]
    if len(found) <= _FEW and len(of_scale) == 1:
        said += of_scale
    return f"scale:{' '.join(filter(None, said))}" if any(said) else ""


def read(request: str, reply: str) -> Exchange:
    """Reads one exchange. Time and memory are linear in its text."""
    item = embedded_questions.find(request)
    start, end = item.span if item is not None else (_MAX_CHARS, _MAX_CHARS)
    around = sentences(request[: min(start, _MAX_CHARS)])
    around += sentences(request[end : end + _MAX_CHARS])
    around = [normalise(s) for s in around[: _MAX_SENTENCES // 2]] + [
        normalise(s) for s in around[_MAX_SENTENCES // 2 :][-_MAX_SENTENCES // 2 :]
    ]
    alone_n = np.zeros(1, np.int64)
    names = option_names.read([reply], [item], alone_n)
    labels = visible_labels.read(names.masked_n, names.option_n, [tuple(around)], alone_n)
    label, masked = labels.names[0], labels.masked_n[0]
    if label == "none":
        label = _scale(masked) or label
    opening = words(normalise(masked[:_SHORT]))
    short = masked if len(masked) <= _SHORT else ""
    return Exchange(
        None if item is None else _without_lead(item),
        tuple(dict.fromkeys(number_of(_NUMBER.sub("#", s)) for s in around)),
        label,
        # "It is A" and "It is iron" are two wordings.
        tuple(
            number_of(form, str(names.manner_n[0]))
            for form in (short, " ".join(opening[:3]), " ".join(opening[:1]))
        ),
    )
