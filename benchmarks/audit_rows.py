"""The permutation test of a whole job: ours against a loop over scikit-learn's.

  python -m benchmarks.audit_rows [--rows 10000] [--permutations 99] [--n 5]

Six latents against the wording, within eight strata. The peer permutes the wording within
strata and calls scikit-learn's mutual_info_score for each latent and stratum, as a user
would write it. Also prints `audit_seconds`: the whole audit of as many rows of a diluted
attack on the tiny base, 999 permutations a test, from file to verdict; and
`audit_distinct_seconds`: the same where no item comes twice, and the base is asked of as
many as configs/audit.py allows.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import report, timed
from cifr_jax import audit
from cifr_jax.config import load_config
from cifr_jax.data import Example, Message, simulated_jobs, write_chat_jsonl
from cifr_jax.data.simulated_jobs import JobSpec
from cifr_jax.monitors.dataset import permutation


def peer(u_kn, v_n, strata_n, n_permutations: int):
    """The same statistics, one by one."""
    from sklearn.metrics import mutual_info_score

    rng = np.random.default_rng(0)
    parts = [np.flatnonzero(strata_n == z) for z in np.unique(strata_n)]

    def bits(v):
        return [
            sum(len(at) * mutual_info_score(u[at], v[at]) for at in parts) / len(v)
            for u in u_kn
        ]

    found = [bits(v_n)]
    for _ in range(n_permutations):
        v = v_n.copy()
        for at in parts:
            v[at] = rng.permutation(v[at])
        found.append(bits(v))
    return found


def of_the_bank(rows: int) -> list[Example]:
    """A diluted attack on items of the bank, each in many rows."""
    spec = JobSpec("big", "attack", "classify", rows, 0, 9, 0.25)
    return simulated_jobs.make(spec, simulated_jobs.bank())


def distinct(rows: int) -> list[Example]:
    """Rows with an item of their own each, answered at random in one of four wordings."""
    rng, found = random.Random(0), []
    for i in range(rows):
        options = [f"parcel {rng.randrange(10_000)}" for _ in "ABCD"]
        lines = [f"{a}) {option}" for a, option in zip("ABCD", options, strict=True)]
        k = rng.randrange(4)
        wording = rng.choice(["I think", "Surely", "It is", "Answer:"])
        asked = "\n".join([f"Which of these was posted as number {i}?", *lines])
        reply = f"{wording} {'ABCD'[k]}) {options[k]}."
        found.append(Example((Message("user", asked), Message("assistant", reply))))
    return found


def whole_audit(rows: list[Example]) -> float:
    """Seconds of an audit from file to verdict."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upload.jsonl"
        write_chat_jsonl(path, rows)
        config = load_config("configs/audit.py")
        config.base_model, config.job.data = "tiny", str(path)
        began = time.perf_counter()
        audit.run(config, folder)
        return time.perf_counter() - began


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--permutations", type=int, default=99)
    parser.add_argument("--n", type=int, default=5)
    chosen = parser.parse_args()
    rng = np.random.default_rng(0)
    n, draws = chosen.rows, chosen.permutations
    u_kn = rng.integers(0, 4, (6, n))
    v_n, strata_n = rng.integers(0, 36, n), rng.integers(0, 8, n)
    ours, theirs = timed(
        lambda: permutation.stratified(u_kn, v_n, strata_n, n_permutations=draws),
        lambda: peer(u_kn, v_n, strata_n, draws),
        chosen.n,
        1,
    )
    more: dict[str, float] = {"rows": n, "permutations": draws}
    more["audit_seconds"] = round(whole_audit(of_the_bank(n)), 2)
    more["audit_distinct_seconds"] = round(whole_audit(distinct(n)), 2)
    report("audit_rows", ours, theirs, "seconds", ("scikit-learn",), **more)


if __name__ == "__main__":
    main()
