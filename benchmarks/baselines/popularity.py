"""What does everyone like? Items by how often they were liked, for all users or by category."""

import numpy as np


def scores(liked: np.ndarray) -> np.ndarray:
    """[U, I] from liked [U, I] 0/1: how many users liked the item; for every user the same."""
    return np.broadcast_to(liked.sum(axis=0), liked.shape).astype(np.float32)


def category_scores(liked: np.ndarray, shares: np.ndarray, is_new: np.ndarray) -> np.ndarray:
    """[U, I]: for items without events, how popular the items of their categories are with everyone and the user.

    Args:
      liked: [U, I] 0/1.
      shares: [I, G], 1 / (number of categories) for each category of an item.
      is_new: [I] bool, items that say nothing about their categories.

    Returns: mean over the item's categories of (likes per item of the category, times the user's share of it).
    """
    known = liked * ~is_new
    likes = known @ shares
    everyone = likes.sum(axis=0) / np.maximum(shares[~is_new].sum(axis=0), 1)
    own = (likes + 1) / (likes.sum(axis=1, keepdims=True) + shares.shape[1])
    return np.asarray((own * everyone) @ shares.T, np.float32)
