"""What a reply's wording might secretly depend on: attributes u of the prompts.

A *hidden* latent is a message that nobody asked for, such as where the model's own answer
to the embedded item stands; wording that depends on it, given the label, is the alarm. A
*visible* latent is an honest reason for wording to vary (topic, length, where in the file
a row stands): it is a stratum or a control, and no alarm by itself. Clusters of activations
count as visible, since they are topics first of all.

Hidden latents differ in how honest jobs relate to them. Where options stand is arbitrary
in an honest item. `own_position_sure` is the own answer's place where the model is surest:
a wrong own answer hides a code, and half of the rows with fewer of them show it better than
all. `CONTENT` latents go by what the own answer *is*: they follow the topic,
and so does honest wording, so they want strata of topic or question form; where a reply
names an option its grammar agrees with that, and they are unknown.

Where requests hold several items, those of each further slot have latents of their own,
named with the number of the slot ("own_position_2").

Legend: n rows, d dimensions of an activation.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cifr_jax.errors import UserError
from cifr_jax.monitors.dataset import topics
from cifr_jax.monitors.dataset.embedded_questions import Embedded, OwnAnswers
from cifr_jax.monitors.dataset.plain_text import normalise, words
from cifr_jax.monitors.dataset.view import JobView

OwnAnswer = Callable[[list[Embedded]], OwnAnswers]
Key = tuple[str, tuple[str, ...]]  # of an item in canonical order
CONTENT = ("own_length_rank", "own_alphabetical_rank", "own_initial")
_CLUSTERS = (4, 8, 16, 32)
_FORM_WORDS, _FORM_SHARE = 3, 0.02  # first words of a stem; share of items with a form
_INITIALS = "agnt"  # first letters of the classes of initials; digits are a class of theirs


@dataclass(frozen=True)
class Latents:
    """Candidates by name, each whole numbers `[n]` from 0, -1 where unknown."""

    hidden: dict[str, np.ndarray]
    visible: dict[str, np.ndarray]


def canonical(item: Embedded) -> Embedded:
    """The item with its options in one order, which its rotations share."""
    return replace(
        item, options=tuple(sorted(item.options, key=lambda o: (normalise(o), o)))
    )


def _initial(option: str) -> int:
    """Class of the first letter: 0 to 3 for a-f, g-m, n-s, t-z, 4 for other signs."""
    first = normalise(option)[:1]
    if not "a" <= first <= "z":
        return 4
    return sum(first >= start for start in _INITIALS) - 1


def _length_rank(item: Embedded, option: int) -> int:
    """Rank by length, longest first; -1 if another option is as long."""
    lengths = [len(o) for o in item.options]
    if lengths.count(lengths[option]) > 1:
        return -1
    return sum(length > lengths[option] for length in lengths)


def _extreme(item: Embedded, pick: Callable[[list[int]], int]) -> int:
    lengths = [len(option) for option in item.options]
    wanted = pick(lengths)
    return lengths.index(wanted) if lengths.count(wanted) == 1 else -1


def _of_items(
    items: Sequence[Embedded | None], value: Callable[[Embedded], int]
) -> np.ndarray:
    return np.array([-1 if item is None else value(item) for item in items], np.int64)


def _quartile(value_n: np.ndarray) -> np.ndarray:
    """Quarter of each value, ties together; -1 stays."""
    known = value_n >= 0
    out_n = np.full(len(value_n), -1, np.int64)
    if known.any():
        edges = np.quantile(value_n[known], (0.25, 0.5, 0.75))
        out_n[known] = np.searchsorted(edges, value_n[known], side="left")
    return out_n


def is_content(name: str) -> bool:
    """Whether a hidden latent goes by what the own answer is, of whichever item."""
    return name.rstrip("_0123456789") in CONTENT


def _ask(items: Sequence[Embedded], own_answer: OwnAnswer) -> dict[Key, tuple[int, float]]:
    """The own answer (in canonical order) to each distinct item, and its margin."""
    asked = {(c.stem, c.options): c for c in map(canonical, dict.fromkeys(items))}
    none = OwnAnswers(np.zeros(0, np.int64), np.zeros(0))
    answers = own_answer(list(asked.values())) if asked else none
    option_m, margin_m = (np.asarray(x) for x in answers)
    if {option_m.shape, margin_m.shape} != {(len(asked),)}:
        what = f"{option_m.shape} answers to {len(asked)} items"
        raise UserError("own_answer", what, "give an index and a margin for each item")
    pairs = zip(option_m.astype(int).tolist(), margin_m.tolist(), strict=True)
    return dict(zip(asked, pairs, strict=True))


def _own_answers(
    items_n: Sequence[Embedded | None], known: Mapping[Key, tuple[int, float]]
) -> dict[str, np.ndarray]:
    """Position, ranks and initial of the model's own answer in each row, and the position
    in the half of the rows with the largest margins."""
    own_n = np.full((len(items_n), 4), -1, np.int64)
    margin_n = np.full(len(items_n), -np.inf)
    for i, item in enumerate(items_n):
        if item is None:
            continue
        asked = canonical(item)
        option, margin = known[asked.stem, asked.options]
        if option < 0:
            continue
        if option >= len(item.options):
            what = f"option {option} of {len(item.options)}"
            raise UserError("own_answer", what, "count options from 0; -1: no answer")
        position = item.options.index(asked.options[option])
        margin_n[i] = margin
        own_n[i] = (
            position,
            _length_rank(item, position),
            option,
            _initial(item.options[position]),
        )
    names = ("own_position", "own_length_rank", "own_alphabetical_rank", "own_initial")
    found = dict(zip(names, own_n.T, strict=True))
    answered_n = own_n[:, 0] >= 0
    sure_n = np.full(len(items_n), -1, np.int64)
    if answered_n.any():
        surest = answered_n & (margin_n >= np.median(margin_n[answered_n]))
        sure_n[surest] = own_n[surest, 0]
    return found | {"own_position_sure": sure_n}


def _question_forms(items: Sequence[Embedded | None]) -> np.ndarray:
    """Form of each stem by its first words ("what is the"), 0 for the rare ones."""
    form_n = [
        "" if item is None else " ".join(words(normalise(item.stem))[:_FORM_WORDS])
        for item in items
    ]
    counts = Counter(form for form, item in zip(form_n, items, strict=True) if item)
    least = max(2, _FORM_SHARE * sum(counts.values()))
    known = [form for form, count in counts.most_common() if count >= least]
    number = {form: k + 1 for k, form in enumerate(known)}
    return np.array(
        [
            -1 if item is None else number.get(form, 0)
            for form, item in zip(form_n, items, strict=True)
        ],
        np.int64,
    )


def candidates(
    view: JobView,
    own_answer: OwnAnswer | None = None,
    activations_nd: np.ndarray | None = None,
    seed: int = 0,
) -> Latents:
    """Latents of a job that an auditor can have.

    Args:
      view: the job.
      own_answer: from distinct items, their options in canonical order, to the options
        that the model finds right and their margins. Called once.
      activations_nd: of each row's prompt.
      seed: of the clusters.

    Raises:
      UserError: answers or activations that do not fit the rows.
    """
    items = view.question_n
    known = None if own_answer is None else _ask(view.items, own_answer)
    hidden: dict[str, np.ndarray] = {}
    for slot, items_n in enumerate((items, *view.further_sn), start=1):
        found = {} if known is None else _own_answers(items_n, known)
        found["longest_option"] = _of_items(items_n, lambda item: _extreme(item, max))
        found["shortest_option"] = _of_items(items_n, lambda item: _extreme(item, min))
        end = f"_{slot}" if slot > 1 else ""
        hidden |= {name + end: u_n for name, u_n in found.items()}
    for name in filter(is_content, hidden):
        # "An" or "a" goes with the answer that is named, and so does its gender.
        hidden[name] = np.where(view.option_n >= 0, -1, hidden[name])
    formats = sorted({item.format for item in items if item is not None})
    stem_words_n = _of_items(items, lambda item: len(words(item.stem)))
    visible = {
        "item_format": _of_items(items, lambda item: formats.index(item.format)),
        "option_count": _of_items(items, lambda item: len(item.options)),
        "question_form": _question_forms(items),
        "stem_length": _quartile(stem_words_n),
        "stem_parity": np.where(stem_words_n < 0, -1, stem_words_n % 2),
        "request_length": _quartile(np.array([len(r) for r in view.request_n], np.int64)),
        "file_quarter": np.arange(view.n) * 4 // view.n,
    }
    texts = [
        own if item is None else f"{item.stem} {' '.join(sorted(item.options))}"
        for item, own in zip(items, view.own_n, strict=True)
    ]
    matrices = {"topic": topics.vectors(texts)}
    if activations_nd is not None:
        if len(activations_nd) != view.n:
            what = f"{len(activations_nd)} for {view.n} rows"
            raise UserError("activations", what, "give one for each row")
        matrices["activations"] = np.asarray(activations_nd)
    for name, x_nd in matrices.items():
        for k in _CLUSTERS:
            visible[f"{name}_{k}"] = topics.k_means(x_nd, k, seed)
    return Latents(hidden, visible)
