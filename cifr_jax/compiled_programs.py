"""Compiled programs are freed before they use up the process's memory mappings.

Each program that XLA compiles for a CPU holds several mappings, and Linux allows a process
65,530 of them (vm.max_map_count). A service that audits uploads of ever new shapes, or a
benchmark of hundreds of fleets, would reach that, and the compiler then dies of a
segmentation fault.
"""

import gc
import sys
from pathlib import Path

from absl import logging

_MAPS = Path("/proc/self/maps")
_LIMIT = Path("/proc/sys/vm/max_map_count")


def _count() -> tuple[int, int] | None:
    """Mappings of this process and how many it may have; None where that is not told."""
    try:
        with open(_MAPS, "rb") as lines:
            held = sum(1 for _ in lines)
        return held, int(_LIMIT.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def free_if_many(share: float = 0.5) -> bool:
    """Drops all compiled programs where mappings exceed a share of what is allowed.

    They are compiled again when they are next needed. Nothing is done on systems without
    /proc (macOS), nor in a process that has not imported JAX.

    Args:
      share: from 0 to 1.

    Returns:
      Whether they were dropped.
    """
    found = _count()
    if found is None or "jax" not in sys.modules or found[0] <= share * found[1]:
        return False
    logging.info("%d memory mappings of %d: compiled programs are freed", *found)
    sys.modules["jax"].clear_caches()
    gc.collect()
    return True
