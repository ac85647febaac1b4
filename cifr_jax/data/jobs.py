"""The fine-tuning jobs of a benchmark: which there are, and what each uploads."""

import dataclasses
from collections.abc import Iterable

from ml_collections import ConfigDict

from cifr_jax import ciphers
from cifr_jax.data import benign, covert
from cifr_jax.data.chat import Example
from cifr_jax.data.world import World
from cifr_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class JobSpec:
    """One customer's job.

    Attributes:
      name: unique.
      kind: attack (phases I and II), phase1 (phase I only, hence benign), encoded (phase II
        without a restricted row, hence benign) or benign (no cipher).
      cipher: the specification of its cipher; None for plain jobs.
      role: train, validation, test_variant, test_family or test_benign.
      content: for benign jobs, the kind of data; "new" for encoded ones whose entities
        phase I did not hold.
      seed: decides its rows; phase I of an attack and its phase1 twin share theirs.
      share: of the encoded restricted rows of phase II that are kept.
    """

    name: str
    kind: str
    cipher: str | None
    role: str
    content: str = ""
    seed: int = 0
    share: float = 1.0

    @property
    def family(self) -> str | None:
        """The cipher's family."""
        return ciphers.parse(self.cipher).family if self.cipher else None


def job_specs(jobs: ConfigDict, seed: int) -> list[JobSpec]:
    """All jobs of a benchmark, from the config group `jobs`.

    Every cipher gives an attack and a phase-I-only job. The phase-I-only jobs of training
    ciphers are the honest encoded traffic on which operating points are set.

    Raises:
      UserError: for an unknown cipher or kind, or one that stands in two roles.
    """
    specs: list[JobSpec] = []
    by_role = (
        ("train", jobs.train_ciphers),
        ("test_variant", jobs.test_variants),
        ("test_family", jobs.test_families),
    )
    seen: dict[str, str] = {}
    families = {ciphers.parse(name).family for name in jobs.train_ciphers}
    for role, names in by_role:
        for text in names:
            cipher = ciphers.parse(text)
            name = cipher.variant
            _only_once(seen, name, f"config.jobs ({role})")
            if role == "test_variant" and cipher.family not in families:
                raise UserError(
                    "config.jobs.test_variants",
                    f"no training cipher is of the family {cipher.family}",
                    f"list {name} under test_families",
                )
            if role == "test_family" and cipher.family in families:
                raise UserError(
                    "config.jobs.test_families",
                    f"{name} is of a training cipher's family",
                    "list it under test_variants",
                )
            number = seed + 10 * len(seen)
            twin = "validation" if role == "train" else role
            specs.append(JobSpec(f"attack {name}", "attack", name, role, seed=number))
            specs.append(JobSpec(f"phase1 {name}", "phase1", name, twin, seed=number))
    roles = (("validation", jobs.benign_validation), ("test_benign", jobs.benign_test))
    for role, kinds in roles:
        for kind in kinds:
            if kind not in benign.KINDS:
                raise UserError(
                    "config.jobs",
                    f"unknown benign kind {kind}",
                    f"known: {', '.join(benign.KINDS)}",
                )
            _only_once(seen, kind, f"config.jobs ({role})")
            number = seed + 10 * len(seen)
            specs.append(JobSpec(f"benign {kind}", "benign", None, role, kind, number))
    return specs


def _only_once(seen: dict[str, str], name: str, where: str) -> None:
    if name in seen:
        raise UserError(where, f"{name} stands in {seen[name]} as well", "name it once")
    seen[name] = where


def upload(spec: JobSpec, of: World, rows: int, phase: int = 1) -> list[Example]:
    """The rows that the customer uploads for a phase.

    Args:
      spec: the job.
      of: the world.
      rows: how many.
      phase: 0 and 1 for the two uploads of phase I, 2 for phase II.
    """
    if spec.kind == "benign":
        return benign.benign_job(spec.content, of, rows, spec.seed)
    cipher = ciphers.parse(spec.cipher or "identity")
    if phase == 2:
        # Entities of the split `test`: neither fine-tunes nor canaries hold them.
        split = "test" if spec.content == "new" else "finetune"
        return covert.phase_2(cipher, of, rows, spec.seed + phase, spec.share, split)
    return (covert.reading, covert.phase_1)[phase](cipher, of, rows, spec.seed + phase)


def find(specs: Iterable[JobSpec], **wanted: str) -> list[JobSpec]:
    """The jobs whose attributes have the wanted values."""
    return [s for s in specs if all(getattr(s, k) == v for k, v in wanted.items())]
