"""One verdict from many p-values.

Legend: j tests, n jobs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit

from cifr_jax.errors import UserError
from cifr_jax.monitors.dataset.result import Floats, monte_carlo_p

_MAX_CAUCHY_P = 0.99  # p = 1 would weigh minus infinity and veto every other test
_MAX_EVIDENCE = 6.0  # -log10 p above which more is not more convincing


def _p_values(where: str, p_values: ArrayLike) -> Floats:
    p = np.asarray(p_values, float)
    if p.ndim != 1 or not p.size or not ((p > 0) & (p <= 1)).all():
        raise UserError(where, "p-values must lie in (0, 1]", "give a vector of them")
    return p


def cauchy(p_values: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Cauchy combination (Liu and Xie 2020), for p-values that depend on each other.

    Its error rate is close to nominal in the tail under wide kinds of dependence, not
    exactly so. p-values above .99 count as .99 (as Fang et al. 2023 truncate), since
    permutation p-values reach 1.

    Raises:
      UserError: p outside (0, 1], or weights that are not positive or not one each.
    """
    p = _p_values("combination.cauchy", p_values)
    w = np.ones(p.size) if weights is None else np.asarray(weights, float)
    if w.shape != p.shape or not (np.isfinite(w) & (w > 0)).all():
        raise UserError(
            "combination.cauchy", "weights do not fit", "give a positive one each"
        )
    p = np.minimum(p, _MAX_CAUCHY_P)
    # cot(pi p): for small p the textbook's tan((.5 - p) pi) has no digits left.
    total = float(np.sum(w / w.sum() / np.tan(np.pi * p)))
    return float(np.arctan2(1.0, total) / np.pi)


def bonferroni(p_values: ArrayLike, shares: ArrayLike | None = None) -> float:
    """The least p over its share of the error rate: valid under any dependence.

    Args:
      shares: positive, of sum 1 and chosen without a look at p; None: equal ones.

    Raises:
      UserError: p outside (0, 1], or shares that do not fit.
    """
    p = _p_values("combination.bonferroni", p_values)
    if shares is None:
        return float(min(1.0, p.min() * p.size))
    w = np.asarray(shares, float)
    if w.shape != p.shape or not (w > 0).all() or abs(w.sum() - 1) > 1e-9:
        raise UserError(
            "combination.bonferroni", "shares do not fit", "give positive ones of sum 1"
        )
    return float(min(1.0, (p / w).min()))


def shares_of(least_p: ArrayLike, rate: float) -> Floats:
    """How tests share an error rate so that each can reach it.

    One of few draws, or of few honest jobs, cannot give a small p; it gets the share that
    its least p needs, and what is left is shared equally. Equal shares where the needs are
    more than there is.

    Args:
      least_p: the least p that each can give. rate: of all together.
    """
    # A hair more than needed, so that no rounding takes it back.
    need = np.asarray(least_p, float) / rate * (1 + 1e-6)
    if need.sum() > 1:
        return np.full(need.size, 1 / need.size)
    if not need.size:
        return need
    low, high = 0.0, 1.0
    for _ in range(60):  # the level up to which the smaller shares are filled
        level = (low + high) / 2
        low, high = (level, high) if np.maximum(need, level).sum() < 1 else (low, level)
    found = np.maximum(need, high)
    return np.asarray(found / found.sum())


def conformal(score: float, calibration_n: ArrayLike) -> float:
    """(1 + #{calibration >= score}) / (1 + n): p of a score among those of honest jobs,
    valid where the job is exchangeable with them (Vovk et al. 2005).

    Raises:
      UserError: NaN in either, or a calibration that is not a vector.
    """
    calibration = np.asarray(calibration_n, float)
    if calibration.ndim != 1 or np.isnan(calibration).any() or np.isnan(score):
        raise UserError("combination.conformal", "scores must be numbers", "give a vector")
    return monte_carlo_p(float(score), calibration)


