"""Can the number of shared content words tell a next sentence from a random one?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class OverlapThreshold:
    """Pairs whose overlap is at least `threshold` are called next."""

    threshold: float

    def accuracy(self, overlaps: np.ndarray, is_random: np.ndarray) -> float:
        """Share of the pairs [N] that are told right; `is_random` is 1 for a random second part, as in the labels."""
        return float(((overlaps < self.threshold) == (is_random == 1)).mean())


def frequent_tokens(counts: np.ndarray, share: float = 0.5) -> np.ndarray:
    """Marks [V] bool the tokens that are not content: of their counts [V], the highest that make up `share` of all."""
    order = np.argsort(-counts, kind="stable")
    before = np.concatenate([[0], np.cumsum(counts[order])[:-1]])
    marked = np.zeros(len(counts), dtype=bool)
    marked[order[before < share * counts.sum()]] = True
    return marked


def overlap(first: Sequence[int], second: Sequence[int], ignored: np.ndarray) -> float:
    """Share of the smaller part's different content tokens that stand in the other part too; 0 if it has none."""
    one, other = ({int(token) for token in part if not ignored[token]} for part in (first, second))
    smaller = min(len(one), len(other))
    return len(one & other) / smaller if smaller else 0.0


def fit_threshold(overlaps: np.ndarray, is_random: np.ndarray) -> OverlapThreshold:
    """The threshold with the highest accuracy on training pairs [N]; of equal ones the lowest.

    Raises:
      ValueError: there are no pairs.
    """
    if not len(overlaps):
        raise ValueError("no pairs to fit a threshold on")
    candidates = [OverlapThreshold(value) for value in [*np.unique(overlaps), np.inf]]
    return max(candidates, key=lambda candidate: candidate.accuracy(overlaps, is_random))
