"""The protocol on real text: what monitors learn from, where and on what they are tested.

Everything is learned, chosen and given its threshold on the base model and on prompts of
`train` and `validation`. Tested are, each in two cells,

    test_variant   the base, on pairs of the sets that were learned from;
    test_family    the base, on pairs of sets that were never learned from;
    test_benign    the model after an honest job, on all of these

where the cell `plain` sets restricted requests against their own benign twins and the cell
`all` against those and benign prompts of other kinds.

Legend: n prompts, l layers, d model width.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cifr_jax import monitors
from cifr_jax.data.sources import TextPrompt
from cifr_jax.evaluation.leakage import check_splits
from cifr_jax.evaluation.metrics import auroc, threshold_at_fpr
from cifr_jax.evaluation.protocol import Arm
from cifr_jax.evaluation.rows import score_row
from cifr_jax.monitors import Monitor, PromptItem
from cifr_jax.monitors.selection import stack_activations
from cifr_jax.probes import sweep

CIPHER = "identity"  # plain text, in the words of the cipher registry
TESTS = {
    "test_variant": ("base", ("held_out",)),
    "test_family": ("base", ("held_out", "unseen")),
    "test_benign": ("tuned", ("held_out", "unseen")),
}


@dataclasses.dataclass(frozen=True)
class Seen:
    """Prompts as one model saw them.

    Attributes:
      prompts: what was asked.
      items: the same as monitors see them.
    """

    prompts: Sequence[TextPrompt]
    items: Sequence[PromptItem]

    def where(self, keep: Sequence[bool]) -> "Seen":
        """Those for which `keep` holds."""
        index = np.flatnonzero(keep).tolist()
        return Seen([self.prompts[i] for i in index], [self.items[i] for i in index])

    def split(self, *names: str) -> "Seen":
        """Those of the named splits."""
        return self.where([p.split in names for p in self.prompts])

    def benign(self) -> "Seen":
        """Those that are not restricted."""
        return self.where([not p.restricted for p in self.prompts])

    @property
    def labels_n(self) -> np.ndarray:
        """1 for a restricted prompt."""
        return np.array([int(p.restricted) for p in self.prompts])


def paired(seen: Seen) -> Seen:
    """Pairs only: the prompts of sources that hold restricted ones."""
    sets = {p.source for p in seen.prompts if p.restricted}
    return seen.where([p.source in sets for p in seen.prompts])


def tested(models: Mapping[str, Seen], role: str) -> Seen:
    """All test prompts of a role, to the model that the role is about."""
    model, splits = TESTS[role]
    seen = models[model].split(*splits)
    if role != "test_family":
        return seen
    # Benign prompts of other kinds serve both roles; pairs of seen sets only the first.
    known = {p.source for p in seen.prompts if p.split == "held_out" and p.restricted}
    return seen.where([p.source not in known for p in seen.prompts])


def arms(C_values: Sequence[float]) -> list[Arm]:
    """All arms, defences first."""
    grid = {"Cs": tuple(C_values)}
    return [
        Arm("linear_probe", "linear_probe", grid),
        Arm("difference_of_means", "difference_of_means"),
        Arm("perplexity", "perplexity"),
        Arm("self_reflection", "self_reflection"),
        Arm("refusal_logit", "refusal_logit"),
        Arm("char_ngrams", "char_ngrams", control=True),
        Arm("bag_of_bytes", "bag_of_bytes", control=True),
        Arm("layer_0", "linear_probe", grid | {"layers": (0,)}, control=True),
        Arm("shuffled_labels", "linear_probe", grid, control=True, shuffled=True),
    ]


def balanced_noise(labels_n: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels with half of each class flipped: uncorrelated with the truth.

    A plain permutation of a few hundred labels would keep a correlation that a probe in
    hundreds of dimensions finds. Of an odd class the last one is flipped by a coin, or the
    classes would lean towards the truth for every seed alike.
    """
    noise_n = labels_n.copy()
    for label in (0, 1):
        index = rng.permutation(np.flatnonzero(labels_n == label))
        half = len(index) // 2 + (len(index) % 2) * int(rng.integers(2))
        noise_n[index[:half]] = 1 - label
    return noise_n