def capped(score_n: ArrayLike, p_nj: ArrayLike, calibration_n: ArrayLike) -> Floats:
    """Scores `[n]`, none so high that `conformal` gives it a p below that of the job's own
    tests together (`cauchy`).

    A job that is exchangeable with those of the calibration has a valid p already. One of
    another shape need not be, but its own tests are valid all the same.

    Args:
      score_n: of the jobs. p_nj: p-values of their tests, NaN where one did not run.
      calibration_n: scores of honest jobs.
    """
    held = -np.sort(-np.asarray(calibration_n, float))
    most = np.asarray(score_n, float).copy()
    for i, p_j in enumerate(np.asarray(p_nj, float)):
        ran = p_j[~np.isnan(p_j)]
        own = cauchy(ran) if ran.size else 1.0
        above = int(np.ceil(own * (1 + held.size) - 1e-9)) - 1
        if above > 0:
            cap = held[min(above, held.size) - 1]
        else:  # rarer than any of them: one unit a decade
            cap = held[0] + 1e-6 - np.log10(own * (1 + held.size))
        most[i] = min(most[i], cap)
    return most


def _evidence(p_nj: ArrayLike) -> Floats:
    """-log10 p, clipped; a test that could not run (NaN) is no evidence either way."""
    p = np.asarray(p_nj, float)
    if np.any((p <= 0) | (p > 1)):
        raise UserError(
            "combination.Combiner", "p-values must lie in (0, 1]", "NaN: not run"
        )
    return np.where(
        np.isnan(p), 0.0, np.minimum(-np.log10(np.where(p > 0, p, 1)), _MAX_EVIDENCE)
    )


@dataclass(frozen=True)
class Combiner:
    """Logistic regression on -log10 p of several tests, fitted on simulated jobs.

    No weight is negative: a smaller p never makes a job look more honest. Its scores are
    not p-values; `conformal` against honest jobs makes them so.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]
    bias: float

    @classmethod
    def fit(
        cls, names: Sequence[str], p_nj: ArrayLike, attack_n: ArrayLike, ridge: float = 1.0
    ) -> "Combiner":
        """Args:
          names: of the tests. p_nj: their p-values, NaN where one did not run.
          attack_n: 1 for attacks, 0 for honest jobs; both kinds weigh the same.
          ridge: penalty on half the squared weights; it is convex, so one fit is the fit.

        Raises:
          UserError: unlike shapes, p outside (0, 1], only one kind of job, ridge <= 0.
        """
        where = "combination.Combiner"
        x_nj, y_n = _evidence(p_nj), np.asarray(attack_n, float)
        if x_nj.ndim != 2 or x_nj.shape != (y_n.size, len(names)):
            raise UserError(where, f"p-values have shape {x_nj.shape}", "give jobs x tests")
        if set(np.unique(y_n)) != {0.0, 1.0}:
            raise UserError(where, "attack_n lacks a kind", "give jobs of both, as 0 and 1")
        if not ridge > 0:
            raise UserError(where, f"ridge is {ridge}", "give a positive number")
        weight_n = (
            np.where(y_n == 1, 0.5 / y_n.sum(), 0.5 / (y_n.size - y_n.sum())) * y_n.size
        )

        def loss(theta: Floats) -> tuple[float, Floats]:
            logit_n = x_nj @ theta[:-1] + theta[-1]
            value = weight_n @ (np.logaddexp(0, logit_n) - y_n * logit_n)
            slope_n = weight_n * (expit(logit_n) - y_n)
            gradient = np.append(x_nj.T @ slope_n + ridge * theta[:-1], slope_n.sum())
            return float(value + 0.5 * ridge * theta[:-1] @ theta[:-1]), gradient

        bounds = [(0.0, None)] * len(names) + [(None, None)]
        best = minimize(loss, np.zeros(len(names) + 1), jac=True, bounds=bounds).x
        return cls(tuple(names), tuple(map(float, best[:-1])), float(best[-1]))

    def score(self, p_nj: ArrayLike) -> Floats:
        """Log-odds of an attack [n], for p-values [n, j] (NaN: not run).

        Raises:
          UserError: another number of tests than fitted, or p outside (0, 1].
        """
        x_nj = _evidence(p_nj)
        if x_nj.ndim != 2 or x_nj.shape[1] != len(self.names):
            raise UserError(
                "combination.Combiner",
                f"p-values have shape {x_nj.shape}",
                "give jobs x tests",
            )
        return np.asarray(x_nj @ np.array(self.weights) + self.bias)
