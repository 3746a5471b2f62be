"""Does a text belong to any label at all? A score of its logits, below which it is out of scope."""

from typing import Any, Literal

import numpy as np

from kerasllm.decisions.calibration import softmax
from kerasllm.decisions.ranking import auc
from kerasllm.decisions.thresholds import threshold_for_rejection

ScopeScore = Literal["probability", "energy"]
# N examples, C classes


def scope_scores(logits: Any, score: ScopeScore, temperature: float = 1.0) -> np.ndarray:
    """How much each text [N] of logits [N, C] belongs to some label; higher is surer.

    Args:
      logits: [N, C].
      score: "probability", the largest calibrated one (Hendrycks & Gimpel 2017), or "energy", the logarithm of the
        summed exponentials of the logits (Liu et al. 2020).
      temperature: of the calibration.
    """
    logits = np.asarray(logits, np.float64)
    if score == "probability":
        return np.asarray(softmax(logits / temperature).max(axis=-1))
    highest = logits.max(axis=-1, keepdims=True)
    return np.asarray(highest[..., 0] + np.log(np.exp(logits - highest).sum(axis=-1)))


def fit_scope(logits: Any, is_in_scope: Any, temperature: float, rejected_share: float) -> tuple[ScopeScore, float]:
    """The score that tells held-out texts in and out of scope apart best, and the threshold below which one is out.

    Args:
      logits: [N, C] of held-out texts.
      is_in_scope: [N] bool; without texts out of scope the score is "probability".
      temperature: of the calibration.
      rejected_share: of the texts in scope that may fall below the threshold.
    """
    is_in_scope = np.asarray(is_in_scope, bool)
    choices: tuple[ScopeScore, ...] = ("probability", "energy")
    scores = {choice: scope_scores(logits, choice, temperature) for choice in choices}
    best = choices[0]
    if not is_in_scope.all():
        best = max(choices, key=lambda choice: auc(scores[choice][is_in_scope], scores[choice][~is_in_scope]))
    return best, threshold_for_rejection(scores[best][is_in_scope], rejected_share)
