"""Do probabilities mean what they say? Softmax, a temperature fitted to held-out answers, calibration error."""

from typing import Any

import numpy as np
from scipy import optimize

TEMPERATURES = (0.05, 20.0)  # bounds of a fit: outside lie sets that are all right, all wrong, or nearly empty
# N examples, C classes


def softmax(logits: Any) -> np.ndarray:
    """Probabilities over the last axis, float64."""
    shifted = np.asarray(logits, np.float64)
    exponentials = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def fit_temperature(logits: Any, labels: Any) -> float:
    """The T for which softmax(logits / T) gives the held-out labels the highest likelihood.

    Args:
      logits: [N, C].
      labels: [N] int, the true classes.

    Returns: T within TEMPERATURES; 1.0 for no examples.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    logits, labels = checked(logits, labels)
    if not len(labels):
        return 1.0
    shifted = logits - logits.max(axis=1, keepdims=True)
    true = shifted[np.arange(len(labels)), labels]

    def negative_log_likelihood(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        return float(np.mean(np.log(np.exp(shifted * inverse).sum(axis=1)) - true * inverse))

    low, high = np.log(TEMPERATURES)
    found = optimize.minimize_scalar(negative_log_likelihood, bounds=(low, high), method="bounded")
    best = min((float(found.x), low, high), key=negative_log_likelihood)  # "bounded" never tries the bounds
    return float(np.exp(best))


def expected_calibration_error(probabilities: Any, labels: Any, num_bins: int = 15) -> float:
    """Mean distance of the top probability from the share of right answers, over bins of equal mass.

    Equal probabilities share a bin, so that the order of the rows does not count.

    Args:
      probabilities: [N, C].
      labels: [N] int, the true classes.
      num_bins: at most so many, of N / num_bins examples each.

    Returns: 0 (calibrated) to 1; NaN for no examples.

    Source: Naeini et al. 2015; equal mass: Nixon et al. 2019.
    """
    probabilities, labels = checked(probabilities, labels)
    if not len(labels):
        return float("nan")
    return _mean_gap(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, num_bins)


def calibration_error_by_chance(probabilities: Any, num_bins: int = 15, num_draws: int = 100, seed: int = 1) -> float:
    """The error that so few examples show on average even if every probability is exactly right.

    Args:
      probabilities: [N, C].
      num_bins: as in `expected_calibration_error`.
      num_draws: times that the answers are drawn right with their top probability.
      seed: of the draws.

    Returns: 0 to 1, about 0.8 * sqrt(p (1 - p) num_bins / N); NaN for no examples.
    """
    top = np.asarray(probabilities, np.float64).max(axis=-1, initial=0)
    if not top.size:
        return float("nan")
    draws = np.random.default_rng(seed).random((num_draws, len(top))) < top
    return float(np.mean([_mean_gap(top, is_right, num_bins) for is_right in draws]))


def _mean_gap(top: np.ndarray, is_right: np.ndarray, num_bins: int) -> float:
    order = np.argsort(top, kind="stable")
    top, is_right = top[order], is_right[order]
    bins = np.searchsorted(top, top, side="left") * num_bins // len(top)
    gaps = np.bincount(bins, weights=top - is_right, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(top))


def checked(scores: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scores [N, C] as float64 and labels [N] as int64.

    Raises:
      ValueError: the shapes do not fit, or a label is not a column of scores.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels, np.int64)
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(f"scores {scores.shape} must be [N, C] and labels {labels.shape} [N]")
    if labels.size and (labels.min() < 0 or labels.max() >= scores.shape[1]):
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}, the scores have {scores.shape[1]} classes")
    return scores, labels
