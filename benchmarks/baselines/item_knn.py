"""Which items go with those that a user liked? Cosine between items, the nearest few of each (Sarwar et al. 2001)."""

import numpy as np


def scores(liked: np.ndarray, num_neighbours: int = 200, shrinkage: float = 20.0) -> np.ndarray:
    """[U, I] from liked [U, I] 0/1.

    Args:
      liked: what the users did.
      num_neighbours: of each item that count.
      shrinkage: added to the product of the lengths, against items with few users.
    """
    liked = liked.astype(np.float32)
    together = liked.T @ liked
    lengths = np.sqrt(np.diag(together))
    cosine = together / np.maximum(np.outer(lengths, lengths) + shrinkage, 1e-9)
    np.fill_diagonal(cosine, 0)
    least = np.sort(cosine, axis=0)[-min(num_neighbours, len(cosine))]
    return np.asarray(liked @ np.where(cosine >= least, cosine, 0), np.float32)
