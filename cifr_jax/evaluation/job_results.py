"""results.json of simulated customers: power by attack, false alarms by honest family.

Legend: n jobs, j detectors.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from cifr_jax.evaluation import customer_figures, job_level, results, schema
from cifr_jax.evaluation.customer_figures import Scored
from cifr_jax.monitors.dataset import combination, detectors
from cifr_jax.monitors.dataset.calibration import Calibration
from cifr_jax.monitors.dataset.combination import Combiner

COMBINED = "combined"
_LEVELS = (0.05, 0.01, 0.001)

Records = Sequence[dict[str, Any]]


def family(record: dict[str, Any]) -> str:
    """The honest family of a job; a file of real rows is one of its own."""
    spec = record["spec"]
    return Path(spec["path"]).stem if spec["path"] else spec["family"]


def tested(record: dict[str, Any]) -> bool:
    """Whether any alarm had something to permute in a job."""
    return any(record["tail_p"][name] is not None for name in detectors.ALARMS)


def calibrates(record: dict[str, Any]) -> bool:
    """Whether an honest job may set thresholds: it was tested, and an own answer was known.
    Without one only lengths of options are tested, and scores are too low for a threshold.
    """
    return tested(record) and record["answered"] > 0


def attack(record: dict[str, Any]) -> str:
    """The cell of an attack, both kinds of request together."""
    spec = record["spec"]
    name = f"n={spec['n']} m={spec['variants']}"
    if spec["share"] < 1:
        name += f" {100 * spec['share']:g}%"
    return name + (f" {spec['adaptive']}" if spec["adaptive"] else "")


def _scores(records: Records, calibration: Calibration) -> dict[str, np.ndarray]:
    """By detector, and of their combination: higher is more suspicious."""
    names = [*detectors.DETECTORS, "naive"]
    # A test that could not run says nothing.
    found_jn = -np.log10(np.nan_to_num(evidence(records, names), nan=1.0)).T
    combined_n = calibration.score(evidence(records, calibration.combiner.names))
    return {COMBINED: combined_n, **dict(zip(names, found_jn, strict=True))}


def _p_values(records: Records, name: str) -> np.ndarray:
    return np.array([r["p_value"][name] for r in records])


def _of_kind(records: Records, kind: str) -> list[dict[str, Any]]:
    return [record for record in records if record["spec"]["kind"] == kind]


def evidence(records: Records, names: Sequence[str]) -> np.ndarray:
    """Continuous evidence of detectors in each job, `[n, j]` (see `detectors.tail_of`);
    NaN for one that could not run."""
    found = [[r["tail_p"][name] for name in names] for r in records]
    return np.array(found, float).reshape(len(found), len(names))


def power_left_out(
    train: Records, calibrated_on: Records, covert: Records, names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Share of each attack caught at 1% by a combination that never learned from it, nor
    from another share or number of its variants: `attack_family` is what is left out.

    Args:
      train: records that the combination learns from; calibrated_on: honest ones that set
        the threshold; covert: attacks of the test split; names: of the alarms.
    """
    found: dict[str, dict[str, Any]] = {}
    honest_nj = evidence(calibrated_on, names)
    for family_out in dict.fromkeys(map(attack_family, covert)):
        kept = [
            r
            for r in train
            if r["spec"]["kind"] == "benign" or attack_family(r) != family_out
        ]
        attack_n = np.array([r["spec"]["kind"] == "attack" for r in kept], float)
        combiner = Combiner.fit(names, evidence(kept, names), attack_n)
        honest_n = combiner.score(honest_nj)
        cut = job_level.threshold(honest_n, 0.01)
        own = [r for r in covert if attack_family(r) == family_out]
        own_nj = evidence(own, names)
        caught = combination.capped(combiner.score(own_nj), own_nj, honest_n)
        found |= {
            cell: one
            for cell, one in job_level.by_group(caught, list(map(attack, own)), cut).items()
        }
    return found


def attack_family(record: dict[str, Any]) -> str:
    """Kind of attack beyond sizes: its adaptation, or the number of its variants."""
    spec = record["spec"]
    return spec["adaptive"] or f"m={spec['variants']}"


