"""Which items predict each other? EASE in closed form (Steck 2019)."""

import numpy as np


def scores(seen: np.ndarray, strength: float = 300.0) -> np.ndarray:
    """[U, I] from seen [U, I] 0/1; `strength` is the ridge."""
    seen = seen.astype(np.float64)
    inverse = np.linalg.inv(seen.T @ seen + strength * np.eye(seen.shape[1]))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return np.asarray(seen @ weights, np.float32)
