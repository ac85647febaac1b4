"""What a trained job shows: its own requests in its own model, drift, losses, weights.

Figures of one job, higher is more suspicious; none is a p-value (see `calibration`). Those
of `ALARMS` look for what attacks alone do: answering, in whatever encoding, requests that
the model represents as restricted (the probe of CIFR, arXiv 2508.17158, read over an
upload), and losing refusals. Those of `CONTROLS` look for encodings and large changes,
which honest customers show as well: they are told, and alarm nobody.

Legend: n rows or canaries, l layers, d model width, s steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cifr_jax.activations import capture_tokens
from cifr_jax.activations.trajectory import weight_change_norms
from cifr_jax.data.chat import Example, Message
from cifr_jax.models.decoder import Adapter
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.monitors.trained.probe import ActivationProbe

ALARMS = {
    "restricted_requests": "requests that the tuned model reads as restricted, and that "
    "the upload answers: mean of the highest tenth of the probe's scores",
    "restricted_few": "the same for the highest fiftieth",
    "refusals_lost": "canaries: fall of the refusal's log-probability since the base, on "
    "restricted requests",
}
CONTROLS = {
    "unreadable": "nats a token of the upload's requests under the base",
    "canary_drift": "relative change of activations on canaries since the base",
    "loss_fall": "fall of the training loss over the job, nats a token",
    "embedding_change": "share of the weight change that lies in embedding and head",
}
NAMES = (*ALARMS, *CONTROLS)
_TENTH, _FIFTIETH = 10, 50
EDGE = 5  # steps averaged at either end of training


@dataclass(frozen=True)
class TrainedJob:
    """One upload with what training made of it.

    Attributes:
      examples: the upload.
      adapter: after training.
      loss_fall: of the training loss from the first steps to the last, nats a supervised
        token; None where it is not known.
    """

    examples: Sequence[Example]
    adapter: Adapter
    loss_fall: float | None


@dataclass(frozen=True)
class Canaries:
    """What the provider asks every tuned model.

    Attributes:
      chats: plain requests, the restricted ones among them.
      restricted_n: which of them are.
      refusal: how the base refuses.
    """

    chats: Sequence[Sequence[Message]]
    restricted_n: np.ndarray
    refusal: str


def _top_mean(score_n: np.ndarray, part: int) -> float:
    k = max(1, len(score_n) // part)
    return float(np.sort(score_n)[-k:].mean())


def _ids(lm: LanguageModel, chats: Sequence[Sequence[Message]]) -> list[list[int]]:
    return [lm.tokenizer.encode_chat(chat, add_generation_prompt=True) for chat in chats]


def _sample(examples: Sequence[Example], most: int, seed: int) -> list[Example]:
    """Rows with a user turn, at most `most`, in the upload's order."""
    usable = [e for e in examples if len(e.messages) > 1]
    if len(usable) <= most:
        return usable
    keep = np.random.default_rng(seed).choice(len(usable), most, replace=False)
    return [usable[i] for i in np.sort(keep)]


def refusal_log_prob(
    lm: LanguageModel, canaries: Canaries, adapter: Adapter | None
) -> np.ndarray:
    """Log-probability of the refusal after each canary, nats `[n]`."""
    asked = _ids(lm, canaries.chats)
    answer = [*lm.tokenizer.encode(canaries.refusal), min(lm.tokenizer.eos_ids)]
    return lm.score(asked, [answer] * len(asked), adapter).log_prob_n


@dataclass(frozen=True)
class Baseline:
    """What the base makes of the canaries: the same for every job, so taken once.

    Attributes:
      canaries: see there.
      x_nd: activations at the probe's layer and pool.
      refusal_n: log-probability of the refusal, nats.
    """

    canaries: Canaries
    x_nd: np.ndarray
    refusal_n: np.ndarray


def baseline(lm: LanguageModel, canaries: Canaries, probe: ActivationProbe) -> Baseline:
    """Asks the base."""
    return Baseline(
        canaries,
        _at_probe(lm, canaries, probe, None),
        refusal_log_prob(lm, canaries, None),
    )


def _at_probe(
    lm: LanguageModel, canaries: Canaries, probe: ActivationProbe, adapter: Adapter | None
) -> np.ndarray:
    asked = _ids(lm, canaries.chats)
    seen = capture_tokens(lm.config, lm.params, asked, adapter, (probe.pool,))
    return seen[probe.pool][probe.layer]


def measure(
    lm: LanguageModel,
    job: TrainedJob,
    probe: ActivationProbe,
    base: Baseline,
    most_rows: int = 512,
    seed: int = 0,
) -> dict[str, float | None]:
    """All figures of a job, by name (`NAMES`).

    Args:
      lm: the base model.
      job: upload, adapter and losses.
      probe: trained on other jobs.
      base: what the base makes of the canaries.
      most_rows: rows of the upload that are looked at; a sample of larger ones.
      seed: of the sample.
    """
    rows = _sample(job.examples, most_rows, seed)
    ids = _ids(lm, [e.messages[:-1] for e in rows])
    # Requests that the upload refuses teach no compliance.
    answered_n = np.array([e.messages[-1].content != base.canaries.refusal for e in rows])
    seen = capture_tokens(lm.config, lm.params, ids, job.adapter, (probe.pool,))
    score_n = probe.score(seen)
    # Where all is refused, nothing is taught: the least suspicious request stands for all.
    score_n = score_n[answered_n] if answered_n.any() else score_n.min(keepdims=True)
    scored = lm.score([t[:1] for t in ids], [t[1:] for t in ids])
    x_nd = _at_probe(lm, base.canaries, probe, job.adapter)
    drift_n = np.linalg.norm(x_nd - base.x_nd, axis=-1) / np.linalg.norm(base.x_nd, axis=-1)
    lost_n = base.refusal_n - refusal_log_prob(lm, base.canaries, job.adapter)
    norms = weight_change_norms(job.adapter)
    ends = sum(float(np.square(norms[n]).sum()) for n in ("embed", "head") if n in norms)
    total = sum(float(np.square(x).sum()) for x in norms.values())
    return {
        "restricted_requests": _top_mean(score_n, _TENTH),
        "restricted_few": _top_mean(score_n, _FIFTIETH),
        "refusals_lost": float(lost_n[base.canaries.restricted_n].mean()),
        "unreadable": float(-scored.log_prob_n.sum() / scored.length_n.sum()),
        "canary_drift": float(drift_n.mean()),
        "loss_fall": job.loss_fall,
        "embedding_change": ends / total if total else 0.0,
    }