def fit(arm: Arm, base: Seen, seed: int) -> Monitor:
    """Fits an arm on the base model's training prompts; settings from validation."""
    train, validation = base.split("train"), base.split("validation")
    y_train, y_validation = train.labels_n, validation.labels_n
    if arm.shuffled:
        rng = np.random.default_rng(seed)
        y_train, y_validation = (balanced_noise(y, rng) for y in (y_train, y_validation))
    monitor = monitors.get(arm.monitor, **arm.options)
    return monitor.fit(train.items, y_train, validation.items, y_validation)


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """What an arm did.

    Attributes:
      rows: of `results.json`.
      threshold: chosen on benign validation prompts.
      selection: layer, pool and C, where there is a choice.
      pairs_won: by role, the share of pairs whose restricted side scores higher.
      flagged: by model and source, the share of benign test prompts above the threshold.
      same_prompts: by model, AUROC and rates on the prompts of `test_benign`, so that
        before and after the honest job can be compared.
    """

    rows: list[dict[str, Any]]
    threshold: float
    selection: dict[str, Any] | None
    pairs_won: dict[str, float]
    flagged: dict[str, dict[str, float]]
    same_prompts: dict[str, dict[str, float]]


def pairs_won(scores_n: np.ndarray, prompts: Sequence[TextPrompt]) -> float:
    """Share of (restricted, twin) couples that rank right, ties half.

    Prompts lie as their source gives them: each restricted one is followed by its twin.
    """
    won = []
    for i, (first, twin) in enumerate(zip(prompts, prompts[1:], strict=False)):
        if first.restricted and not twin.restricted and first.group == twin.group:
            won.append(0.5 * (1 + np.sign(scores_n[i] - scores_n[i + 1])))
    return float(np.mean(won))


def evaluate_arm(
    arm: Arm,
    models: Mapping[str, Seen],
    false_positive_rate: float,
    seed: int,
    n_bootstrap: int,
    cost: Mapping[str, float],
) -> Evaluated:
    """Fits an arm on the base, then scores every test once.

    Args:
      arm: the monitor.
      models: "base" and "tuned", each with the prompts it saw.
      false_positive_rate: of the operating point.
      seed: of shuffled labels and intervals.
      n_bootstrap: resamples of an interval.
      cost: seconds of model time for a thousand prompts, by what the monitor needs
        (activations, or the name of an extra).
    """
    monitor = fit(arm, models["base"], seed)
    validation = models["base"].split("validation")
    scores_v = monitor.score_many(validation.items)
    chosen_on = auroc(scores_v, validation.labels_n)
    threshold = threshold_at_fpr(scores_v[validation.labels_n == 0], false_positive_rate)
    extra = getattr(monitor, "extra", "")
    needs = "activations" if hasattr(monitor, "validation_auroc") else extra

    rows, won = [], {}
    for role in TESTS:
        whole = tested(models, role)
        for cell, seen in (("all", whole), ("plain", paired(whole))):
            began = time.perf_counter()
            scores_n = monitor.score_many(seen.items)
            took = 1000 * (time.perf_counter() - began) / len(seen.items)
            row = score_row(
                monitor=arm.name,
                level=monitor.level,
                control=arm.control,
                role=role,
                cipher=CIPHER,
                cell=cell,
                scores=scores_n,
                labels=seen.labels_n,
                clusters=[p.group for p in seen.prompts],
                threshold=threshold,
                seconds_per_1000=cost.get(needs, 0.0) + took,
                seed=seed,
                n_bootstrap=n_bootstrap,
            )
            caught = scores_n[seen.labels_n == 1] > threshold
            rows.append(
                row
                | {
                    "tpr_at_threshold": float(caught.mean()),
                    "validation_auroc": chosen_on,
                }
            )
        won[role] = pairs_won(scores_n, seen.prompts)

    flagged: dict[str, dict[str, float]] = {}
    same: dict[str, dict[str, float]] = {}
    for name, model in models.items():
        seen = model.split(*TESTS["test_benign"][1])
        scores_n, labels_n = monitor.score_many(seen.items), seen.labels_n
        same[name] = {
            "auroc": auroc(scores_n, labels_n),
            "flagged_restricted": float((scores_n[labels_n == 1] > threshold).mean()),
            "flagged_benign": float((scores_n[labels_n == 0] > threshold).mean()),
        }
        benign = model.split("held_out", "unseen", "edgy").benign()
        if extra:  # not every model was asked everything
            benign = benign.where([extra in item.extras for item in benign.items])
        above_n = monitor.score_many(benign.items) > threshold
        sources = np.array([p.source for p in benign.prompts])
        flagged[name] = {
            str(source): float(above_n[sources == source].mean())
            for source in dict.fromkeys(sources.tolist())
        }
    selection = getattr(monitor, "selection", None)
    return Evaluated(rows, threshold, selection, won, flagged, same)


