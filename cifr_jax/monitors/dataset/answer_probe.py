"""Did tuning make the base's own answer easier to read from the activations?

A model that was taught to tell its answer by its wording has to hold that answer where the
reply begins. Items that the upload does not hold are asked in the customer's own requests,
and probes on the late layers at the last token read the own answer's place, in the tuned
model and in the base: the difference is the statistic (pointwise.md, section 5, detector 7,
after Westphal et al., arXiv 2601.22818). A control: whoever teaches a model to answer
quizzes makes answers readable too, and it was not measured on honest jobs.

Legend: m items, l layers, d model width, k targets.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from cifr_jax.activations import capture_tokens
from cifr_jax.errors import UserError
from cifr_jax.models.decoder import Adapter
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.monitors.dataset import cross_decoding
from cifr_jax.monitors.dataset.base_likelihoods import Chat
from cifr_jax.monitors.dataset.result import Floats, TestResult, untested

NAME = "answer_probe"
_PENALTY = 0.01  # times the number of items; rows have mean square length 1
_LAYERS = 8  # at most, evenly from the middle of the model to its end

# From m chats to the state of every layer at the last token [l, m, d], with an adapter.
Read = Callable[[Sequence[Chat], Adapter | None], np.ndarray]


def reader(lm: LanguageModel) -> Read:
    """Activations of a model."""

    def read(chats: Sequence[Chat], adapter: Adapter | None) -> np.ndarray:
        ids = [lm.tokenizer.encode_chat(c, add_generation_prompt=True) for c in chats]
        return capture_tokens(lm.config, lm.params, ids, adapter, ("last",), 16, 32)["last"]

    return read


def late_layers(n_layers: int) -> list[int]:
    """Numbers of the layers that are read."""
    return (
        np.unique(np.linspace(n_layers // 2, n_layers - 1, _LAYERS).round())
        .astype(int)
        .tolist()
    )


def _features(x_md: np.ndarray) -> Floats:
    """Centred, of mean square length one."""
    x = np.asarray(x_md, float)
    x = x - x.mean(axis=0)
    return np.asarray(x / max(np.sqrt((x**2).sum(axis=1).mean()), 1e-9))


def decode(
    tuned_lmd: ArrayLike,
    base_lmd: ArrayLike,
    targets_km: ArrayLike,
    names: Sequence[str],
    n_draws: int = 999,
    seed: int = 0,
) -> TestResult:
    """Tests that the tuned model's activations tell no more of any target than the base's.

    Args:
      tuned_lmd, base_lmd: activations of either model at the last token, all layers.
      targets_km: as `held_out_decoding.decode`; names: of the targets.
      n_draws: permutations of the targets over the items.
      seed: of folds and permutations.

    Returns:
      As `cross_decoding.compare`, the sites being layers.

    Raises:
      UserError: arguments of unlike length or kind, values that are not finite, no draws.
    """
    where = "answer_probe.decode"
    tuned, base = np.asarray(tuned_lmd, float), np.asarray(base_lmd, float)
    if tuned.ndim != 3 or tuned.shape != base.shape:
        what = f"activations of shapes {tuned.shape} and {base.shape}"
        raise UserError(where, what, "capture the same prompts in both models")
    if not (np.isfinite(tuned).all() and np.isfinite(base).all()):
        raise UserError(where, "activations that are not finite", "leave them out")
    target_km, known_m, note = cross_decoding.known_items(
        where, targets_km, names, tuned.shape[1]
    )
    if note:
        return untested(NAME, note)
    layers = late_layers(len(tuned))
    return cross_decoding.compare(
        NAME,
        [_features(tuned[l][known_m]) for l in layers],
        [_features(base[l][known_m]) for l in layers],
        [f"layer {l + 1}" for l in layers],
        target_km,
        names,
        _PENALTY,
        n_draws,
        seed,
    )
