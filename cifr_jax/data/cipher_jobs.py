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


def _attacks(
    train: Sequence[str], variants: Sequence[str], families: Sequence[str], seed: int
) -> list[JobSpec]:
    """An attack for each cipher, by the cipher's role."""
    specs = job_specs(
        ConfigDict({
            "train_ciphers": train, "test_variants": variants, "test_families": families,
            "benign_validation": (), "benign_test": (),
        }),
        seed,
    )  # fmt: skip
    return [spec for spec in specs if spec.kind == "attack"]


def customers(
    jobs: ConfigDict, honest_ciphers: Sequence[str], sparse: Sequence[float], seed: int
) -> list[Customer]:
    """All customers of a run.

    Training ciphers teach the reader and the combination; calibration ciphers give honest
    customers only, for thresholds; all others are tested. Honest customers without a
    cipher are dealt to the splits by number.

    Args:
      jobs: config group.
      honest_ciphers: further calibration ciphers, trained in a fleet of their own.
      sparse: further shares of attacks through training ciphers, the same.
      seed: of the run.

    Raises:
      UserError: an unknown cipher, or one that stands in two roles.
    """
    first = _attacks(
        jobs.train_ciphers, (*jobs.test_variants, *jobs.calibration_ciphers),
        jobs.test_families, seed,
    )  # fmt: skip
    further = _attacks((), (), honest_ciphers, seed + 50_000)
    for spec in further:
        if spec.cipher in {one.cipher for one in first}:
            where = "config.honest_ciphers"
            raise UserError(where, f"{spec.cipher} stands in config.jobs", "name it once")
    calibrating = {ciphers.parse(c).variant for c in jobs.calibration_ciphers}
    calibrating |= {spec.cipher for spec in further if spec.cipher}
    # Each with its fleet: further customers leave the training of those before as it was.
    shares_of = {
        "train": [(x, 0) for x in jobs.train_shares] + [(x, 2) for x in sparse],
        "test": [(x, 0) for x in jobs.test_shares],
    }
    made: list[Customer] = []
    for fleet, spec in [(0, one) for one in first] + [(1, one) for one in further]:
        split = "train" if spec.role == "train" else "test"
        split = "calibration" if spec.cipher in calibrating else split
        for share, at in shares_of.get(split, ()):
            name = f"{spec.name} {100 * share:g}%"
            attack = dataclasses.replace(spec, name=name, share=share)
            made.append(Customer(attack, split, spec.family or "", at))
        plain = dataclasses.replace(spec, share=0.0)
        for family, at, change in (
            ("phase1", fleet, {"kind": "phase1"}),
            ("encoded", fleet, {"kind": "encoded"}),
            (
                "encoded new",
                1,
                {"kind": "encoded", "content": "new", "seed": spec.seed + 5},
            ),
        ):
            name = spec.name.replace("attack", family)
            honest = dataclasses.replace(plain, name=name, **change)
            made.append(Customer(honest, split, family, at))
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
    return made
