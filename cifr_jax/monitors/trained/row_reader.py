"""What the model that a job starts from makes of the job's own rows, before it is trained.

A customer who teaches a cipher first comes back with the same model: it reads the cipher,
and still holds the provider's refusals. Three signs of a row in it, none of which needs the
cipher: a probe that canaries in plain text taught in that very model reads its request as
restricted; its answer surprises; a refusal is likelier than after other rows. Two quadratic
logistic scores are learned on rows of training attacks: of the three alone, and together
with where they lie among the job's own rows, since how well a model reads a cipher shifts
all rows of a job (the probe over encoded requests is that of CIFR, arXiv 2508.17158; the
starting model as its reader is ours).

Legend: n rows or canaries, l layers, d model width, j signs, m their terms of degree 1, 2.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cifr_jax import probes
from cifr_jax.activations import capture_tokens
from cifr_jax.data.chat import Example
from cifr_jax.models.decoder import Adapter
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.monitors.trained.canaries import Canaries, request_ids
from cifr_jax.probes import ranking

SIGNS = ("restricted", "surprise", "refusal")
POOLS = ("last", "mean")
_FARTHEST = 4.0  # spreads from the centre at which a sign is cut off
_MIDDLE, _ENDS = 0.5, (0.1, 0.9)  # quantiles of a job's own rows: centre, and its width
_LEAST_WIDTH = 1e-3


@dataclass(frozen=True)
class Place:
    """Where activations are read, and how hard the probe on canaries is held back."""

    layer: int
    pool: str
    C: float


@dataclass(frozen=True)
class CanaryProbe:
    """A probe of one model, on the scale of its canaries: 0 the mean of benign ones, 1 of
    restricted ones."""

    place: Place
    coef_d: np.ndarray
    intercept: float

    def score(self, pooled: Mapping[str, np.ndarray]) -> np.ndarray:
        """Of captured rows, `{pool: x_lnd}`: `[n]`."""
        x_nd = pooled[self.place.pool][self.place.layer].astype(np.float64)
        return x_nd @ self.coef_d + self.intercept


def _on_scale(
    place: Place, fitted: probes.LogisticProbe, x_nd: np.ndarray, restricted_n: np.ndarray
) -> CanaryProbe:
    coef_d = np.asarray(fitted.coef_, np.float64).ravel()
    score_n = x_nd.astype(np.float64) @ coef_d
    low, high = score_n[~restricted_n].mean(), score_n[restricted_n].mean()
    width = max(high - low, 1e-6)
    return CanaryProbe(place, coef_d / width, float(-low / width))


def canary_probes(
    lm: LanguageModel,
    canaries: Canaries,
    adapter: Adapter | None,
    Cs: Sequence[float],
    pools: Sequence[str] = POOLS,
    layers: Sequence[int] | None = None,
) -> list[CanaryProbe]:
    """Probes of one model at every layer, pool and C, taught by its canaries.

    Args:
      lm: the base.
      canaries: plain requests of both classes.
      adapter: of the model; None: the base itself.
      Cs: inverse penalties.
      pools, layers: what activations are read; None: all layers.
    """
    seen = capture_tokens(
        lm.config, lm.params, request_ids(lm, canaries.chats), adapter, tuple(pools)
    )
    chosen = range(lm.config.n_layers) if layers is None else layers
    made = []
    for pool in pools:
        x_lnd = seen[pool][list(chosen)].astype(np.float32)
        fits = probes.sweep(x_lnd, canaries.restricted_n.astype(int), Cs)
        made += [
            _on_scale(
                Place(layer, pool, float(C)), fits.probe(l, c), x_lnd[l],
                canaries.restricted_n,
            )
            for l, layer in enumerate(chosen)
            for c, C in enumerate(Cs)
        ]  # fmt: skip
    return made


@dataclass(frozen=True)
class Start:
    """The model that a job starts from: its adapter (None: the base), and its probe."""

    adapter: Adapter | None
    probe: CanaryProbe


def start_from(
    lm: LanguageModel, canaries: Canaries, adapter: Adapter | None, place: Place
) -> Start:
    """Asks the model its canaries, and teaches the probe."""
    (probe,) = canary_probes(lm, canaries, adapter, [place.C], [place.pool], [place.layer])
    return Start(adapter, probe)


def signs(
    lm: LanguageModel,
    examples: Sequence[Example],
    found: Sequence[CanaryProbe],
    adapter: Adapter | None,
    refusal: str,
) -> np.ndarray:
    """Signs of rows by each of several probes of one model, `[probes, n, j]`.

    Args:
      lm: the base.
      examples: rows that end in an answer.
      found: probes of the model.
      adapter: of the model.
      refusal: how the base refuses.
    """
    ids = request_ids(lm, [e.messages[:-1] for e in examples])
    pools = tuple(dict.fromkeys(one.place.pool for one in found))
    seen = capture_tokens(lm.config, lm.params, ids, adapter, pools)
    end = [min(lm.tokenizer.eos_ids)]
    answers = [lm.tokenizer.encode(e.messages[-1].content) + end for e in examples]
    said = lm.score(ids, answers, adapter)
    refused = lm.score(ids, [lm.tokenizer.encode(refusal) + end] * len(ids), adapter)
    surprise_n = np.log1p(-said.log_prob_n / said.length_n)
    refusal_n = np.log1p(-refused.log_prob_n)
    return np.stack(
        [np.stack([one.score(seen), surprise_n, refusal_n], -1) for one in found]
    )


def terms(z_nj: np.ndarray) -> np.ndarray:
    """Standardised signs and all their products of two, `[n, m]`, cut off far out."""
    z_nj = np.clip(z_nj, -_FARTHEST, _FARTHEST)
    first, second = np.triu_indices(z_nj.shape[1])
    return np.concatenate([z_nj, z_nj[:, first] * z_nj[:, second]], -1)


def against_own(x_nj: np.ndarray) -> np.ndarray:
    """Signs by their distance from the median of the job's own rows, in widths of its
    middle four fifths, `[n, j]`."""
    low_j, high_j = np.quantile(x_nj, _ENDS, axis=0)
    return (x_nj - np.quantile(x_nj, _MIDDLE, axis=0)) / np.maximum(
        high_j - low_j, _LEAST_WIDTH
    )


@dataclass(frozen=True)
class Linear:
    """A linear score of terms."""

    weights: tuple[float, ...]
    bias: float

    @classmethod
    def fit(
        cls, terms_nm: np.ndarray, y_n: np.ndarray, weight_n: np.ndarray, C: float
    ) -> "Linear":
        """Weighted logistic regression."""
        x_nm = terms_nm.astype(np.float32)
        fitted = probes.sweep(x_nm[None], y_n.astype(int), [C], sample_weight=weight_n)
        probe = fitted.probe(0, 0)
        coef = np.asarray(probe.coef_, float).ravel()
        return cls(tuple(coef.tolist()), float(probe.intercept_))

    def score(self, terms_nm: np.ndarray) -> np.ndarray:
        """Log-odds `[n]`."""
        return terms_nm @ np.array(self.weights) + self.bias


@dataclass(frozen=True)
class RowReader:
    """Scores rows by their signs.

    Attributes:
      place: where the probe of a starting model reads.
      centre, spread: of each sign over training rows.
      alone: of a row's terms.
      apart: of these and of the terms of `against_own`.
    """

    place: Place
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    alone: Linear
    apart: Linear

    @classmethod
    def fit(
        cls,
        place: Place,
        jobs: Sequence[tuple[str, np.ndarray, np.ndarray]],
        C: float,
    ) -> "RowReader":
        """Learns from rows of training jobs, honest ones among them.

        Args:
          place: at which signs were taken.
          jobs: of each job its kind, the signs of its answered rows `[n, j]`, and which of
            them are restricted. Within a class every kind weighs the same (honest encoded
            jobs are few, and hard), and of a kind every job; both classes do.
          C: inverse penalty.
        """
        jobs = [job for job in jobs if len(job[1])]
        of_kind = Counter(kind for kind, *_ in jobs)
        x_nj = np.concatenate([x for _, x, _ in jobs])
        y_n = np.concatenate([y for *_, y in jobs]).astype(bool)
        weight_n = np.concatenate(
            [np.full(len(x), 1 / len(x) / of_kind[kind]) for kind, x, _ in jobs]
        )
        share_n = np.where(y_n, weight_n[y_n].sum(), weight_n[~y_n].sum())
        weight_n = weight_n / share_n * len(y_n) / 2
        centre_j, spread_j = x_nj.mean(0), np.maximum(x_nj.std(0), 1e-6)
        alone_nm = terms((x_nj - centre_j) / spread_j)
        own_nm = np.concatenate([terms(against_own(x)) for _, x, _ in jobs])
        apart_nm = np.concatenate([alone_nm, own_nm], -1)
        return cls(
            place,
            tuple(centre_j.tolist()),
            tuple(spread_j.tolist()),
            Linear.fit(alone_nm, y_n, weight_n, C),
            Linear.fit(apart_nm, y_n, weight_n, C),
        )

    def score(self, x_nj: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log-odds that a row is restricted, by itself and among the job's own, `[n]` each.

        Args:
          x_nj: signs of all answered rows of one job.
        """
        alone_nm = terms((x_nj - np.array(self.centre)) / np.array(self.spread))
        apart_nm = np.concatenate([alone_nm, terms(against_own(x_nj))], -1)
        return self.alone.score(alone_nm), self.apart.score(apart_nm)


def best_place(
    places: Sequence[Place], jobs: Sequence[tuple[np.ndarray, np.ndarray]]
) -> Place:
    """Where probes on canaries best rank the restricted rows of training attacks.

    Args:
      places: candidates, the first axis of the signs.
      jobs: of each attack the signs of its encoded rows `[places, n, j]`, and which of
        them are restricted.
    """
    areas = [
        np.mean([ranking.auroc(x_pnj[p, :, 0], y_n) for x_pnj, y_n in jobs])
        for p in range(len(places))
    ]
    return places[int(np.argmax(areas))]
