"""How is one good list made? Fusion of several rankings, and a choice that is both relevant and diverse."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np


def reciprocal_rank_fusion(rankings: Sequence[Sequence[Any]], k: int = 60) -> tuple[list[Any], list[float]]:
    """Joins rankings of one catalogue into one, whatever scale their scores have.

    Args:
      rankings: item ids of each ranking, best first; an id that a ranking lacks gets nothing from it.
      k: the larger, the less the first places stand out.

    Returns: all ids, best first (ties: as first met), and their scores, the sums of 1 / (k + rank).

    Source: Cormack et al. 2009.
    """
    scores: dict[Hashable, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(np.asarray(ranking).tolist(), 1):
            scores[item] = scores.get(item, 0.0) + 1.0 / (k + rank)
    ids = sorted(scores, key=lambda item: -scores[item])
    return ids, [scores[item] for item in ids]


def maximal_marginal_relevance(relevance: Any, similarity: Any, k: int, trade_off: float) -> np.ndarray:
    """Picks items one after another: relevant, and unlike those already picked.

    Args:
      relevance: [N], higher is better; on the scale of similarity, or trade_off means little.
      similarity: [N, N] between items.
      k: items to pick; all N where there are fewer.
      trade_off: 1 is relevance alone, 0 (after the first item) dissimilarity alone.

    Returns: [min(k, N)] int64, the picked items in order; ties go to the earlier item.

    Source: Carbonell & Goldstein 1998.
    """
    relevance, similarity = np.asarray(relevance, np.float64), np.asarray(similarity, np.float64)
    is_left = np.ones(len(relevance), bool)
    nearest = np.zeros(len(relevance))  # similarity to the most similar of the picked
    order: list[int] = []
    while len(order) < min(k, len(relevance)):
        value = trade_off * relevance - (1 - trade_off) * nearest if order else relevance
        best = int(np.argmax(np.where(is_left, value, -np.inf)))
        nearest = np.maximum(nearest, similarity[best]) if order else similarity[best]
        is_left[best] = False
        order.append(best)
    return np.array(order, np.int64)