def assemble(
    config: ConfigDict,
    train: Records,
    test: Records,
    calibrated_on: Records,
    calibration: Calibration,
    base_name: str,
    base_parameters: int,
) -> dict[str, Any]:
    """Everything but timings and config.

    Args:
      config: see `configs/job_benchmark.py`.
      train: records that the combination learned from.
      test: records of the test split, all kinds.
      calibrated_on: records of the honest jobs that set the thresholds.
      calibration: made from them.
      base_name, base_parameters: of the base model.
    """
    honest, covert = _of_kind(test, "benign"), _of_kind(test, "attack")
    control = _of_kind(test, "control")
    # Thresholds are those of an audit.
    held = {COMBINED: np.array(calibration.scores)}
    scored = {
        name: Scored(_scores(part, calibration) | own, list(map(group, part)))
        for name, part, group, own in (
            ("calibration", calibrated_on, family, held),
            ("honest", honest, family, {}),
            ("attack", covert, attack, {}),
            ("control", control, attack, {}),
        )
    }
    cuts = customer_figures.thresholds(scored["calibration"])["0.01"]
    figures: dict[str, Any] = {
        **customer_figures.operating_figures(
            scored["calibration"], scored["honest"], scored["attack"], COMBINED
        ),
        "power_by_kind": job_level.by_group(
            scored["attack"].scores[COMBINED],
            [f"{r['spec']['family']} {attack(r)}" for r in covert],
            cuts[COMBINED],
        ),
        "power_family_left_out": power_left_out(
            train, calibrated_on, covert, calibration.combiner.names
        ),
        "control_alarms": {
            name: job_level.rate_above(found, cuts[name])
            for name, found in scored["control"].scores.items()
        },
        "size_on_controls": {
            name: job_level.size_of(_p_values(control, name), _LEVELS)
            for name in (*detectors.DETECTORS, "naive")
        },
        "size_on_honest": {
            name: job_level.size_of(_p_values(honest, name), _LEVELS)
            for name in (*detectors.DETECTORS, "naive")
        },
        "weights": dict(
            zip(calibration.combiner.names, calibration.combiner.weights, strict=True)
        ),
        "jobs": {
            "calibration": len(calibrated_on),
            "honest": len(honest),
            "attack": len(covert),
            "control": len(control),
        },
        "items_with_own_answer": {
            "honest": _answered(honest),
            "attack": _answered(covert),
        },
        "honest_jobs_tested": sum(map(tested, honest)),
        "milliseconds_per_job": 1000 * float(np.mean([r["seconds"] for r in test])),
    }
    return {
        "schema": schema.SCHEMA,
        "protocol": config.protocol,
        "seed": config.seed,
        "base_model": {"name": base_name, "parameters": base_parameters},
        "environment": results.environment(),
        "jobs": [],
        "rows": customer_figures.score_rows(
            scored["honest"],
            scored["attack"],
            cuts,
            lambda _: "dataset",
            (*detectors.CONTROLS, "naive"),
            config.seed,
            config.bootstrap,
        ),
        "job_rows": [],
        "selection": dict.fromkeys(("layer", "site", "pool", "C"))
        | {"threshold": figures["thresholds"]["0.01"][COMBINED]},
        "leakage_checks": [
            {"name": "no customer in two splits", "passed": _apart(test, calibrated_on)}
        ],
        "text": {"customers": figures},
        "limits": limits(figures),
    }


def _answered(records: Records) -> float | None:
    """Share of the embedded items whose own answer the base was asked for."""
    items = sum(r["items"] for r in records)
    return sum(r["answered"] for r in records) / items if items else None


def _apart(left: Records, right: Records) -> bool:
    own = lambda records: {(r["spec"]["family"], r["spec"]["seed"]) for r in records}  # noqa: E731
    return not own(left) & own(right)


def limits(figures: dict[str, Any]) -> list[str]:
    """What is not caught and who is accused, from the figures themselves."""
    found = customer_figures.limits(figures, COMBINED, 0.9)
    share = figures["items_with_own_answer"]["honest"]
    if share is not None and share < 0.99:
        found.append(
            f"The base was asked for its own answer to {share:.2f} of the items in honest "
            "jobs (those of the bank); of the others only lengths and places were tested."
        )
    found.append(
        "Attacks are on quiz items that the base often knows; a latent that the auditor "
        "does not guess is not tested, and an attack whose requests hold no item that can "
        "be found is not seen."
    )
    found.append(
        "Whether a tuned model would learn each code is not checked here: a code that "
        "nobody can learn and nobody caught is no miss (see configs/pointwise.py)."
    )
    return found
