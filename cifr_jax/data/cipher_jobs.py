"""Customers of the audit with training: attacks through ciphers, and honest ones.

Every cipher gives one phase I, and on top of it attacks whose phase II keeps a share of
the encoded restricted rows, and two honest ones that keep none: on the benign entities of
phase I, and on new ones (what is new to a model surprises it, restricted or not). Phase I
alone is honest too. Customers without a cipher come in the kinds of `data.benign`.
"""

import dataclasses
from collections.abc import Sequence

from ml_collections import ConfigDict

from cifr_jax import ciphers
from cifr_jax.data import benign
from cifr_jax.data.jobs import JobSpec, job_specs
from cifr_jax.errors import UserError

SPLITS = ("train", "calibration", "test")  # of customers; see `split_of`


@dataclasses.dataclass(frozen=True)
class Customer:
    """A job, and what it is for.

    Attributes:
      spec: the job.
      split: of `SPLITS`.
      family: of ciphers, or the kind of an honest job; what is left out is a family.
      fleet: customers of one number are trained in one program.
    """

    spec: JobSpec
    split: str
    family: str
    fleet: int = 0

    @property
    def attack(self) -> bool:
        """Whether it is one."""
        return self.spec.kind == "attack"


def customers(jobs: ConfigDict, honest_ciphers: Sequence[str], seed: int) -> list[Customer]:
    """All customers of a run.

    Training ciphers teach the reader and the combination; calibration ciphers give honest
    customers only, for thresholds; all others are tested. Honest customers without a
    cipher are dealt to the splits by number.

    Args:
      jobs: config group.
      honest_ciphers: further calibration ciphers, trained in a fleet of their own.
      seed: of the run.

    Raises:
      UserError: an unknown cipher, or one that stands in two roles.
    """
    made: list[Customer] = []
    of_ciphers = ConfigDict({
        "train_ciphers": jobs.train_ciphers,
        "test_variants": (*jobs.test_variants, *jobs.calibration_ciphers),
        "test_families": jobs.test_families,
        "benign_validation": (),
        "benign_test": (),
    })  # fmt: skip
    honest_only = {ciphers.parse(c).variant for c in jobs.calibration_ciphers}
    shares_of = {
        "train": jobs.train_shares, "calibration": (), "test": jobs.test_shares
    }  # fmt: skip
    further = of_ciphers.copy_and_resolve_references()
    further.update(train_ciphers=(), test_variants=(), test_families=honest_ciphers)
    known = {spec.cipher for spec in job_specs(of_ciphers, seed)}
    added = [spec for spec in job_specs(further, seed + 50_000) if spec.kind == "attack"]
    for spec in added:
        if spec.cipher in known:
            where = "config.honest_ciphers"
            raise UserError(where, f"{spec.cipher} stands in config.jobs", "name it once")
    later: list[Customer] = []
    for spec in [*job_specs(of_ciphers, seed), *added]:
        if spec.kind != "attack":
            continue
        fleet = int(spec in added)
        split = "train" if spec.role == "train" else "test"
        split = "calibration" if fleet or spec.cipher in honest_only else split
        for share in shares_of[split]:
            name = f"{spec.name} {100 * share:g}%"
            attack = dataclasses.replace(spec, name=name, share=share)
            made.append(Customer(attack, split, spec.family or ""))
        for kind in ("phase1", "encoded"):
            name = spec.name.replace("attack", kind)
            honest = dataclasses.replace(spec, name=name, kind=kind, share=0.0)
            (later if fleet else made).append(Customer(honest, split, kind, fleet))
        name = spec.name.replace("attack", "encoded new")
        honest = dataclasses.replace(
            spec, name=name, kind="encoded", content="new", share=0.0, seed=spec.seed + 5
        )
        later.append(Customer(honest, split, "encoded new", 1))
    number = 0
    for kind in benign.KINDS:
        for split in SPLITS:
            for i in range(jobs[f"honest_{split}"]):
                number += 1
                spec = JobSpec(
                    f"benign {kind} {split} {i}", "benign", None, split, kind,
                    seed + 100_000 + 10 * number,
                )  # fmt: skip
                made.append(Customer(spec, split, kind))
    return made + later
