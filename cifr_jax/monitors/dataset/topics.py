"""Clusters of rows by topic, without a model: hashed words, TF-IDF, k-means.

Legend: n rows, d dimensions, k clusters, m rows that the centres are fitted on.
"""

import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from cifr_jax.errors import UserError
from cifr_jax.monitors.dataset.plain_text import normalise, words

_DIMENSIONS = 512
_MAX_WORDS = 400  # of a text
_FITTED_ROWS, _ITERATIONS = 4_000, 25


def k_means(x_nd: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
    """Cluster numbers `[n]`: Lloyd's algorithm from k-means++ starts (Arthur 2007).

    Centres are fitted on at most 4,000 rows drawn by the seed. Fewer different rows than
    k give fewer clusters.

    Raises:
      UserError: values that are not finite, or not a matrix.
    """
    x_nd = np.asarray(x_nd, np.float32)
    if x_nd.ndim != 2 or not np.all(np.isfinite(x_nd)):
        raise UserError("activations", "not a matrix of finite numbers", "give [n, d]")
    n = len(x_nd)
    rng = np.random.default_rng(seed)
    x_md = x_nd if n <= _FITTED_ROWS else x_nd[rng.choice(n, _FITTED_ROWS, replace=False)]
    centres = [x_md[int(rng.integers(len(x_md)))]]
    gap_m = ((x_md - centres[0]) ** 2).sum(1)
    while len(centres) < k and gap_m.sum() > 0:
        share_m = gap_m.astype(np.float64)
        centres.append(x_md[int(rng.choice(len(x_md), p=share_m / share_m.sum()))])
        gap_m = np.minimum(gap_m, ((x_md - centres[-1]) ** 2).sum(1))
    centre_kd = np.stack(centres)
    for _ in range(_ITERATIONS):
        nearest_m = _nearest(x_md, centre_kd)
        # A cluster that lost all its rows keeps its centre.
        moved_kd = np.stack(
            [
                x_md[nearest_m == j].mean(0) if np.any(nearest_m == j) else centre_d
                for j, centre_d in enumerate(centre_kd)
            ]
        )
        if np.array_equal(moved_kd, centre_kd):
            break
        centre_kd = moved_kd
    return _nearest(x_nd, centre_kd)


def _nearest(x_nd: np.ndarray, centre_kd: np.ndarray) -> np.ndarray:
    return ((centre_kd**2).sum(1) - 2 * x_nd @ centre_kd.T).argmin(1).astype(np.int64)


def vectors(texts: Sequence[str]) -> np.ndarray:
    """Hashed TF-IDF of n texts, float32 `[n, d]`, rows of unit length or zero."""
    bags = [Counter(words(normalise(text))[:_MAX_WORDS]) for text in texts]
    in_rows = Counter(word for bag in bags for word in bag)
    place = {
        word: zlib.crc32(word.encode("utf-8", "surrogatepass")) % _DIMENSIONS
        for word in in_rows
    }
    x_nd = np.zeros((len(texts), _DIMENSIONS), np.float32)
    for row_d, bag in zip(x_nd, bags, strict=True):
        for word, count in bag.items():
            row_d[place[word]] += (1 + np.log(count)) * np.log(
                (1 + len(texts)) / (1 + in_rows[word])
            )
    norm_n = np.linalg.norm(x_nd, axis=1, keepdims=True)
    return x_nd / np.where(norm_n > 0, norm_n, 1)
