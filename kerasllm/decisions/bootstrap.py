"""How sure is a reported figure? Intervals from resampling the examples."""

from collections.abc import Callable
from typing import Any

import numpy as np


def bootstrap_interval(
    values: Any,
    statistic: Callable[[np.ndarray], Any] = np.mean,
    num: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """The interval in which the statistic of resampled examples lies (percentile bootstrap, Efron 1979).

    To compare two systems, give the differences of their values example by example.

    Args:
      values: [N] or [N, ...]; rows, the examples or users, are drawn with replacement.
      statistic: from such rows to a number.
      num: resamples.
      seed: the same one gives the same interval.
      level: share of the resamples inside the interval.

    Returns: low and high end.
    """
    values = np.asarray(values)
    if not len(values):
        raise ValueError("values is empty: an interval needs at least one example")
    generator = np.random.default_rng(seed)
    draws = [statistic(values[generator.integers(0, len(values), len(values))]) for _ in range(num)]
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
