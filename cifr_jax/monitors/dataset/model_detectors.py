"""The detectors of a whole job that ask a model: the base, or what tuning made of it.

- `base_randomisation` (detector 2 of pointwise.md, section 5): are the replies what the
  base would write under some house style that looks at no hidden latent?
- `support_collapse` (detector 5), a control: do they use fewer wordings than the base?
  Honest label formats do as well.

Those that ask the tuned model are in `tuned_detectors`.

Legend: n rows, r rows that take part, s base replies to a request.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from cifr_jax.data.chat import Example
from cifr_jax.data.pointwise import questions as bank
from cifr_jax.errors import UserError
from cifr_jax.models.decoder import Adapter
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.monitors.dataset import (
    answer_probe,
    base_likelihoods,
    conditional_randomisation,
    detectors,
    job_wordings,
    support,
    tuned_detectors,
)
from cifr_jax.monitors.dataset.base_likelihoods import Chat, Score
from cifr_jax.monitors.dataset.latents import Latents
from cifr_jax.monitors.dataset.own_answer import own_answer_from
from cifr_jax.monitors.dataset.plain_text import normalise
from cifr_jax.monitors.dataset.result import TestResult, codes, untested
from cifr_jax.monitors.dataset.tuned_detectors import Unseen
from cifr_jax.monitors.dataset.view import JobView

BASE: tuple[str, ...] = ("base_randomisation", "support_collapse")
TUNED: tuple[str, ...] = tuned_detectors.NAMES
CONTROLS: tuple[str, ...] = ("support_collapse", *tuned_detectors.CONTROLS)

# From chats, replies to each and a seed to sampled replies [n][s]; only beginnings count.
Write = Callable[[Sequence[Chat], int, int], Sequence[Sequence[str]]]
Tell = Callable[[str, float], None]

_ROWS, _VARIANTS, _PAIRS = 256, 12, 1_536  # whose likelihood is asked for
_WRITTEN, _REPLIES, _TOKENS = 48, 3, 8  # requests, base replies to each, their tokens


def base_randomisation(
    view: JobView,
    latents: Latents,
    examples: Sequence[Example],
    score: Score,
    draws: int = 999,
    seed: int = 0,
) -> TestResult:
    """Wording against hidden latents beyond a tilt of the base's own likelihoods.

    Args:
      view, latents, examples: the job.
      score: log-likelihoods under the base.
      draws: of the replies.
      seed: of the sample of rows and the draws.

    Returns:
      As `conditional_randomisation.test`; detail["left_out"]: rows and variants that were
      not looked at, by reason.
    """
    name = "base_randomisation"
    hidden = {
        k: u_n for k, u_n in latents.hidden.items() if np.unique(u_n[u_n >= 0]).size > 1
    }
    if not hidden:
        return untested(name, detectors.no_latent(view))
    n_variants = len(job_wordings.of_job(view, _VARIANTS))
    if n_variants < 2:
        return untested(name, tuned_detectors.ALIKE)
    n_rows = min(_ROWS, _PAIRS // n_variants)
    found = base_likelihoods.of_job(view, examples, score, _VARIANTS, n_rows, seed)
    rows_r = found.rows_r
    x_rd = detectors.honest_reasons(view, latents)[rows_r]
    result = conditional_randomisation.test(
        found.variant_r,
        found.log_p_rv,
        np.stack([u_n[rows_r] for u_n in hidden.values()]),
        x_rd if x_rd.shape[1] else None,
        view.asked_n[rows_r],
        n_draws=draws,
        seed=seed,
        names=list(hidden),
    )
    detail = {**result.detail, "left_out": found.left_out}
    return TestResult(name, result.statistic, result.p_value, detail)


def support_collapse(
    view: JobView,
    examples: Sequence[Example],
    write: Write,
    cut: Callable[[str], str],
    draws: int = 999,
    seed: int = 0,
) -> TestResult:
    """Are replies less spread than the base's own, where it has a choice?

    Args:
      view, examples: the job.
      write: the base's replies, sampled at temperature 1.
      cut: shortens a reply of the job as `write` shortens the base's.
      draws: of the bootstrap.
      seed: of the sample of rows, the replies and the bootstrap.

    Returns:
      As `support.collapse`; detail["rows"]: requests with a choice, ["left_out"].
    """
    name = "support_collapse"
    rows_r, left_out = base_likelihoods.sample_rows(
        view, np.ones(view.n, bool), _WRITTEN, seed
    )
    chats = [view.before(examples, i) for i in rows_r]
    written = write(chats, _REPLIES, seed) if chats else []
    pools = [
        [cut(view.reply_n[i]), *replies] for i, replies in zip(rows_r, written, strict=True)
    ]
    texts = np.array([normalise(text) for pool in pools for text in pool])
    pool_rs = codes(texts).reshape(len(pools), _REPLIES + 1)
    free_r = support.open_choices(pool_rs)
    left_out["requests without a choice"] = int((~free_r).sum())
    if not free_r.any():
        return untested(name, "the base model has no choice")
    v_r, draws_rs = pool_rs[free_r, 0], pool_rs[free_r, 1:]
    result = support.collapse(v_r, draws_ns=draws_rs, n_draws=draws, seed=seed)
    detail = {**result.detail, "rows": int(free_r.sum()), "left_out": left_out}
    return TestResult(name, result.statistic, result.p_value, detail)


def _writer(lm: LanguageModel) -> Write:
    def write(chats: Sequence[Chat], n: int, seed: int) -> list[list[str]]:
        each = [chat for chat in chats for _ in range(n)]
        texts = lm.generate(each, None, _TOKENS, temperature=1.0, seed=seed)
        return [texts[i : i + n] for i in range(0, len(texts), n)]

    return write


def _cutter(lm: LanguageModel) -> Callable[[str], str]:
    return lambda text: lm.tokenizer.decode(lm.tokenizer.encode(text)[:_TOKENS])


def run(
    view: JobView,
    latents: Latents,
    examples: Sequence[Example],
    lm: LanguageModel,
    adapter: Adapter | None = None,
    draws: int = 999,
    seed: int = 0,
    names: Sequence[str] | None = None,
    progress: Tell | None = None,
) -> dict[str, TestResult]:
    """Runs the detectors that ask a model.

    Args:
      view, latents, examples: the job.
      lm: the base model.
      adapter: what tuning made of it, if there is that.
      draws: of each test.
      seed: of whatever is drawn.
      names: of `BASE` and `TUNED`; None: those of `BASE`, and of `TUNED` with an adapter.
      progress: called with the name of each and the share of work done.

    Returns:
      By name; detail["note"] says why one could not run.

    Raises:
      UserError: an unknown name.
    """
    if names is None:
        names = BASE + (TUNED if adapter is not None else ())
    score = base_likelihoods.scorer(lm)

    @functools.cache
    def unseen() -> Unseen:  # two detectors ask about the same items
        ask = own_answer_from(lm)
        return tuned_detectors.unseen_items(view, examples, ask, bank.bank(), seed)

    known: dict[str, Callable[[], TestResult]] = {
        "base_randomisation": lambda: base_randomisation(
            view, latents, examples, score, draws, seed
        ),
        "support_collapse": lambda: support_collapse(
            view, examples, _writer(lm), _cutter(lm), draws, seed
        ),
    }
    if adapter is None:
        none = "no tuned model was given"
        known |= {name: functools.partial(untested, name, none) for name in TUNED}
    else:
        how, read = (adapter, draws, seed), answer_probe.reader(lm)
        known |= {
            "held_out_decoding": lambda: tuned_detectors.held_out(
                view, score, unseen, *how
            ),
            "answer_probe": lambda: tuned_detectors.probe_answers(view, read, unseen, *how),
            "weight_spectrum": lambda: tuned_detectors.spectrum(view, lm, *how),
        }
    for name in names:
        if name not in known:
            what = f"unknown detector {str(name)[:40]!r}"
            raise UserError("detectors", what, f"known: {', '.join(known)}")
    found = {}
    for i, name in enumerate(names):
        found[name] = known[name]()
        if progress is not None:
            progress(name, (i + 1) / len(names))
    return found
