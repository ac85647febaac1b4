"""Can a target be read off one model better than off another? Cross-fitted, with a p-value.

The decoder is a ridge regression of one-hot targets, cross-fitted over items. Given the
features its predictions are linear in the targets, so that every permutation of the targets
over the items is decoded afresh, and p is exact where targets and features are independent.
Features may be taken at several sites, such as layers: the search over sites and targets
lies inside the permutation.

Legend: m items, d features, k targets, b permutations, c values of a target.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cifr_jax.errors import UserError
from cifr_jax.monitors.dataset.permutation import search
from cifr_jax.monitors.dataset.result import (
    NOTHING,
    Floats,
    Ints,
    TestResult,
    codes,
    count,
    integers,
)
from cifr_jax.monitors.dataset.shuffles import chunks

_FOLDS = 8
_LEAST = 16  # items


def _smoother(x_md: Floats, fold_m: Ints, penalty: float) -> Floats:
    """Matrix [m, m] from the targets, centred, to their cross-fitted predictions."""
    m = len(x_md)
    found = np.zeros((m, m))
    for fold in np.unique(fold_m):
        own, rest = fold_m == fold, fold_m != fold
        x = x_md[rest] - x_md[rest].mean(axis=0)
        # The dual form: there may be more features than items.
        gram = x @ x.T + penalty * m * np.eye(len(x))
        fit = (x_md[own] - x_md[rest].mean(axis=0)) @ x.T @ np.linalg.inv(gram)
        # On top of the mean of the other folds.
        found[np.ix_(own, rest)] = fit - fit.mean(axis=1, keepdims=True) + 1 / rest.sum()
    return found


def _skill(smoother_mm: Floats, means_mm: Floats, y_bmc: Floats) -> tuple[Floats, Floats]:
    """Share of the squared error saved over guessing the other folds' frequencies, and
    share of items decoded right, [b] each."""
    guess_bmc, mean_bmc = smoother_mm @ y_bmc, means_mm @ y_bmc
    error = ((y_bmc - guess_bmc) ** 2).sum(axis=(1, 2))
    worst = ((y_bmc - mean_bmc) ** 2).sum(axis=(1, 2))
    right = guess_bmc.argmax(axis=2) == y_bmc.argmax(axis=2)
    return 1 - error / np.maximum(worst, 1e-9), right.mean(axis=1)


def known_items(
    where: str, targets_km: ArrayLike, names: Sequence[str], m: int
) -> tuple[Ints, np.ndarray, str]:
    """Targets [k, m] of the items whose targets are all known, which items these are [m],
    and why they are too few, or "".

    Args:
      targets_km: -1 where unknown. names: of the targets. m: items.

    Raises:
      UserError: targets that are not m whole numbers, or not one for each name.
    """
    rows = [integers(where, "targets_km", row, m) for row in np.asarray(targets_km)]
    if len(rows) != len(names):
        what = f"{len(rows)} targets, {len(names)} names"
        raise UserError(where, what, "give as many of each")
    target_km = np.stack(rows) if rows else np.zeros((0, m), np.int64)
    known_m = np.asarray((target_km >= 0).all(axis=0))
    n = int(known_m.sum())
    note = f"{n} items, and {_LEAST} are needed" if n < _LEAST else ""
    return target_km[:, known_m], known_m, note


def compare(
    name: str,
    tuned: Sequence[Floats],
    base: Sequence[Floats],
    sites: Sequence[str],
    target_km: Ints,
    names: Sequence[str],
    penalty: float,
    n_draws: int = 999,
    seed: int = 0,
) -> TestResult:
    """Tests that features of the tuned model tell no more of any target than the base's.

    Args:
      name: of the test.
      tuned, base: features [m, d] of either model, one matrix for each site.
      sites: their names; "" for one that needs none.
      target_km: what is decoded, known for all items.
      names: of the targets.
      penalty: of the ridge, times the number of items.
      n_draws: permutations of the targets over the items.
      seed: of folds and permutations.

    Returns:
      statistic: the largest standardised difference of skills (shares of squared error
      saved). detail: "best", "items", "targets" by name, with the site in brackets,
      {p_value, adjusted_p, accuracy, base_accuracy, chance, skill, base_skill}.

    Raises:
      UserError: no draws.
    """
    n_draws = count(name, "n_draws", n_draws)
    m = target_km.shape[1]
    fold_m = np.random.default_rng([seed, 6]).permutation(m) % _FOLDS
    smoothers = [
        tuple(_smoother(x_md, fold_m, penalty) for x_md in pair)
        for pair in zip(tuned, base, strict=True)
    ]
    other_mm = fold_m[:, None] != fold_m
    means_mm = other_mm / other_mm.sum(axis=1, keepdims=True)
    onehots = [np.eye(int(u.max()) + 1)[u] for u in map(codes, target_km)]
    cases = [(s, t) for s in range(len(sites)) for t in range(len(names))]
    labels = [f"{names[t]} ({sites[s]})" if sites[s] else names[t] for s, t in cases]

    def differences(source_bm: Ints) -> Floats:
        found = []
        for s, t in cases:
            y_bmc = onehots[t][source_bm]
            tuned_b, base_b = (_skill(one, means_mm, y_bmc)[0] for one in smoothers[s])
            found.append(tuned_b - base_b)
        return np.stack(found)

    observed = differences(np.arange(m)[None])[:, 0]
    shuffle = np.random.default_rng([seed, 7])
    draws_kb = np.concatenate(
        [
            differences(shuffle.permuted(np.tile(np.arange(m), (b, 1)), axis=1))
            for b in chunks(n_draws, m * max(y.shape[1] for y in onehots))
        ],
        axis=1,
    )
    found = search(observed, draws_kb)
    told: dict[str, dict[str, float]] = {}
    for i, (s, t) in enumerate(cases):
        y_mc = onehots[t]
        (skill, right), (base_skill, base_right) = (
            _skill(one, means_mm, y_mc[None]) for one in smoothers[s]
        )
        told[labels[i]] = {
            "p_value": found.marginal_k[i],
            "adjusted_p": found.adjusted_k[i],
            "accuracy": float(right[0]),
            "base_accuracy": float(base_right[0]),
            "chance": float(y_mc.mean(axis=0).max()),
            "skill": float(skill[0]),
            "base_skill": float(base_skill[0]),
        }
    detail: dict[str, Any] = {**found.told, "items": m, "n_draws": n_draws}
    detail["targets"] = told
    best = int(np.argmax(found.z_k))
    if np.isneginf(found.z_k[best]):
        return TestResult(name, 0.0, 1.0, {**detail, "note": NOTHING})
    top = float(found.z_k[best])
    return TestResult(name, top, found.p, {**detail, "best": labels[best]})
