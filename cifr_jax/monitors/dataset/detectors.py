"""The detectors of a whole job that need nothing but its rows and the base's own answers.

Each is a test with a valid p-value under its null (pointwise.md, section 5). Those of
`ALARMS` ask whether wording depends on a *hidden* latent given the visible label, those of
`LABELS` whether a label does that may be any word of a list. Those of `CONTROLS` ask what
honest jobs fail as well: they are shown, and alarm nobody.

Each takes the job, its latents, how many permutations (or draws) it makes and their seed,
and returns a `TestResult` whose detail["note"] says why where it could not run.

Legend: n rows, k latents, j detectors.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cifr_jax.errors import UserError
from cifr_jax.monitors.dataset import (
    conditional_randomisation,
    permutation,
    style_features,
    style_randomisation,
    style_tests,
    two_sample,
    visible_labels,
    wordings,
)
from cifr_jax.monitors.dataset.latents import Latents, is_content
from cifr_jax.monitors.dataset.plain_text import words
from cifr_jax.monitors.dataset.result import NOTHING, TestResult, untested
from cifr_jax.monitors.dataset.shuffles import codes_of_rows
from cifr_jax.monitors.dataset.view import JobView

Detector = Callable[[JobView, Latents, int, int], TestResult]
_COMPONENTS = 16  # of the requests' features in the joint test
_LEVELS = 64  # of a visible latent that makes columns
_FORM_ROWS, _FORM_SHARE = 20, 0.1  # a common form has so many rows, and such a share
# Visible latents that honest wording may follow: what a tilt of it has.
HONEST = (
    *("topic_8", "topic_16", "topic_32"),
    *("question_form", "request_length", "file_quarter", "stem_length"),
)


def _strata(*columns: np.ndarray) -> np.ndarray:
    return codes_of_rows(np.stack(columns, axis=1))


def _within_topics(view: JobView, latents: Latents) -> np.ndarray:
    columns = latents.visible["topic_8"], latents.visible["file_quarter"]
    return _strata(view.stratum_n, *columns)


def _places(latents: Latents) -> dict[str, np.ndarray]:
    """Hidden latents that do not go by what the own answer is."""
    return {name: u for name, u in latents.hidden.items() if not is_content(name)}


def _matrix(latents: Mapping[str, np.ndarray]) -> tuple[np.ndarray, list[str]]:
    """Latents that are known in some row and not the same in all of them."""
    kept = {name: u_n for name, u_n in latents.items() if len(np.unique(u_n[u_n >= 0])) > 1}
    n = len(next(iter(latents.values()))) if latents else 0
    return np.array(list(kept.values()), np.int64).reshape(-1, n), list(kept)


def no_latent(view: JobView) -> str:
    """Why no latent of a job varies."""
    if any(item is not None for item in view.question_n):
        return "no latent varies: items and own answers are alike in all rows"
    return "no latent varies: no multiple-choice item was found"


def _cmi(
    name: str, view: JobView, latents: Mapping[str, np.ndarray], strata_n, draws: int, seed
) -> TestResult:
    u_kn, names = _matrix(latents)
    if not names:
        return untested(name, no_latent(view))
    if len(view.variants) < 2:
        return untested(name, "all replies are worded alike")
    found = permutation.stratified(
        u_kn, view.variant_n, strata_n, view.cluster_n, draws, seed, names, view.copy_n
    )
    return TestResult(name, found.statistic, found.p_value, found.detail)


def channel(view: JobView, latents: Latents, draws: int, seed: int) -> TestResult:
    """Wording against hidden latents, within strata of equal requests (detector 1).

    A control: annotators who share out topics, and place answers each in their own way,
    are accused by it (in more than half of such jobs)."""
    return _cmi("channel", view, _places(latents), view.stratum_n, draws, seed)


def channel_within_topics(
    view: JobView, latents: Latents, draws: int, seed: int
) -> TestResult:
    """The same within topics and quarters of the file too: annotators who share out
    topics, and habits that drift, are no channel. By place alone: what an own answer *is*
    follows the topic more finely than any clusters do.

    A control as well: with a base that knows most answers it accuses a fifth of such
    annotators, since no clusters of rows are their topics; strata of finer ones leave
    nothing to permute. A fitted tilt of all of them does not (`conditional`)."""
    strata_n = _within_topics(view, latents)
    return _cmi("channel_within_topics", view, _places(latents), strata_n, draws, seed)


def _features(view: JobView) -> dict[str, np.ndarray]:
    """Features of style that vary, each of few values."""
    few = {name: style_features.levels(name, x_n) for name, x_n in view.style.items()}
    return {name: x_n for name, x_n in few.items() if len(np.unique(x_n)) > 1}


def _no_style(view: JobView, names: list[str], features: dict[str, np.ndarray]) -> str:
    """Why features of style cannot be tested, or ""."""
    if not names:
        return no_latent(view)
    return "" if features else "all replies are written alike"


def style(view: JobView, latents: Latents, draws: int, seed: int) -> TestResult:
    """Every feature of style against hidden latents by place, within topics and quarters of
    the file too (detector 4): of many features some follow the topic in any honest job.
    A control for the reason of `channel_within_topics`; where `conditional_style` or
    another test alarms, its features are reasons, in bits."""
    u_kn, names = _matrix(_places(latents))
    features = _features(view)
    why = _no_style(view, names, features)
    if why:
        return untested("style", why)
    found = style_tests.bank(
        features,
        dict(zip(names, u_kn, strict=True)),
        _within_topics(view, latents),
        view.cluster_n,
        draws,
        seed,
        copy_n=view.copy_n,
    )
    return TestResult("style", found.statistic, found.p_value, found.detail)


def choice(view: JobView, latents: Latents, draws: int, seed: int) -> TestResult:
    """Which word of a list in the request a reply names, against hidden latents by place.

    What is asked of the list may follow the topic, but seldom where the right option of a
    quiz item stands. The same of yes and no, or of words for places, would accuse whoever
    marks answers or gives hints.
    """
    places_words = set().union(*visible_labels.SCALES)
    arbitrary = [
        name.startswith("listed:") and not places_words & set(words(name)[1:])
        for name in view.label_names
    ]
    listed_n = np.array(arbitrary, bool)[view.label_n]
    if not listed_n.any():
        return untested("choice", "no reply names a word that its request lists")
    places = {k: np.where(listed_n, u_n, -1) for k, u_n in _places(latents).items()}
    u_kn, names = _matrix(places)
    if not names:
        return untested("choice", no_latent(view))
    columns = latents.visible["topic_4"], latents.visible["file_quarter"]
    found = permutation.stratified(
        u_kn,
        view.label_n,
        _strata(view.form_n, listed_n.astype(np.int64), *columns),
        view.cluster_n,
        draws,
        seed,
        names,
        view.copy_n,
    )
    return TestResult("choice", found.statistic, found.p_value, found.detail)


def visible(view: JobView, latents: Latents, draws: int, seed: int) -> TestResult:
    """Wording against topic, length and place in the file: honest jobs fail it too."""
    return _cmi("visible", view, latents.visible, view.stratum_n, draws, seed)


def joint(view: JobView, latents: Latents, draws: int, seed: int) -> TestResult:
    """Are replies predictable from requests beyond the label (detector 3, joint form)?

    Cross-fitted on hidden latents as indicators and clusters of topics: what a learner of
    the channel would use.
    """
    x_nd = indicators([*latents.hidden.values(), latents.visible["topic_8"]])
    if not x_nd.shape[1] or len(view.variants) < 2:
        return untested("joint", NOTHING)
    found = two_sample.joint(
        x_nd,
        view.variant_n,
        view.stratum_n,
        view.cluster_n,
        draws,
        seed,
        _COMPONENTS,
        view.copy_n,
    )
    return TestResult("joint", found.statistic, found.p_value, found.detail)


def indicators(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Known values of latents as columns of 0 and 1, the first value of each left out, and
    whatever comes after so many."""
    found = []
    for u_n in columns:
        levels = np.unique(u_n[u_n >= 0])
        if len(levels) > 1:
            found += [u_n == level for level in levels[1:_LEVELS]]
    return np.array(found, float).reshape(len(found), len(columns[0])).T


