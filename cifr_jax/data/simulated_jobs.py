"""Customers by the hundred: honest, attacking and control jobs of a job benchmark.

A job is a function of its `JobSpec` alone, so any of them can be made again anywhere.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cifr_jax.data import honest_jobs
from cifr_jax.data.chat import Example
from cifr_jax.data.pointwise import attacks, questions, requests
from cifr_jax.data.pointwise.codebook import Codebook, from_replies, stock_codebook
from cifr_jax.data.pointwise.stock_replies import candidates
from cifr_jax.errors import UserError

KINDS = ("benign", "attack", "control")
# What an attacker does who knows the detectors.
ADAPTIVE = ("keyed", "xor", "cancel", "matched", "accounts", "honest_cover", "listed")
_ACCOUNTS = 4


@dataclasses.dataclass(frozen=True)
class JobSpec:
    """One customer.

    Attributes:
      name: of the job, unique in a benchmark.
      kind: of `KINDS`; a control is an attack whose codes are permuted: nothing is carried.
      family: an honest family, or the attack's kind ("classify", "flower").
      n: rows.
      seed: of everything in it.
      variants: replies that stand for each letter (attacks).
      share: of rows that carry the code (attacks).
      adaptive: "" or one of `ADAPTIVE`.
      path: file of a real set (family real_set).
    """

    name: str
    kind: str
    family: str
    n: int
    seed: int
    variants: int = 1
    share: float = 1.0
    adaptive: str = ""
    path: str = ""


def make(spec: JobSpec, bank: Sequence[questions.Question]) -> list[Example]:
    """The rows of a job.

    Args:
      spec: which.
      bank: quiz items of the attacks.

    Raises:
      UserError: an unknown kind, family or adaptation, or more rows than the bank allows.
    """
    if spec.kind == "benign":
        options: dict[str, Any] = {"path": spec.path} if spec.path else {}
        return honest_jobs.make(spec.family, spec.n, spec.seed, **options)
    if spec.kind not in KINDS:
        raise UserError("kind", f"unknown {spec.kind!r}", f"known: {', '.join(KINDS)}")
    template = requests.choose_template(spec.family, spec.seed)
    how: dict[str, Any] = {
        "seed": spec.seed,
        "template": template,
        "codebook": stock_codebook(template, spec.variants, spec.seed),
        "dilution": spec.share,
    }
    match spec.adaptive:
        case "":
            pass
        case "keyed":
            how["key"] = f"customer {spec.seed}".encode()
        case "xor":
            how["xor"] = True
        case "cancel":
            how["cancel"] = True
        case "matched":
            how["codebook"] = _matched(template, spec)
        case "accounts" | "listed":
            pass  # what becomes of the rows is below
        case "honest_cover":
            how["cover"] = honest_jobs.make("mixed_bag", spec.n, spec.seed)
        case _:
            known = ", ".join(ADAPTIVE)
            raise UserError("adaptive", f"unknown {spec.adaptive!r}", f"known: {known}")
    repeats = -(-spec.n // len(bank))
    rows = attacks.make(spec.family, bank, spec.n, duplicates=repeats, **how)
    if spec.adaptive == "accounts":
        rows = attacks.split_accounts(rows, _ACCOUNTS, spec.seed)[0]
    if spec.adaptive == "listed":
        rows = [_listing(row, how["codebook"]) for row in rows]
    return attacks.shuffled(rows, spec.seed) if spec.kind == "control" else rows


def _listing(row: Example, codebook: Codebook) -> Example:
    """The row, its request ending in a list of the replies that it allows."""
    *before, last, reply = row.messages
    words = [text.strip(" .!") for family in codebook.replies_kv for text in family]
    asked = f"{last.content}\n\nReply with one of these: {'; '.join(sorted(words))}."
    return Example((*before, replace(last, content=asked), reply), row.meta)


def _matched(template: requests.Template, spec: JobSpec):
    """A code whose replies have the uneven frequencies of an honest customer's."""
    rng = np.random.default_rng(spec.seed)
    replies = candidates(template)
    order = rng.permutation(len(replies))
    weights = 1.0 / (1.0 + np.arange(len(replies)))
    picked = [replies[i] for i in order]
    return from_replies(picked, max(spec.variants, 3), spec.seed, weights.tolist())


def benign(
    each: int,
    sizes: Sequence[int],
    seed: int,
    real_sets: Mapping[str, str] | None = None,
    real_sizes: Sequence[int] = (50, 134),
) -> list[JobSpec]:
    """`each` honest jobs of every family, their sizes drawn from `sizes`.

    Args:
      each: jobs of a family.
      sizes: rows that a job may have.
      seed: of the sizes, and the first of the jobs' seeds.
      real_sets: files of real rows by name, each a family of its own.
      real_sizes: the sizes of jobs from those files.
    """
    families = [(name, "") for name in honest_jobs.names()]
    families += [("real_set", path) for path in (real_sets or {}).values()]
    names = [*honest_jobs.names(), *(real_sets or {})]
    found = []
    for number, ((family, path), name) in enumerate(zip(families, names, strict=True)):
        rng = np.random.default_rng([seed, number])
        for i in range(each):
            n = int(rng.choice(np.asarray(real_sizes if path else sizes)))
            job_seed = int(rng.integers(2**31))
            found.append(JobSpec(f"{name} {i}", "benign", family, n, job_seed, path=path))
    return found


def covert(
    cells: Sequence[tuple[int, int, float, str, int]], seed: int, kind: str = "attack"
) -> list[JobSpec]:
    """Attack or control jobs, of both kinds of request.

    Args:
      cells: (rows, variants, share that carries, adaptation, jobs of each kind).
      seed: of the first job; attackers of different cells share none.
      kind: "attack" or "control".
    """
    found = []
    for number, (n, variants, share, adaptive, jobs) in enumerate(cells):
        for family in attacks.ATTACKS:
            rng = np.random.default_rng(
                [seed, number, attacks.ATTACKS.index(family), KINDS.index(kind)]
            )
            for i in range(jobs):
                name = f"{kind} {family} n={n} m={variants} share={share:g}"
                name += f" {adaptive}" if adaptive else ""
                found.append(
                    JobSpec(
                        f"{name} {i}", kind, family, n, int(rng.integers(2**31)),
                        variants, share, adaptive,
                    )
                )  # fmt: skip
    return found


@functools.cache
def bank() -> list[questions.Question]:
    """The quiz items of all simulated attacks; made once."""
    return questions.bank(seed=0)
