"""What every test runs under: JAX on the CPU, one thread a worker, nothing remembered.

Set as environment variables before anything imports JAX or NumPy, so that programs which
tests start inherit them.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

from cifr_jax import compiled_programs  # it imports no JAX

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # a stale program would hide a fault
# Most of the suite's time is XLA's compiler, and models of a few kilobytes gain little from
# its effort.
os.environ["XLA_FLAGS"] = " ".join(
    (
        os.environ.get("XLA_FLAGS", ""),
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
    )
).strip()

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores among themselves
    for _variable in ("PJRT_NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(_variable, "1")

# The same examples each time, whatever the machine's speed: a red run can be repeated.
settings.register_profile(
    "ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci")


@pytest.fixture(autouse=True, scope="module")
def compiled_programs_end_with_their_file():
    """Frees a file's compiled programs when its tests are done.

    One file of tests holds as many as 10,000 of the memory mappings a process may have.
    """
    yield
    compiled_programs.free_if_many(share=0.0)