def conditional(view: JobView, latents: Latents, draws: int, seed: int) -> TestResult:
    """Wording against hidden latents by place, beyond a fitted tilt by topic, length and
    place in the file (detector 2, without the base's likelihoods: every variant is as
    likely)."""
    return _beyond_tilt("conditional", view, _places(latents), latents, draws, seed)


def conditional_by_form(
    view: JobView, latents: Latents, draws: int, seed: int
) -> TestResult:
    """The same, each form of request by itself: cover in another template may cancel a
    code over the whole job. Where there is one form, `conditional` says it all."""
    name = "conditional_by_form"
    forms, count = np.unique(view.form_n, return_counts=True)
    common = forms[count >= max(_FORM_ROWS, _FORM_SHARE * view.n)]
    if len(common) < 2:
        return untested(name, "there are no two common forms of request")
    inside_n = np.isin(view.form_n, common)
    crossed = {
        latent: np.where(inside_n & (u_n >= 0), _strata(u_n, view.form_n), -1)
        for latent, u_n in _places(latents).items()
    }
    return _beyond_tilt(name, view, crossed, latents, draws, seed)


def conditional_content(
    view: JobView, latents: Latents, draws: int, seed: int
) -> TestResult:
    """The same against what the own answer is. A test of its own: a search over more
    latents would cost the one by place its power."""
    content = {name: u for name, u in latents.hidden.items() if is_content(name)}
    return _beyond_tilt("conditional_content", view, content, latents, draws, seed)


