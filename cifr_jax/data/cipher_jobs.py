"""Customers of the audit with training: attacks through ciphers, and honest ones.

Every cipher gives one phase I, and on top of it attacks whose phase II keeps a share of
the encoded restricted rows, and an honest phase II that keeps none. Phase I alone is honest
too. Customers without a cipher come in the kinds of `data.benign`.
"""

import dataclasses

from ml_collections import ConfigDict

from cifr_jax import ciphers
from cifr_jax.data import benign
from cifr_jax.data.jobs import JobSpec, job_specs

SPLITS = ("train", "calibration", "test")  # of customers; see `split_of`


@dataclasses.dataclass(frozen=True)
class Customer:
    """A job, and what it is for.

    Attributes:
      spec: the job.
      split: of `SPLITS`.
      family: of ciphers, or the kind of an honest job; what is left out is a family.
    """

    spec: JobSpec
    split: str
    family: str

    @property
    def attack(self) -> bool:
        """Whether it is one."""
        return self.spec.kind == "attack"


def customers(jobs: ConfigDict, seed: int) -> list[Customer]:
    """All customers of a run, from the config group `jobs`.

    Training ciphers teach the probe and the combination; calibration ciphers, of the same
    families, give honest customers only, for thresholds; all others are tested. Honest
    customers without a cipher are dealt to the splits by number.

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
    for spec in job_specs(of_ciphers, seed):
        if spec.kind != "attack":
            continue
        split = "train" if spec.role == "train" else "test"
        split = "calibration" if spec.cipher in honest_only else split
        for share in shares_of[split]:
            name = f"{spec.name} {100 * share:g}%"
            attack = dataclasses.replace(spec, name=name, share=share)
            made.append(Customer(attack, split, spec.family or ""))
        for kind in ("phase1", "encoded"):
            name = spec.name.replace("attack", kind)
            honest = dataclasses.replace(spec, name=name, kind=kind, share=0.0)
            made.append(Customer(honest, split, kind))
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
