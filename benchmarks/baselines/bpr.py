"""How far do plain factors of users and items go? Bayesian personalised ranking (Rendle et al. 2009), by `implicit`."""

import numpy as np
import scipy.sparse


def scores(
    liked: np.ndarray, num_factors: int = 32, iterations: int = 100, rate: float = 0.01, seed: int = 1
) -> np.ndarray:
    """[U, I] from liked [U, I] 0/1."""
    from implicit.bpr import BayesianPersonalizedRanking

    model = BayesianPersonalizedRanking(
        factors=num_factors,
        iterations=iterations,
        learning_rate=rate,
        regularization=0.02,
        random_state=seed,
        num_threads=1,
    )
    model.fit(scipy.sparse.csr_matrix(liked.astype(np.float32)), show_progress=False)
    return np.asarray(model.user_factors @ model.item_factors.T, np.float32)
