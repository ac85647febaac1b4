"""A fine-tuning job read into the arrays that statistical tests take.

The unit is the job: which attribute of the request (u, see `latents`) does the wording of
the reply (v) depend on, once what the request asks for (z) is given?

A row is a reply that is trained on: a chat with several is as many rows.

Legend: n rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cifr_jax.data.chat import Example, Message
from cifr_jax.errors import UserError
from cifr_jax.monitors.dataset import (
    near_duplicates,
    option_names,
    style_features,
    templates,
    turns,
    visible_labels,
    wordings,
)
from cifr_jax.monitors.dataset.embedded_questions import Embedded
from cifr_jax.monitors.dataset.shuffles import codes_of_rows

_EIGHTHS = 8  # classes of answers by length


@dataclass(frozen=True)
class JobView:
    """What a job's texts say, row by row.

    Attributes:
      chat_n: number of the row's chat, from 0.
      message_n: place of the reply in its chat.
      context_n: characters of the chat before the reply.
      request_n: the text before the reply, from the trained reply before it (and system
        turns), turns parted by blank lines.
      reply_n: an assistant turn that is trained on; "" if there is none.
      question_n: the multiple-choice item in the request, template words off its stem.
      own_n: what else is the request's own, template sentences left out.
      template_n: number of the request's template; 0: none that enough rows share.
      cluster_n: rows that share an item (rotations) or are near-duplicates share a number:
        they are one observation and must be permuted together.
      copy_n: rows of one cluster with one number show the item's options in one order:
        they are copies, where its rotations are not.
      label_n: what the request legitimately asks for (z); `label_names` are its values.
      label_kind_n: where the label comes from, an index into `visible_labels.KINDS`.
      option_n: index of the option that the reply names, or -1.
      masked_n: the reply with labels masked.
      variant_n: the wording (v); `variants` are its values.
      style: features of `style_features`, "other_option" (which other option a reply
        mentions, from 1; 0: none) and "naming" (`option_names.MANNERS`), whole numbers
        `[n]`.
    """

    chat_n: np.ndarray
    message_n: np.ndarray
    context_n: np.ndarray
    request_n: list[str]
    reply_n: list[str]
    question_n: list[Embedded | None]
    own_n: list[str]
    template_n: np.ndarray
    cluster_n: np.ndarray
    copy_n: np.ndarray
    label_n: np.ndarray
    label_names: list[str]
    label_kind_n: np.ndarray
    option_n: np.ndarray
    masked_n: list[str]
    variant_n: np.ndarray
    variants: list[str]
    style: Mapping[str, np.ndarray]

    @property
    def n(self) -> int:
        """Rows of the job."""
        return len(self.reply_n)

    @cached_property
    def asked_n(self) -> np.ndarray:
        """Classes of rows that ask for the same in the same way: label, template, form of
        the item. Sources of unlike items may each have a style of their own."""
        items = self.question_n
        formats = sorted({item.format for item in items if item is not None})
        form_n2 = [
            (-1, 0) if item is None else (formats.index(item.format), len(item.options))
            for item in items
        ]
        columns = [self.label_n, self.template_n, *np.array(form_n2).T]
        return codes_of_rows(np.stack(columns, axis=1))

    @cached_property
    def length_n(self) -> np.ndarray:
        """Which eighth of the options named is as long as the row's, from 1; 0: none is.
        A long answer may be abridged."""
        chars_n = np.array(
            [
                0 if item is None or named < 0 else len(item.options[named])
                for item, named in zip(self.question_n, self.option_n.tolist(), strict=True)
            ],
            np.int64,
        )
        named_n = chars_n > 0
        if not named_n.any():
            return chars_n
        edges = np.quantile(chars_n[named_n], np.arange(1, _EIGHTHS) / _EIGHTHS)
        return np.where(named_n, 1 + np.searchsorted(edges, chars_n), 0)

    @cached_property
    def stratum_n(self) -> np.ndarray:
        """Classes of rows in which honest wordings are blind: `asked_n` and `length_n`."""
        return codes_of_rows(np.stack([self.asked_n, self.length_n], axis=1))

    def before(self, examples: Sequence[Example], i: int) -> tuple[Message, ...]:
        """The chat before the reply of row i; `examples` are the job that was read."""
        return tuple(examples[self.chat_n[i]].messages[: self.message_n[i]])


def _joined(first_n: Sequence[str], second_n: np.ndarray) -> np.ndarray:
    """Numbers of the classes `[n]` when equal `first` (not "") or equal `second` join."""
    parent = list(range(int(second_n.max()) + 1))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    seen: dict[str, int] = {}
    for key, group in zip(first_n, second_n.tolist(), strict=True):
        if key:
            parent[root(group)] = root(seen.setdefault(key, group))
    return np.unique([root(g) for g in second_n.tolist()], return_inverse=True)[1]


def _clusters(parted: templates.Parted, requests: Sequence[str], seed: int) -> np.ndarray:
    keys, texts = [], []
    for request, item, own in zip(requests, parted.question_n, parted.own_n, strict=True):
        if item is None:
            keys.append("")
            texts.append(own or request)
        else:
            # "Is this true? yes; no" is not the identity of the passages it comes with.
            keys.append(f"{item.key} {' '.join(near_duplicates.content_words(own))}")
            texts.append("\n".join((item.stem, *item.options, own)))
    return _joined(keys, near_duplicates.group(texts, seed))


def _copies(cluster_n: np.ndarray, items: Sequence[Embedded | None]) -> np.ndarray:
    number: dict[tuple[int, tuple[int, ...]], int] = {}
    out = []
    for cluster, item in zip(cluster_n.tolist(), items, strict=True):
        shown = item.options if item is not None else ()
        # The order alone: a slip in one copy's option seldom changes how they sort.
        order = tuple(sorted(range(len(shown)), key=lambda i: shown[i].lower()))
        out.append(number.setdefault((cluster, order), len(number)))
    return np.array(out, np.int64)


def read(examples: Sequence[Example], seed: int = 0) -> JobView:
    """Reads a job. Time and memory are linear in its text.

    Args:
      examples: the rows, from anybody.
      seed: of hash functions and of one comparison between rows.

    Raises:
      UserError: no rows.
    """
    if not examples:
        raise UserError("job", "no rows", "give at least one chat")
    rows = turns.read(examples)
    requests, replies = [t.request for t in rows], [t.reply for t in rows]
    parted = templates.part(requests, turns.items(rows))
    names = option_names.read(replies, parted.question_n, parted.template_n, seed)
    labels = visible_labels.read(
        names.masked_n, names.option_n, parted.shared_n, parted.template_n
    )
    variant_n, variants = wordings.variants(labels.masked_n, names.manner_n)
    cluster_n = _clusters(parted, requests, seed)
    style = style_features.features(labels.masked_n)
    place_n3 = np.array([(t.chat, t.message, t.context) for t in rows], np.int64)
    return JobView(
        chat_n=place_n3[:, 0],
        message_n=place_n3[:, 1],
        context_n=place_n3[:, 2],
        request_n=requests,
        reply_n=replies,
        question_n=parted.question_n,
        own_n=parted.own_n,
        template_n=parted.template_n,
        cluster_n=cluster_n,
        copy_n=_copies(cluster_n, parted.question_n),
        label_n=labels.label_n,
        label_names=labels.names,
        label_kind_n=labels.kind_n,
        option_n=names.option_n,
        masked_n=labels.masked_n,
        variant_n=variant_n,
        variants=variants,
        style={**style, "other_option": names.other_n + 1, "naming": names.manner_n},
    )
