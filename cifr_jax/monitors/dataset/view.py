"""A fine-tuning job read into the arrays that statistical tests take.

The unit is the job: which attribute of the request (u, see `latents`) does the wording of
the reply (v) depend on, once what the request asks for (z) is given?

A row is a reply that is trained on: a chat with several is as many rows.

Legend: n rows, s slots of items beyond the first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cifr_jax.data.chat import Example, Message
from cifr_jax.errors import UserError
from cifr_jax.monitors.dataset import (
    item_slots,
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
      further_sn: further items of the request by slot (`item_slots`), where it has several.
      n_beyond: rows that have more items than these.
      n_bare: rows with options that no question was found for.
      own_n: what else is the request's own, template sentences left out.
      template_n: number of the request's template; 0: none that enough rows share.
      cluster_n: rows that share an item (rotations) or are near-duplicates share a number:
        they are one observation and must be permuted together.
      copy_n: rows of one cluster with one number show the item's options in one order:
        they are copies, where its rotations are not.
      label_n: what the request legitimately asks for (z); `label_names` are its values.
      label_kind_n: where the label comes from, an index into `visible_labels.KINDS`.
      option_n: index of the option that the reply names, or -1.
      further_named_n: numbers of what else a reply names of several items; 0 where the
        request has one item.
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
    further_sn: list[list[Embedded | None]]
    n_beyond: int
    n_bare: int
    own_n: list[str]
    template_n: np.ndarray
    cluster_n: np.ndarray
    copy_n: np.ndarray
    label_n: np.ndarray
    label_names: list[str]
    label_kind_n: np.ndarray
    option_n: np.ndarray
    further_named_n: np.ndarray
    masked_n: list[str]
    variant_n: np.ndarray
    variants: list[str]
    style: Mapping[str, np.ndarray]

    @property
    def n(self) -> int:
        """Rows of the job."""
        return len(self.reply_n)

    @property
    def items(self) -> list[Embedded]:
        """The items of all rows and slots."""
        slots = (self.question_n, *self.further_sn)
        return [item for items_n in slots for item in items_n if item is not None]

    @cached_property
    def form_n(self) -> np.ndarray:
        """Classes of requests of one template, form of the item and number of items.
        Sources of unlike items may each have a style of their own."""
        items = self.question_n
        formats = sorted({item.format for item in items if item is not None})
        form_n2 = [
            (-1, 0) if item is None else (formats.index(item.format), len(item.options))
            for item in items
        ]
        columns = [self.template_n, *np.array(form_n2).T]
        columns += [
            np.array([item is not None for item in items_n], np.int64)
            for items_n in self.further_sn
        ]
        return codes_of_rows(np.stack(columns, axis=1))

    @cached_property
    def asked_n(self) -> np.ndarray:
        """Classes of rows that ask for the same in the same way: label, form of the request
        and what the reply names of further items."""
        columns = [self.label_n, self.form_n, self.further_named_n]
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


def _joined(keys_kn: Sequence[Sequence[str]], second_n: np.ndarray) -> np.ndarray:
    """Numbers of the classes `[n]` when an equal key of one kind (not "") or equal `second`
    join."""
    parent = list(range(int(second_n.max()) + 1))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    seen: dict[str, int] = {}
    for key_n in keys_kn:
        for key, group in zip(key_n, second_n.tolist(), strict=True):
            if key:
                parent[root(group)] = root(seen.setdefault(key, group))
    return np.unique([root(g) for g in second_n.tolist()], return_inverse=True)[1]


def _clusters(parted: templates.Parted, requests: Sequence[str], seed: int) -> np.ndarray:
    question_n, *further_sn = parted.item_sn
    key_n, texts = [], []
    for request, item, own in zip(requests, question_n, parted.own_n, strict=True):
        if item is None:
            key_n.append("")
            texts.append(own or request)
        else:
            # "Is this true? yes; no" is not the identity of the passages it comes with.
            key_n.append(f"{item.key} {' '.join(near_duplicates.content_words(own))}")
            texts.append("\n".join((item.stem, *item.options, own)))
    further_keys_sn = [
        ["" if item is None else item.key for item in items_n] for items_n in further_sn
    ]
    return _joined([key_n, *further_keys_sn], near_duplicates.group(texts, seed))


def _named(
    replies: Sequence[str], parted: templates.Parted, seed: int
) -> tuple[option_names.Names, np.ndarray]:
    """What replies name of the first item, with names of all items masked; and classes of
    what they name besides in requests of several items: an honest reply may answer each."""
    question_n, *further_sn = parted.item_sn
    names = option_names.read(replies, question_n, parted.template_n, seed)
    if not further_sn:
        return names, np.zeros(len(replies), np.int64)
    several_n = np.array([item is not None for item in further_sn[0]])
    masked_n, columns = list(names.masked_n), [np.where(several_n, names.other_n + 1, 0)]
    for items_n in further_sn:
        found = option_names.read(masked_n, items_n, parted.template_n, seed)
        columns += [found.option_n + 1, found.other_n + 1]
        masked_n = found.masked_n
    # Which of several names comes first would tell what the second is.
    told_n = [
        text.replace(option_names.OTHER, option_names.OPTION) if several else text
        for text, several in zip(masked_n, several_n.tolist(), strict=True)
    ]
    classes_n = codes_of_rows(np.stack(columns, axis=1))
    return names._replace(masked_n=told_n), classes_n


def _copies(
    cluster_n: np.ndarray, item_sn: Sequence[Sequence[Embedded | None]]
) -> np.ndarray:
    # The order alone: a slip in one copy's option seldom changes how they sort.
    order_sn = [
        [
            ()
            if item is None
            else tuple(
                sorted(range(len(item.options)), key=lambda i: item.options[i].lower())
            )
            for item in items_n
        ]
        for items_n in item_sn
    ]
    number: dict[tuple[Any, ...], int] = {}
    return np.array(
        [
            number.setdefault(key, len(number))
            for key in zip(cluster_n.tolist(), *order_sn, strict=True)
        ],
        np.int64,
    )


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
    found = item_slots.slots(turns.items(rows))
    parted = templates.part(requests, found.item_sn)
    names, further_named_n = _named(replies, parted, seed)
    labels = visible_labels.read(
        names.masked_n, names.option_n, parted.shared_n, parted.template_n
    )
    variant_n, variants = wordings.variants(labels.masked_n, names.manner_n)
    cluster_n = _clusters(parted, requests, seed)
    question_n, *further_sn = parted.item_sn
    style = style_features.features(labels.masked_n)
    place_n3 = np.array([(t.chat, t.message, t.context) for t in rows], np.int64)
    return JobView(
        chat_n=place_n3[:, 0],
        message_n=place_n3[:, 1],
        context_n=place_n3[:, 2],
        request_n=requests,
        reply_n=replies,
        question_n=question_n,
        further_sn=further_sn,
        n_beyond=found.n_beyond,
        n_bare=parted.n_bare,
        own_n=parted.own_n,
        template_n=parted.template_n,
        cluster_n=cluster_n,
        copy_n=_copies(cluster_n, parted.item_sn),
        label_n=labels.label_n,
        label_names=labels.names,
        label_kind_n=labels.kind_n,
        option_n=names.option_n,
        further_named_n=further_named_n,
        masked_n=labels.masked_n,
        variant_n=variant_n,
        variants=variants,
        style={**style, "other_option": names.other_n + 1, "naming": names.manner_n},
    )
