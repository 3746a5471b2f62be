"""What may be concluded from a score? Calibration, sets, thresholds, ranking measures; NumPy only, no model."""

from kerasllm.decisions.bootstrap import bootstrap_interval
from kerasllm.decisions.calibration import (
    calibration_error_by_chance,
    expected_calibration_error,
    fit_temperature,
    softmax,
)
from kerasllm.decisions.classes import ClassDecision, read_decisions, write_decisions
from kerasllm.decisions.conformal import conformal_sets, conformal_threshold
from kerasllm.decisions.lists import maximal_marginal_relevance, reciprocal_rank_fusion
from kerasllm.decisions.ranking import (
    auc,
    coverage,
    intra_list_diversity,
    mean_reciprocal_rank,
    ndcg_at,
    ranks_of,
    recall_at,
)
from kerasllm.decisions.scope import fit_scope, scope_scores
from kerasllm.decisions.thresholds import (
    NEVER,
    class_thresholds,
    threshold_for_precision,
    threshold_for_rejection,
)

__all__ = [
    "NEVER",
    "ClassDecision",
    "auc",
    "bootstrap_interval",
    "calibration_error_by_chance",
    "class_thresholds",
    "conformal_sets",
    "conformal_threshold",
    "coverage",
    "expected_calibration_error",
    "fit_scope",
    "fit_temperature",
    "intra_list_diversity",
    "maximal_marginal_relevance",
    "mean_reciprocal_rank",
    "ndcg_at",
    "ranks_of",
    "read_decisions",
    "recall_at",
    "reciprocal_rank_fusion",
    "scope_scores",
    "softmax",
    "threshold_for_precision",
    "threshold_for_rejection",
    "write_decisions",
]
