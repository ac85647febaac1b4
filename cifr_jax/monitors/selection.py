"""Choice of layer, pool and C on validation items, for monitors on activations.

Legend: l layers, n rows, d model width, c values of C, v validation rows.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from cifr_jax.monitors.base import Monitor, PromptItem
from cifr_jax.probes import Probe
from cifr_jax.probes.ranking import auroc


def stack_activations(items: Sequence[PromptItem], pool: str) -> np.ndarray:
    """`x_lnd` of one pool; ValueError for items without it or of unequal shapes."""
    if not items:
        raise ValueError("no items")
    rows: list[np.ndarray] = []
    for i, item in enumerate(items):
        if item.activations is None or pool not in item.activations:
            have = sorted(item.activations) if item.activations else "none"
            raise ValueError(f"item {i} has no activations of pool {pool!r} (has {have})")
        x_ld = np.asarray(item.activations[pool])
        if x_ld.ndim != 2 or (rows and x_ld.shape != rows[0].shape):
            expected = rows[0].shape if rows else "[layers, width]"
            raise ValueError(
                f"item {i}: activations of pool {pool!r} have shape {x_ld.shape}, "
                f"expected {expected}"
            )
        rows.append(x_ld)
    return np.stack(rows, axis=1)


def _log_loss(scores_v: np.ndarray, labels_v: np.ndarray) -> float:
    return float(np.mean(np.logaddexp(0, scores_v) - labels_v * scores_v))


def _folds(jobs_n: Sequence[str], jobs_v: Sequence[str]) -> tuple[np.ndarray, list]:
    """Training rows of each fold, and which validation rows judge it.

    The first fold holds everything: its probe is the one that is kept. With several jobs,
    every further fold leaves one job out and is judged on that job, so that settings are
    chosen for what the probe has to do: read a model that it was not trained on.
    """
    jobs = sorted(set(jobs_n) & set(jobs_v))
    everything = [True] * len(jobs_n)
    if len(set(jobs_n)) < 2 or len(jobs) < 2:
        return np.array([everything]), [(0, np.ones(len(jobs_v), bool))]
    folds = [everything] + [[job != left_out for job in jobs_n] for left_out in jobs]
    return np.array(folds), [
        (k, np.array([job == left_out for job in jobs_v]))
        for k, left_out in enumerate(jobs, 1)
    ]


class ActivationMonitor(Monitor):
    """A linear probe on one layer and pool, both chosen by AUROC on validation items.

    Items of several jobs: the AUROC is the mean over jobs, each judged by a probe that was
    trained on the other jobs. Many layers often reach the same AUROC; the lower log-loss
    then decides, and after it the smaller C, the earlier pool and the earlier layer.

    Args:
      pools: pools to choose from; None: all that the first training item has.
      layers: layers to choose from (negative from the end); None: all.

    After `fit`: `selection` `{"layer", "site", "pool", "C"}` with C None where the probe
    has none, and `validation_auroc` `{pool: [l][c]}` over the layers offered.
    """

    level = "prompt"

    def __init__(
        self, pools: Sequence[str] | None = None, layers: Sequence[int] | None = None
    ):
        self.pools, self.layers = pools, layers
        self.Cs: tuple[float | None, ...] = (None,)

    @abstractmethod
    def fit_layers(
        self, x_lnd: np.ndarray, y_n: np.ndarray, folds_kn: np.ndarray
    ) -> list[list[list[Probe]]]:
        """A fitted probe for each layer, each of `self.Cs` and each fold."""

    def fit(
        self,
        items: Sequence[PromptItem],
        labels: Any,
        validation: Sequence[PromptItem] = (),
        validation_labels: Any = (),
    ) -> "ActivationMonitor":
        """Fits all candidates on `items`, keeps the best on `validation`.

        Raises ValueError for activations that are missing, not finite or of unequal shape,
        for one class only, and without validation items unless there is one candidate.
        """
        if not items:
            raise ValueError(f"monitor {self.name!r} has no items to learn from")
        y_n, y_v = np.asarray(labels), np.asarray(validation_labels)
        pools = list(self.pools or sorted(items[0].activations or {}))
        if not pools:
            raise ValueError(
                f"monitor {self.name!r} needs activations; the items have none"
            )
        folds_kn, judges = _folds([i.job for i in items], [i.job for i in validation])
        self.validation_auroc: dict[str, list[list[float]]] = {}
        best: tuple | None = None
        for at, pool in enumerate(pools):
            x_lnd = stack_activations(items, pool)
            layers = self._layers_of(len(x_lnd), pool)
            if not len(validation) and (len(pools), len(layers), len(self.Cs)) != (1, 1, 1):
                raise ValueError(
                    f"monitor {self.name!r} chooses among layers, pools and C on "
                    "validation items; give some, or one candidate only"
                )
            probes = self.fit_layers(x_lnd[layers], y_n, folds_kn)
            x_lvd = stack_activations(validation, pool) if len(validation) else None
            self.validation_auroc[pool] = []
            for i, layer in enumerate(layers):
                row = []
                for c, probe_k in enumerate(probes[i]):
                    area, loss = 0.5, 0.0
                    if x_lvd is not None:
                        judged = [
                            (probe_k[k].decision_function(x_lvd[layer][rows]), y_v[rows])
                            for k, rows in judges
                        ]
                        area = float(np.mean([auroc(*pair) for pair in judged]))
                        loss = float(np.mean([_log_loss(*pair) for pair in judged]))
                        row.append(area)
                    rank = (-area, loss, c, at, i)
                    if best is None or rank < best[0]:
                        best = (rank, probe_k[0], layer, pool, self.Cs[c])
                self.validation_auroc[pool].append(row)
        assert best is not None
        _, self.probe, layer, pool, C = best
        self.selection = {"layer": layer, "site": "resid_post", "pool": pool, "C": C}
        return self

    def _layers_of(self, n_layers: int, pool: str) -> list[int]:
        wanted = range(n_layers) if self.layers is None else self.layers
        if not all(-n_layers <= l < n_layers for l in wanted) or not len(wanted):
            raise ValueError(f"layers {list(wanted)} of {n_layers} in pool {pool!r}")
        return [l % n_layers for l in wanted]

    def score_many(self, items: Sequence[PromptItem]) -> np.ndarray:
        """Log-odds of the probe; ValueError before `fit`."""
        if not hasattr(self, "selection"):
            raise ValueError(f"monitor {self.name!r} is not fitted; call fit first")
        layer, pool = self.selection["layer"], self.selection["pool"]
        x_lnd = stack_activations(items, pool)
        if layer >= len(x_lnd):
            raise ValueError(f"items have {len(x_lnd)} layers, the probe reads {layer}")
        return self.probe.decision_function(x_lnd[layer])