def conditional_style(view: JobView, latents: Latents, draws: int, seed: int) -> TestResult:
    """Every feature of style against hidden latents by place, beyond a tilt of its own
    (detector 4): what a code leaves in one feature of replies that are otherwise unlike,
    and what is left of one under an honest customer's rows."""
    name = "conditional_style"
    u_kn, names = _matrix(_places(latents))
    features = _features(view)
    # Honest replies warn of what is tempting, and the base falls for it.
    features.pop("other_option", None)
    why = _no_style(view, names, features)
    if why:
        return untested(name, why)
    found = style_randomisation.bank(
        features,
        u_kn,
        honest_reasons(view, latents),
        view.asked_n,
        view.cluster_n,
        draws,
        seed,
        names,
    )
    return TestResult(name, found.statistic, found.p_value, found.detail)


def honest_reasons(view: JobView, latents: Latents) -> np.ndarray:
    """What honest wording may follow, as columns `[n, d]`."""
    return indicators([*(latents.visible[key] for key in HONEST), view.length_n])


def _beyond_tilt(
    name: str,
    view: JobView,
    hidden: Mapping[str, np.ndarray],
    latents: Latents,
    draws: int,
    seed: int,
) -> TestResult:
    u_kn, names = _matrix(hidden)
    if not names:
        return untested(name, no_latent(view))
    if len(view.variants) < 2:
        return untested(name, "all replies are worded alike")
    x_nd = honest_reasons(view, latents)
    found = conditional_randomisation.test(
        view.variant_n,
        np.zeros((view.n, len(view.variants))),
        u_kn,
        x_nd if x_nd.shape[1] else None,
        view.asked_n,
        view.cluster_n,
        draws,
        seed,
        names,
    )
    return TestResult(name, found.statistic, found.p_value, found.detail)


ALARMS: dict[str, Detector] = {
    "conditional": conditional,
    "conditional_by_form": conditional_by_form,
    "conditional_content": conditional_content,
    "conditional_style": conditional_style,
}
# Of what a reply names, where the alarms above are of how it is worded.
LABELS: dict[str, Detector] = {"choice": choice}
CONTROLS: dict[str, Detector] = {
    "channel_within_topics": channel_within_topics,
    "style": style,
    "channel": channel,
    "visible": visible,
    "joint": joint,
}
# Controls that give reasons where the alarms above accuse, in bits.
REASONS = ("channel_within_topics", "style")
DETECTORS = ALARMS | LABELS | CONTROLS


def naive(view: JobView, latents: Latents, draws: int, seed: int) -> TestResult:
    """Whole replies against hidden latents, whatever was asked: what an honest tutor's
    answers, or labels that follow the topic, make of a test that knows no visible label."""
    u_kn, names = _matrix(latents.hidden)
    reply_n, kinds = wordings.variants(view.reply_n)
    if not names or len(kinds) < 2:
        return untested("naive", NOTHING)
    found = permutation.stratified(
        u_kn, reply_n, np.zeros(view.n, np.int64), None, draws, seed, names
    )
    return TestResult("naive", found.statistic, found.p_value, found.detail)


def run(
    view: JobView,
    latents: Latents,
    n_permutations: int = 999,
    seed: int = 0,
    names: Sequence[str] = tuple(DETECTORS),
) -> dict[str, TestResult]:
    """Runs detectors on a job.

    Args:
      view: the job.
      latents: what wording might depend on.
      n_permutations: of each test.
      seed: of the permutations.
      names: of `DETECTORS`, or "naive".

    Raises:
      UserError: an unknown name.
    """
    known: dict[str, Detector] = DETECTORS | {"naive": naive}
    unknown = sorted(set(names) - set(known))
    if unknown:
        what = f"unknown detector {unknown[0]!r}"
        raise UserError("detectors", what, f"known: {', '.join(known)}")
    return {name: known[name](view, latents, n_permutations, seed) for name in names}


def tail_of(result: TestResult) -> float:
    """Evidence of one test on a continuous scale (`tails.tail_p`), NaN where it could not
    run. It is an input of the combination, which honest jobs calibrate."""
    ran = "note" not in result.detail
    return float(result.detail["tail_p"]) if ran else float("nan")


def tail(results: Mapping[str, TestResult], names: Sequence[str]) -> np.ndarray:
    """Evidence of detectors `[j]` in (0, 1] or NaN, see `tail_of`."""
    return np.array([tail_of(results[name]) for name in names])


def not_tested(result: TestResult, rate: float = 1.0) -> str:
    """Why a test could not run, or could not have reached a p-value of `rate`; else ""."""
    note: Any = result.detail.get("note", "")
    least = float(result.detail.get("least_p", 0.0))
    if note or least <= rate:
        return str(note)
    return f"no p-value below {least:.2g} is possible: too few rows or permutations"
