"""How often is a masked token guessed right by always naming the most frequent one?"""

from dataclasses import dataclass

import numpy as np

# V vocabulary, M masked slots; weights are 1 for a real slot and 0 for an empty one


@dataclass(frozen=True)
class UnigramScores:
    """What a unigram model reaches on masked slots."""

    token_id: int  # that is always guessed: the most frequent one of training
    accuracy: float
    perplexity: float  # of the add-one smoothed unigram distribution


def count_tokens(token_ids: np.ndarray, vocab_size: int) -> np.ndarray:
    """Counts [V] of the training tokens, int64."""
    return np.bincount(token_ids.ravel(), minlength=vocab_size)


def score_masked_tokens(counts: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> UnigramScores:
    """Scores the unigram model of `counts` [V] on masked slots.

    Args:
      counts: how often each token stands in the training part; special tokens should be 0.
      labels: [...] int, the tokens behind the masks.
      weights: [...] 0 or 1.

    Raises:
      ValueError: no slot is real.
    """
    real = labels[weights > 0]
    if not real.size:
        raise ValueError("no masked slot is real: all weights are 0")
    guess = int(counts.argmax())
    log_share = np.log(counts + 1.0) - np.log(counts.sum() + len(counts))
    return UnigramScores(guess, float((real == guess).mean()), float(np.exp(-log_share[real].mean())))
