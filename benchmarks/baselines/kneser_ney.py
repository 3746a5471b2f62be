"""What perplexity does an interpolated Kneser-Ney bigram reach?

Kneser & Ney 1995; interpolated form and the estimate of the discount from the counts: Chen & Goodman 1999, section 2.7.

    p(w | v) = max(c(v, w) - d, 0) / c(v) + d * n(v) / c(v) * q(w)
    d = n1 / (n1 + 2 * n2)            n1, n2: different bigrams seen once, twice
    n(v): different words seen after v; c(v): bigrams that start with v
    q(w) = max(b(w) - e, 0) / b + e * m / b * 1 / V        the continuation unigram, discounted in the same way, so that
    b(w): different words seen before w; b: their sum; m: words with b(w) > 0; e: as d, from the b(w)    unseen words get some
"""  # noqa: E501 - formulas

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class KneserNeyBigram:
    """A bigram model; build it with `fit`."""

    bigrams: np.ndarray  # sorted keys v * V + w
    discounted: np.ndarray  # max(c(v, w) - d, 0) / c(v) of each key
    backoff: np.ndarray  # [V] weight of the continuation unigram after v; 1 after a v that was never seen
    continuation: np.ndarray  # [V] q(w)

    @classmethod
    def fit(cls, previous: np.ndarray, following: np.ndarray, vocab_size: int) -> "KneserNeyBigram":
        """Counts the bigrams (previous[i], following[i]).

        Raises:
          ValueError: there are no bigrams.
        """
        if not len(previous):
            raise ValueError("no bigrams to count")
        keys, counts = np.unique(previous.astype(np.int64) * vocab_size + following, return_counts=True)
        first, second = keys // vocab_size, keys % vocab_size
        discount = _discount(counts)
        starts = np.bincount(first, counts, vocab_size)
        kinds = np.bincount(first, minlength=vocab_size)
        backoff = np.where(starts > 0, discount * kinds / np.maximum(starts, 1), 1.0)
        before = np.bincount(second, minlength=vocab_size)
        return cls(keys, (counts - discount) / starts[first], backoff, _continuation(before))

    def probability(self, previous: np.ndarray, following: np.ndarray) -> np.ndarray:
        """p(following | previous), elementwise."""
        keys = previous.astype(np.int64) * len(self.continuation) + following
        place = np.minimum(np.searchsorted(self.bigrams, keys), len(self.bigrams) - 1)
        seen = self.bigrams[place] == keys
        from_bigram = np.where(seen, self.discounted[place], 0.0)
        return np.asarray(from_bigram + self.backoff[previous] * self.continuation[following])

    def perplexity(self, previous: np.ndarray, following: np.ndarray) -> float:
        """Perplexity: exp of the mean negative log probability (natural) over the pairs."""
        return float(np.exp(-np.log(self.probability(previous, following)).mean()))


def _discount(counts: np.ndarray) -> float:
    """Discount n1 / (n1 + 2 n2); 1/2 where nothing was seen once or nothing twice: no estimate is possible then."""
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    return once / (once + 2 * twice) if once and twice else 0.5


def _continuation(before: np.ndarray) -> np.ndarray:
    total = before.sum()
    discount = _discount(before)
    known = int((before > 0).sum())
    return np.asarray(np.maximum(before - discount, 0) / total + discount * known / total / len(before))
