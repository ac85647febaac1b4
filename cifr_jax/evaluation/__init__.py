"""What a score is worth: metrics, operating points, intervals, leakage checks, rows."""

from cifr_jax.evaluation.intervals import clopper_pearson, clustered_bootstrap
from cifr_jax.evaluation.leakage import (
    LeakageError,
    assert_all,
    check_disjoint,
    check_splits,
)
from cifr_jax.evaluation.metrics import (
    accuracy_at,
    auroc,
    expected_calibration_error,
    log_auroc,
    roc_curve,
    threshold_at_fpr,
    tpr_at_fpr,
)
from cifr_jax.evaluation.rows import curve_points, score_row

__all__ = [
    "LeakageError",
    "accuracy_at",
    "assert_all",
    "auroc",
    "check_disjoint",
    "check_splits",
    "clopper_pearson",
    "clustered_bootstrap",
    "curve_points",
    "expected_calibration_error",
    "log_auroc",
    "roc_curve",
    "score_row",
    "threshold_at_fpr",
    "tpr_at_fpr",
]
