"""How good is a ranking or a list? Recall, reciprocal rank, nDCG, AUC, coverage of the catalogue, diversity."""

from collections.abc import Sequence
from typing import Any

import numpy as np

# N rankings, K places of a list, C candidates, D width of an embedding


def ranks_of(scores: Any, targets: Any) -> np.ndarray:
    """The rank, from 1, of each right candidate; another one of the same score stands before it.

    Args:
      scores: [N, C], higher is better.
      targets: [N] int, the column of the right candidate.

    Returns: [N] int64.
    """
    scores, targets = np.asarray(scores), np.asarray(targets, np.int64)
    own = np.take_along_axis(scores, targets[:, np.newaxis], axis=1)
    return np.asarray((scores >= own).sum(axis=1), np.int64)


def recall_at(ranks: Any, k: int) -> float:
    """Share of the N rankings whose right candidate is among the first k.

    Args:
      ranks: [N], counted from 1; infinity where it was not found.
      k: places that are looked at.
    """
    return float(np.mean(_checked_ranks(ranks) <= k))


def mean_reciprocal_rank(ranks: Any) -> float:
    """Mean of 1 / rank; see recall_at."""
    return float(np.mean(1.0 / _checked_ranks(ranks)))


def ndcg_at(relevance: Any, num_relevant: Any, k: int) -> np.ndarray:
    """Discounted gain of the first k places as a share of the best possible one.

    Args:
      relevance: [K] or [N, K], 1 (relevant) or 0 at each place, best place first; fewer than k places: the rest is 0.
      num_relevant: scalar or [N], relevant items that exist, in the list or not.
      k: places that are looked at.

    Returns: scalar or [N] in 0 ... 1; NaN where nothing relevant exists: leave such a ranking out.

    Source: Jarvelin & Kekalainen 2002, discount 1 / log2(place + 1).
    """
    gains = np.asarray(relevance, np.float64)[..., :k]
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    best = np.concatenate([[np.nan], np.cumsum(discounts)])[np.minimum(np.asarray(num_relevant, np.int64), k)]
    return np.asarray(gains @ discounts[: gains.shape[-1]] / best)


def auc(positive: Any, negative: Any) -> float:
    """Probability that a positive example scores above a negative one, ties counted half (Mann & Whitney 1947).

    Args:
      positive: [P] scores.
      negative: [Q] scores.

    Returns: 0 to 1; NaN where either is empty.
    """
    positive, negative = np.asarray(positive), np.sort(np.asarray(negative))
    if not positive.size or not negative.size:
        return float("nan")
    below, not_above = (np.searchsorted(negative, positive, side) for side in ("left", "right"))
    return float(np.mean(below + not_above) / (2 * len(negative)))


def coverage(lists: Sequence[Any], num_items: int) -> float:
    """Share of the catalogue's num_items items that stands in at least one of the lists of item ids."""
    shown = np.unique(np.concatenate([np.ravel(ids) for ids in lists])) if len(lists) else np.zeros(0)
    return len(shown) / num_items


def intra_list_diversity(embeddings: Any) -> np.ndarray:
    """Mean of 1 - cosine over all pairs of a list.

    Args:
      embeddings: [K, D] or [N, K, D] of the items in each list.

    Returns: scalar or [N]; 0 (all the same) to about 1 (nothing in common), 0 for a list of one item.

    Source: Ziegler et al. 2005.
    """
    vectors = np.asarray(embeddings, np.float64)
    num = vectors.shape[-2]
    if num < 2:
        return np.zeros(vectors.shape[:-2])
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    all_pairs, own = np.square(unit.sum(axis=-2)).sum(axis=-1), np.square(unit).sum(axis=(-1, -2))
    return np.asarray(1.0 - (all_pairs - own) / (num * (num - 1)))


def _checked_ranks(ranks: Any) -> np.ndarray:
    ranks = np.asarray(ranks, np.float64)
    if not ranks.size or ranks.min() < 1:
        raise ValueError(f"ranks must be at least one number, counted from 1, got {ranks[:5]}")
    return ranks
