"""Which labels may be the true one? Sets that hold it as often as promised (split conformal prediction)."""

import math
from typing import Any

import numpy as np

from kerasllm.decisions.calibration import checked

# N examples, C classes


def conformal_threshold(probabilities: Any, labels: Any, coverage: float) -> float:
    """The largest 1 - probability at which a label still belongs to the set.

    The ceil((N + 1) * coverage)-th smallest score 1 - p(true): with it the set of a new text of the same kind holds
    the true label with at least this probability, whatever the model.

    Args:
      probabilities: [N, C] of held-out examples.
      labels: [N] int, their true classes.
      coverage: share of texts whose true label is to be in the set, between 0 and 1.

    Returns: 0 to 1; 1 (every label is in the set) where N is too small to promise the coverage.

    Source: Vovk et al. 2005; Sadinle et al. 2019 (least ambiguous sets).
    """
    probabilities, labels = checked(probabilities, labels)
    num = len(labels)
    rank = math.ceil((num + 1) * coverage - 1e-9)  # 1e-9: 100 * 0.55 is 55.000000000000007
    if rank > num:
        return 1.0
    scores = 1.0 - probabilities[np.arange(num), labels]
    return float(np.partition(scores, rank - 1)[rank - 1])


def conformal_sets(probabilities: Any, threshold: float) -> np.ndarray:
    """Which labels are in the set of each text: [N, C] bool; the most probable label always is.

    Args:
      probabilities: [N, C].
      threshold: see conformal_threshold.
    """
    probabilities = np.asarray(probabilities)
    is_top = np.arange(probabilities.shape[-1]) == probabilities.argmax(axis=-1)[..., np.newaxis]
    return np.asarray((1.0 - probabilities <= threshold) | is_top)
