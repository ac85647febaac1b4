"""Medians of ours and the peer's, taken in turn, as one line of JSON."""

import importlib.metadata
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence

from cifr_jax.errors import UserError


def threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def torch_or_error(extra: str = "parity"):
    """The peer's library, or one line that says how to get it."""
    try:
        import torch
    except ImportError as error:
        mend = f'run: pip install -e ".[{extra}]"'
        raise UserError("benchmarks", "the peer needs torch", mend) from error
    torch.set_num_threads(threads())
    return torch


def versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of installed packages."""
    return {name: importlib.metadata.version(name) for name in names}


def timed(ours: Callable[[], object], peer: Callable[[], object], n: int, warm_up: int):
    """Seconds of each, `n` times in turn after `warm_up` rounds that do not count."""
    found: tuple[list[float], list[float]] = ([], [])
    for round_number in range(warm_up + n):
        for run, seconds in zip((ours, peer), found, strict=True):
            began = time.perf_counter()
            run()
            if round_number >= warm_up:
                seconds.append(time.perf_counter() - began)
        print(f"round {round_number + 1} of {warm_up + n}", file=sys.stderr)
    return found


def report(
    name: str,
    ours: Sequence[float],
    peer: Sequence[float],
    unit: str,
    packages: Sequence[str],
    **more: object,
) -> None:
    """Print the medians, their ratio and their spread (half the range over the median)."""
    middle = [statistics.median(x) for x in (ours, peer)]
    spread = [(max(x) - min(x)) / 2 / m for x, m in zip((ours, peer), middle, strict=True)]
    line = {
        "name": name,
        "ours": round(middle[0], 5),
        "peer": round(middle[1], 5),
        "ratio": round(middle[0] / middle[1], 3),
        "unit": unit,
        "n": len(ours),
        "spread": [round(x, 3) for x in spread],
        "threads": threads(),
        "versions": versions(("jax", "jaxlib", *packages)),
    }
    print(json.dumps(line | more))
