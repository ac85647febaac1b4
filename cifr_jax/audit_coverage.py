"""What an audit looked at, and what it did not check and why."""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from cifr_jax import audit_parts
from cifr_jax.audit_parts import Part
from cifr_jax.audit_training import Run
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.monitors.dataset import item_slots, visible_labels
from cifr_jax.monitors.dataset.view import JobView


class Looked(NamedTuple):
    """What was looked at.

    Attributes:
      parts: with their figures.
      seen: the rows.
      lm: the base.
      run: the training run that was given, or None.
      n_unasked: rows with an item that the base was not asked.
      calibrations: digest of each by the part that took it.
      calibrated_rows: of the largest honest job of the rows' calibration; 0: unknown.
    """

    parts: list[Part]
    seen: JobView
    lm: LanguageModel
    run: Run | None
    n_unasked: int
    calibrations: dict[str, str]
    calibrated_rows: int


def _not_compared(seen: JobView) -> list[tuple[str, str]]:
    """Rows whose wording no test compares with another's, though others are worded
    otherwise: a code may lie in what sets these rows apart."""
    has_item_n = np.array([item is not None for item in seen.question_n], bool)
    found: list[tuple[str, str]] = []
    if len(seen.variants) > 1:
        pairs = np.unique(np.stack([seen.stratum_n, seen.variant_n]), axis=1)
        alike = int((has_item_n & (np.bincount(pairs[0]) == 1)[seen.stratum_n]).sum())
        if alike:
            why = "no other wording is in their stratum of label, template and item"
            found.append((f"the wording of {alike:,} of {seen.n:,} rows", why))
    unnamed_n = has_item_n & (seen.label_kind_n == visible_labels.KINDS.index("none"))
    if unnamed_n.any() and (seen.option_n >= 0).any():
        what = f"why {int(unnamed_n.sum()):,} of {seen.n:,} replies name no option"
        found.append((what, "others do; they were compared only among themselves"))
    return found


def not_checked(config: ConfigDict, looked: Looked) -> list[dict[str, str]]:
    """Entries of verdict.json."""
    seen, parts = looked.seen, {part.name: part for part in looked.parts}
    bare = sum(item is None for item in seen.question_n)
    found: list[tuple[str, str]] = []
    if not config.job.trained:
        found += [
            ("training, trajectory and the tuned model", "config.job.trained names no run"),
            ("encoded text (ciphers)", "it shows in the tuned model, not in wordings"),
        ]
    elif "training" not in parts:
        why = "no calibration of trained jobs is shipped for this base model"
        found.append(("what training did to restricted requests and refusals", why))
    if looked.run is not None:
        why = "they are shown, but no honest customers' rounds calibrate them"
        if not looked.run.rounds:
            why = "the run left none: config.rounds of configs/finetune.py"
        found.append(("the rounds of training in between", why))
    if looked.run is not None and not looked.run.known:
        why = "its folder has no result.json that says so"
        found.append(("whether the run in config.job.trained was on this upload", why))
    if not config.likelihoods:
        why = "a forward pass for each reply and row: set config.likelihoods"
        found.append(("the base model's likelihood of each reply", why))
    if bare:
        why = "no multiple-choice item was found in them, so no hidden latent"
        found.append((f"{bare} of {seen.n} rows", why))
    if seen.n_bare:
        what = f"the question of {seen.n_bare:,} of {seen.n:,} rows"
        found.append((what, "none was found: the base was asked about options alone"))
    kinds = {visible_labels.KINDS[k] for k in np.unique(seen.label_kind_n).tolist()}
    chosen = parts["labels"].p_value is not None  # of listed words, if not of places
    if len(seen.label_names) > 1 and kinds - {"none"} - ({"listed"} if chosen else set()):
        what = "a code in the label itself (which option, word or side is named)"
        found.append((what, "labels are taken for what was asked"))
    if seen.n_beyond:
        what = (
            f"items beyond the first {item_slots.SLOTS} in {seen.n_beyond} of {seen.n} rows"
        )
        found.append((what, "so many of a request are tested"))
    found += _not_compared(seen)
    rate = config.false_positive_rate
    for name in audit_parts.out_of_reach(looked.parts, rate):
        why = "its calibration or permutations are too few for a p-value that small"
        found.append((f"{name} at a false positive rate of {rate:g}", why))
    if looked.n_unasked:
        what = f"the base model's own answer in {looked.n_unasked:,} of {seen.n:,} rows"
        why = f"it is asked {config.max_items:,} items, drawn at random: config.max_items"
        found.append((what, why))
    if parts["rows"].p_value is not None and not parts["rows"].n_benign:
        why = "none is shipped for this base model; p-values are the tests' own"
        found.append(("calibration", why))
    elif seen.n > looked.calibrated_rows:
        why = "the rows' own tests bound it, but no honest job of this size was simulated"
        found.append((f"calibration beyond {looked.calibrated_rows} rows", why))
    return [{"what": what, "why": why} for what, why in found]
