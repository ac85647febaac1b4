"""What every test runs under: JAX on the CPU, one thread a worker, nothing remembered.

Set as environment variables before anything imports JAX or NumPy, so that programs which
tests start inherit them.
"""

import os
import shutil
import tempfile

from hypothesis import HealthCheck, settings

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the suite's time is XLA's compiler, and models of a few kilobytes gain little from
# it. Programs are kept for this run alone: one of an earlier run would hide a fault.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()
)

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores among themselves
    for _variable in ("PJRT_NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(_variable, "1")
else:  # what starts the workers, or is alone
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="cifr_jax_tests-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

# The same examples each time, whatever the machine's speed: a red run can be repeated.
settings.register_profile(
    "ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci")


def pytest_unconfigure(config):
    """Removes the programs of this run, where all workers have ended."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
