"""Two-sample tests, marginal and joint, with permutation p-values.

- `joint`: are requests paired with their replies as they would be with one another's?
  (q_i, p_i) against (q_i, p_pi(i)), pi within strata. This is the covert channel's test.
- `classifier`, `mmd`: is one set of vectors distributed as another, such as a job's
  replies and the base model's to the same prompts? An honest fine-tune differs too: no
  alarm may rest on these, and no task runs them.

The classifier is a ridge regression of one-hot labels, cross-fitted over folds (a
classifier two-sample test, Lopez-Paz and Oquab 2017, scored by the squared error it saves
over guessing the stratum's frequencies). Given the features, its held-out score is a
function of the sums of features by fold and class alone, so it is fitted anew in every
shuffle at little cost, and p is exact as for any other statistic. Three penalties are
searched inside the shuffles.

Legend: n rows (m of the second set), d features, v classes, f folds, b shuffles, r
penalties.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csc_matrix

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
    matrix,
    monte_carlo_p,
)
from cifr_jax.monitors.dataset.shuffles import Shuffles, codes_of_rows

_FOLDS = 5
_CLASSES = 32  # the most common; the others are one more class that is not predicted
_PENALTIES = (0.03, 0.3, 3.0)  # times the number of rows; features have variance one


def _within(x_nd: Floats, strata_n: Ints) -> Floats:
    """Features less their mean in the stratum."""
    size_z = np.bincount(strata_n)
    sums_zd = np.zeros((size_z.size, x_nd.shape[1]))
    np.add.at(sums_zd, strata_n, x_nd)
    return x_nd - (sums_zd / np.maximum(size_z, 1)[:, None])[strata_n]


def standardised(x_nd: Floats, strata_n: Ints, n_components: int) -> Floats:
    """Centred within strata, of variance one, at most `n_components` principal ones.

    They depend on x alone, so every shuffle has the same.
    """
    x = _within(x_nd, strata_n)
    scale_d = x.std(axis=0)
    seen = scale_d > 1e-9 * np.maximum(1e-300, np.abs(x_nd).max(axis=0, initial=0.0))
    x = x[:, seen] / scale_d[seen]
    if x.shape[1] > n_components:
        x = x @ np.linalg.svd(x, full_matrices=False)[2][:n_components].T
        x /= x.std(axis=0).max(initial=1e-300)
    return x


class _CrossFit:
    """Held-out gain of ridge regressions, for many rearrangements of the labels."""

    def __init__(self, x_nd: Floats, y_n: Ints, strata_n: Ints, fold_n: Ints):
        self._x, self._fold = x_nd, fold_n
        common = np.argsort(-np.bincount(y_n), kind="stable")[:_CLASSES]
        place = np.full(int(y_n.max()) + 1, len(common))
        place[common] = np.arange(len(common))
        self._y, self._v = place[y_n], len(common) + 1
        d = x_nd.shape[1]
        onehot_nv = np.eye(self._v)[self._y]
        mean_nv = onehot_nv - _within(onehot_nv, strata_n)
        own = np.arange(_FOLDS)[:, None] == fold_n
        self._mean_fvd = np.stack([mean_nv[o].T @ x_nd[o] for o in own])
        # Residuals of the classes that are predicted; no shuffle changes their size.
        self.total = float(((onehot_nv - mean_nv)[:, :-1] ** 2).sum())
        self._gram_fdd = np.stack([x_nd[o].T @ x_nd[o] for o in own])
        rest_fdd = self._gram_fdd.sum(axis=0) - self._gram_fdd
        self._inverse_rfdd = np.stack(
            [np.linalg.inv(rest_fdd + p * len(x_nd) * np.eye(d)) for p in _PENALTIES]
        )
        self.cells = max(len(x_nd), 4 * _FOLDS * self._v * d)

    def gain(self, source_bn: Ints) -> Floats:
        """Share of the squared error saved on held-out rows [r, b]; below 0 if none is."""
        b, n = source_bn.shape
        slot_nb = (np.arange(b) * _FOLDS + self._fold[:, None]) * self._v
        slot_nb += self._y[source_bn].T
        onehot = csc_matrix(
            (np.ones(n * b), slot_nb.ravel(), np.arange(0, n * b + 1, b)),
            shape=(b * _FOLDS * self._v, n),
        )
        sums = np.asarray(onehot @ self._x).reshape(b, _FOLDS, self._v, -1) - self._mean_fvd
        own_fbvd = sums.transpose(1, 0, 2, 3)[:, :, :-1]
        rest_fxd = (own_fbvd.sum(axis=0) - own_fbvd).reshape(_FOLDS, -1, self._x.shape[1])
        own_fxd = own_fbvd.reshape(rest_fxd.shape)
        saved = []
        for inverse_fdd in self._inverse_rfdd:
            fit_fxd = rest_fxd @ inverse_fdd
            saved_fx = (fit_fxd * (2 * own_fxd - fit_fxd @ self._gram_fdd)).sum(axis=2)
            saved.append(saved_fx.reshape(_FOLDS, b, -1).sum(axis=(0, 2)))
        return np.stack(saved) / self.total


def _cross_fitted(
    name: str,
    x_nd: Floats,
    y_n: Ints,
    shuffles: Shuffles,
    strata_n: Ints,
    unit_n: Ints,
    n_permutations: int,
    seed: int,
    n_components: int,
) -> TestResult:
    where = f"two_sample.{name}"
    n_draws = count(where, "n_permutations", n_permutations)
    count(where, "n_components", n_components)
    if not shuffles.movable_n.any() or np.unique(y_n).size < 2:
        return TestResult(name, 0.0, 1.0, {"note": NOTHING})
    features = standardised(x_nd, strata_n, n_components)
    if not features.size:
        return TestResult(name, 0.0, 1.0, {"note": NOTHING})
    # One more than the seed's own stream: folds and shuffles are separate draws.
    order = np.random.default_rng([seed, 1]).permutation(int(unit_n.max()) + 1)
    fit = _CrossFit(features, y_n, strata_n, order[unit_n] % _FOLDS)
    if fit.total <= 1e-9:  # labels are the same all through every stratum
        return TestResult(name, 0.0, 1.0, {"note": NOTHING})
    observed_r = fit.gain(np.arange(y_n.size)[None])[:, 0]
    draws_rb = np.concatenate(
        [fit.gain(source) for source in shuffles.chunks(n_draws, seed, fit.cells)], axis=1
    )
    found = search(observed_r, draws_rb)
    best = int(np.argmax(found.z_k))
    detail: dict[str, Any] = {
        **found.told,
        "n_permutations": n_draws,
        "gain": float(observed_r.max()),
        "movable": float(shuffles.movable_n.mean()),
    }
    if np.isneginf(found.z_k[best]):
        return TestResult(name, 0.0, 1.0, {**detail, "note": NOTHING})
    return TestResult(name, float(found.z_k[best]), found.p, detail)


def joint(
    x_nd: ArrayLike,
    v_n: ArrayLike,
    strata_n: ArrayLike,
    cluster_n: ArrayLike | None = None,
    n_permutations: int = 999,
    seed: int = 0,
    n_components: int = 64,
    copy_n: ArrayLike | None = None,
) -> TestResult:
    """Tests that features of the requests do not predict variants beyond the strata.

    Args:
      x_nd: features of the requests. v_n: variants. strata_n, cluster_n: as in
        `permutation.stratified`. Folds keep clusters whole.
      n_components: principal components of x that are used, if it has more features.
      copy_n: which rows of an item are one text; None: those with equal features.

    Returns:
      statistic: standardised gain. detail["gain"]: share of squared error saved held out,
      with the best penalty.

    Raises:
      UserError: arguments of unlike length or kind, or no permutations.
    """
    where = "two_sample.joint"
    x = matrix(where, "x_nd", x_nd)
    n = len(x)
    v = codes(integers(where, "v_n", v_n, n))
    strata = codes(integers(where, "strata_n", strata_n, n))
    cluster = codes(
        np.arange(n) if cluster_n is None else integers(where, "cluster_n", cluster_n, n)
    )
    shuffles = Shuffles(strata, cluster, codes_of_rows(x) if copy_n is None else copy_n)
    return _cross_fitted(
        "joint", x, v, shuffles, strata, cluster, n_permutations, seed, n_components
    )


def classifier(
    x_nd: ArrayLike,
    y_n: ArrayLike,
    group_n: ArrayLike | None = None,
    n_permutations: int = 999,
    seed: int = 0,
    n_components: int = 64,
) -> TestResult:
    """Tests that rows of different y have one distribution of features in every group.

    Args:
      x_nd: features. y_n: which sample a row is of (two or more).
      group_n: such as the prompt that a row replies to; labels swap within groups, and
        folds keep groups whole if there are enough of them.

    Returns:
      As `joint`.

    Raises:
      UserError: arguments of unlike length or kind, or no permutations.
    """
    where = "two_sample.classifier"
    x = matrix(where, "x_nd", x_nd)
    n = len(x)
    y = codes(integers(where, "y_n", y_n, n))
    group = np.zeros(n, int) if group_n is None else group_n
    strata = codes(integers(where, "group_n", group, n))
    unit = strata if strata.max(initial=0) >= 4 * _FOLDS else np.arange(n)
    return _cross_fitted(
        "classifier",
        x,
        y,
        Shuffles(strata),
        strata,
        unit,
        n_permutations,
        seed,
        n_components,
    )


def _gaussian_kernel(x_nd: Floats) -> Floats:
    """Of the median distance between different points; its diagonal is zero."""
    square_n = (x_nd**2).sum(axis=1)
    distance_nn = np.maximum(square_n[:, None] + square_n - 2 * x_nd @ x_nd.T, 0.0)
    # Rounding leaves equal points a little apart.
    distance_nn[distance_nn < 1e-12 * max(1.0, float(square_n.max()))] = 0.0
    apart = distance_nn[np.triu_indices(len(x_nd), 1)]
    apart = apart[apart > 0]
    if not apart.size:
        return np.zeros_like(distance_nn)
    kernel_nn = np.exp(-distance_nn / np.median(apart))
    np.fill_diagonal(kernel_nn, 0.0)
    return kernel_nn


def mmd(
    x_nd: ArrayLike,
    y_md: ArrayLike,
    group_x_n: ArrayLike | None = None,
    group_y_m: ArrayLike | None = None,
    n_permutations: int = 999,
    seed: int = 0,
    max_rows: int = 1000,
) -> TestResult:
    """Unbiased squared MMD with a Gaussian kernel of the median distance (Gretton et al.
    2012), with a permutation p-value.

    Args:
      x_nd, y_md: the samples. group_x_n, group_y_m: rows swap within groups, such as
        replies to one prompt; None: all rows are one group.
      max_rows: of each sample; of more, a random subset is tested.

    Returns:
      statistic: the squared MMD, negative at times by nature.

    Raises:
      UserError: unlike widths or lengths, fewer than two rows, or one group missing.
    """
    where = "two_sample.mmd"
    x, y = matrix(where, "x_nd", x_nd), matrix(where, "y_md", y_md)
    n_draws = count(where, "n_permutations", n_permutations)
    if x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise UserError(
            where, f"samples {x.shape} and {y.shape}", "give 2 rows of one width"
        )
    if (group_x_n is None) != (group_y_m is None):
        raise UserError(where, "one sample lacks groups", "give both or none")
    group_x = np.zeros(len(x), int) if group_x_n is None else group_x_n
    group_y = np.zeros(len(y), int) if group_y_m is None else group_y_m
    rng = np.random.default_rng([seed, 1])
    parts = []
    for name, z, g in (("group_x_n", x, group_x), ("group_y_m", y, group_y)):
        kept = np.sort(rng.permutation(len(z))[: max(2, max_rows)])
        parts.append((z[kept], integers(where, name, g, len(z))[kept]))
    (x, group_x), (y, group_y) = parts
    n, m = len(x), len(y)
    kernel = _gaussian_kernel(np.concatenate([x, y]))
    shuffles = Shuffles(np.concatenate([group_x, group_y]))
    first_n = np.repeat([1.0, 0.0], [n, m])
    row_n, total = kernel.sum(axis=1), kernel.sum()

    def statistic(source_bn: Ints) -> Floats:
        w_bn = first_n[source_bn]
        xx_b = ((w_bn @ kernel) * w_bn).sum(axis=1)
        x_b = w_bn @ row_n
        yy_b = total - 2 * x_b + xx_b
        return xx_b / (n * (n - 1)) + yy_b / (m * (m - 1)) - 2 * (x_b - xx_b) / (n * m)

    observed = float(statistic(np.arange(n + m)[None])[0])
    if not total or not shuffles.movable_n.any():
        return TestResult("mmd", observed, 1.0, {"note": NOTHING})
    draws = np.concatenate([statistic(s) for s in shuffles.chunks(n_draws, seed)])
    return TestResult(
        "mmd",
        observed,
        monte_carlo_p(observed, draws),
        {"rows": [n, m], "n_permutations": n_draws},
    )
