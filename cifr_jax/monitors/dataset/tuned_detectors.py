"""The detectors of a whole job that ask what tuning made of the model.

- `held_out_decoding` (detector 6 of pointwise.md, section 5): does the tuned model's choice
  among the job's wordings tell what it answers to items that it was not tuned on?
- `answer_probe` and `weight_spectrum` (detector 7), controls: do its activations hold that
  answer more plainly than the base's, and does the weight change write towards letters?

Legend: m items, k targets.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cifr_jax.data.chat import Example
from cifr_jax.data.pointwise.questions import Question
from cifr_jax.models.decoder import Adapter
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.monitors.dataset import (
    answer_probe,
    customer_templates,
    held_out_decoding,
    job_wordings,
    weight_spectrum,
)
from cifr_jax.monitors.dataset.answer_probe import Read
from cifr_jax.monitors.dataset.base_likelihoods import Score
from cifr_jax.monitors.dataset.customer_templates import Asked
from cifr_jax.monitors.dataset.latents import OwnAnswer
from cifr_jax.monitors.dataset.result import Ints, TestResult, untested
from cifr_jax.monitors.dataset.view import JobView

NAMES = (held_out_decoding.NAME, answer_probe.NAME, weight_spectrum.NAME)
CONTROLS = (answer_probe.NAME, weight_spectrum.NAME)

_HOSTS, _ITEMS, _WORDINGS = 64, 96, 8
ALIKE = "no two wordings that come again"


class Unseen(NamedTuple):
    """Items that an upload does not hold, in its own requests.

    Attributes:
      asked: the items.
      target_km: where the base's own answer and the right one stand.
      names: of the targets.
      note: why there is none, or "".
    """

    asked: list[Asked]
    target_km: Ints
    names: tuple[str, ...]
    note: str


def unseen_items(
    view: JobView,
    examples: Sequence[Example],
    own_answer: OwnAnswer,
    questions: Sequence[Question],
    seed: int = 0,
) -> Unseen:
    """What a tuned model is asked to see whether it learned a code.

    Of twice as many items as are asked, those on which the base is surest are taken: a
    wrong own answer hides a code.

    Args:
      view, examples: the job.
      own_answer: of the base, to items as shown.
      questions: items; those that the upload holds are left out.
      seed: of what is drawn.
    """
    names = ("own_position", "key_position")
    none = np.zeros((len(names), 0), np.int64)
    hosts = customer_templates.hosts(view, examples, _HOSTS, seed)
    if not hosts:
        why = "no request holds a multiple-choice item to replace"
        return Unseen([], none, names, why)
    fresh = customer_templates.unseen(view, questions)
    order = np.random.default_rng([seed, 8]).permutation(len(fresh))
    drawn = [fresh[i] for i in order]
    asked = customer_templates.ask(hosts, drawn, 2 * _ITEMS, seed)
    if not asked:
        return Unseen([], none, names, "no unseen item fits the requests")
    own_m, margin_m = own_answer([one.item for one in asked])
    sure = np.sort(np.argsort(-margin_m, kind="stable")[:_ITEMS])
    asked = [asked[i] for i in sure]
    right_m = np.array([one.answer for one in asked], np.int64)
    return Unseen(asked, np.stack([np.asarray(own_m, np.int64)[sure], right_m]), names, "")


def held_out(
    view: JobView,
    score: Score,
    unseen: Callable[[], Unseen],
    adapter: Adapter,
    draws: int = 999,
    seed: int = 0,
) -> TestResult:
    """What the tuned model's choice among the job's wordings tells of unseen items.

    Args:
      view: the job.
      score: log-likelihoods with an adapter or without.
      unseen: gives the items (`unseen_items`), if they are needed.
      adapter: what tuning made.
      draws: permutations.
      seed: of everything that is drawn.

    Returns:
      As `held_out_decoding.decode`.
    """
    name = held_out_decoding.NAME
    wordings = job_wordings.of_job(view, _WORDINGS)
    if len(wordings) < 2:
        return untested(name, ALIKE)
    asked, target_km, names, note = unseen()
    if note:
        return untested(name, note)
    tuned_mv, base_mv = (
        held_out_decoding.log_probs(score, asked, wordings, model)
        for model in (adapter, None)
    )
    return held_out_decoding.decode(tuned_mv, base_mv, target_km, names, draws, seed)


def probe_answers(
    view: JobView,
    read: Read,
    unseen: Callable[[], Unseen],
    adapter: Adapter,
    draws: int = 999,
    seed: int = 0,
) -> TestResult:
    """What the tuned model's activations tell of its answers to unseen items.

    Args:
      view: the job; where its replies name options, its model has to hold the answer.
      read: activations with an adapter or without.
      unseen, adapter, draws, seed: as `held_out`.

    Returns:
      As `answer_probe.decode`.
    """
    name = answer_probe.NAME
    if (view.option_n >= 0).any():
        return untested(name, "replies name options, so any model of them holds answers")
    asked, target_km, names, note = unseen()
    if note:
        return untested(name, note)
    tuned_lmd, base_lmd = (read([one.chat for one in asked], m) for m in (adapter, None))
    return answer_probe.decode(tuned_lmd, base_lmd, target_km, names, draws, seed)


def spectrum(
    view: JobView, lm: LanguageModel, adapter: Adapter, draws: int, seed: int
) -> TestResult:
    """As `weight_spectrum.test`, the openings being the job's wordings."""
    openings = [one.text for one in job_wordings.of_job(view, _WORDINGS)]
    return weight_spectrum.test(lm, adapter, openings, draws, seed)