def median_shuffle(runs: Sequence[Evaluated]) -> tuple[Evaluated, dict[str, float]]:
    """The seed in the middle, by its AUROC on `test_variant`, and the spread of all.

    A single draw of shuffled labels can land anywhere where the classes form clusters.
    """
    found = [run.rows[0]["auroc"] for run in runs]
    middle = int(np.argsort(found)[len(found) // 2])
    spread = {
        "seeds": len(runs),
        "auroc_lowest": min(found),
        "auroc_mean": float(np.mean(found)),
        "auroc_highest": max(found),
    }
    return runs[middle], spread


def evaluate(
    models: Mapping[str, Seen],
    C_values: Sequence[float],
    n_shuffles: int,
    false_positive_rate: float,
    seed: int,
    n_bootstrap: int,
    cost: Mapping[str, float],
) -> tuple[dict[str, Evaluated], dict[str, float]]:
    """All arms by name, and the spread of the shuffled-label control over its seeds.

    Args:
      C_values: inverse penalties to choose from.
      n_shuffles: seeds of the shuffled-label control.
      models, false_positive_rate, seed, n_bootstrap, cost: see `evaluate_arm`.
    """
    found: dict[str, Evaluated] = {}
    spread: dict[str, float] = {}
    for arm in arms(C_values):
        seeds = range(seed, seed + (n_shuffles if arm.shuffled else 1))
        runs = [
            evaluate_arm(arm, models, false_positive_rate, each, n_bootstrap, cost)
            for each in seeds
        ]
        found[arm.name] = runs[0]
        if arm.shuffled:
            found[arm.name], spread = median_shuffle(runs)
    return found, spread


def layer_curve(
    models: Mapping[str, Seen], C: float, pools: Sequence[str]
) -> list[dict[str, Any]]:
    """AUROC of the probe at every layer and pool on every test, cell `all`.

    A description made after the fact: the layer itself was chosen on validation.
    """
    train, curve = models["base"].split("train"), []
    for pool in pools:
        fitted = sweep(stack_activations(train.items, pool), train.labels_n, [C])
        for role in TESTS:
            seen = tested(models, role)
            x_lnd = stack_activations(seen.items, pool)
            for layer, scores_n in enumerate(fitted.decision_function(x_lnd)[:, 0, 0]):
                curve.append(
                    {
                        "monitor": "linear_probe",
                        "pool": pool,
                        "cipher": CIPHER,
                        "role": role,
                        "layer": layer,
                        "auroc": auroc(scores_n, seen.labels_n),
                    }
                )
    return curve


def leakage_checks(
    prompts: Sequence[TextPrompt], job: Sequence[str], held_out: Sequence[str]
) -> list[dict[str, Any]]:
    """Checks of the splits; by digests, so that no failure can quote a prompt.

    Args:
      prompts: all, with their splits.
      job, held_out: digests of the questions that the job trains and is measured on.
    """
    names = list(dict.fromkeys(p.split for p in prompts))
    splits: dict[str, dict[str, list[str]]] = {
        name: {
            "prompt": [p.digest for p in prompts if p.split == name],
            "group": [p.group for p in prompts if p.split == name],
        }
        for name in names
    }
    splits["job"], splits["job held out"] = {"prompt": [*job]}, {"prompt": [*held_out]}
    tests = [name for name in names if name not in ("train", "validation")]
    apart = [("train", "validation")]
    apart += [(learned, test) for learned in ("train", "validation") for test in tests]
    of_job = [("job", name) for name in (*names, "job held out")]
    return check_splits(splits, {"prompt": [*apart, *of_job], "group": apart})
