"""Small classifiers on activations: logistic regression in batches, closed forms."""

from cifr_jax.probes.base import Probe
from cifr_jax.probes.directions import DifferenceOfMeans, ShrunkLDA
from cifr_jax.probes.logistic import LogisticProbe, SweepResult, sweep

__all__ = [
    "DifferenceOfMeans",
    "LogisticProbe",
    "Probe",
    "ShrunkLDA",
    "SweepResult",
    "sweep",
]
