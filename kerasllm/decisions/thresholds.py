"""From which score on is an answer given? Thresholds for a stated precision, or for a stated share of rejections."""

import math
from typing import Any

import numpy as np

from kerasllm.decisions.calibration import checked

NEVER = 1.01  # no probability reaches it, not even a float32 one that was rounded up; unlike infinity it is JSON
# N examples, C classes


def threshold_for_precision(scores: Any, is_right: Any, precision: float) -> float:
    """The lowest score from which on the answers are right as often as stated.

    One more answer, a wrong one, is counted in: few right answers prove little (0.9 takes nine without a mistake).

    Args:
      scores: [N] of held-out answers; higher is surer.
      is_right: [N] bool.
      precision: share of right ones among those with score >= threshold, between 0 and 1.

    Returns: one of the scores, or infinity where no threshold reaches the precision.
    """
    scores, is_right = np.asarray(scores, np.float64), np.asarray(is_right, bool)
    if scores.shape != is_right.shape or scores.ndim != 1:
        raise ValueError(f"scores {scores.shape} and is_right {is_right.shape} must be two lists of one length")
    order = np.argsort(-scores, kind="stable")
    scores, num_right = scores[order], np.cumsum(is_right[order])
    enough = num_right >= precision * (np.arange(len(scores)) + 2) - 1e-9
    enough[:-1] &= scores[:-1] != scores[1:]  # equal scores are answered together
    return float(scores[np.flatnonzero(enough)[-1]]) if enough.any() else math.inf


def threshold_for_rejection(scores_in_scope: Any, share: float) -> float:
    """The highest score below which at most this share of the texts that should be answered is rejected.

    Args:
      scores_in_scope: [N] of held-out texts that are in scope, N >= 1; what scores below the threshold is rejected.
      share: of them, at least 0 and below 1.
    """
    scores = np.asarray(scores_in_scope, np.float64)
    if not scores.size:
        raise ValueError("scores_in_scope is empty: a threshold needs at least one text")
    allowed = int(share * len(scores) + 1e-9)
    return float(np.partition(scores, allowed)[allowed])


def class_thresholds(probabilities: Any, labels: Any, precision: float) -> np.ndarray:
    """For each class the lowest top probability at which answering it is right as often as stated.

    A class that is the answer too rarely to prove the precision even without a mistake takes the threshold of all
    answers together.

    Args:
      probabilities: [N, C] of held-out examples.
      labels: [N] int, their true classes.
      precision: of the answers, between 0 and 1.

    Returns: [C]; NEVER where the precision is not reached.
    """
    probabilities, labels = checked(probabilities, labels)
    top, answers = probabilities.max(axis=1), probabilities.argmax(axis=1)
    thresholds = np.full(probabilities.shape[1], threshold_for_precision(top, answers == labels, precision))
    for answer in np.flatnonzero(has_own_threshold(answers, probabilities.shape[1], precision)):
        chosen = answers == answer
        thresholds[answer] = threshold_for_precision(top[chosen], labels[chosen] == answer, precision)
    return np.minimum(thresholds, NEVER)


def has_own_threshold(answers: Any, num_classes: int, precision: float) -> np.ndarray:
    """Which classes are answered often enough for a threshold of their own: [C] bool."""
    num_answers = np.bincount(answers, minlength=num_classes)
    return np.asarray(num_answers >= precision * (num_answers + 1) - 1e-9)
