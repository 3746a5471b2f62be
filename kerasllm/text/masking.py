"""Where is the mask made? Masked language modelling on rows of tokens: the same seed gives the same mask, in-graph."""

# B rows, T tokens, W words of a row and special tokens (at most T), M masked slots, V vocabulary

import math

import numpy as np
import tensorflow as tf

from kerasllm.text.interface import Tokenizer

MASK_TOKEN_SHARE = 0.8  # of the chosen tokens become [MASK] (Devlin et al. 2019, appendix A.1)
RANDOM_TOKEN_SHARE = 0.1  # become a random word; the rest stays as it is
WHOLE_WORD_SLACK = 8  # slots more than the share, so that the last word chosen fits whole
SPAN_END = 0.2  # probability that a span ends after a word (Joshi et al. 2020, section 3.1)
LONGEST_SPAN = 10  # words; longer spans are drawn anew, so that the mean is 3.8
NEVER = 2.0  # a score that is never chosen: drawn ones are below 1


def num_slots(length: int, share: float, whole_word: bool) -> int:
    """M: masked slots that a row of `length` tokens needs at most."""
    return min(length, math.ceil(share * length) + (WHOLE_WORD_SLACK if whole_word else 0))


class Masker:
    """Chooses tokens, hides them and remembers what they were.

    Special tokens and padding are never chosen and never put in. A row with any other token has at least one masked.

    Args:
      tokenizer: gives special ids and the pieces that start words; must have a mask token.
      share: of the tokens that may be masked; rounded to the nearest number of tokens, at least 1.
      whole_word: the pieces of a word are masked together. The word that reaches the share is included whole, unless it
        does not fit into M slots.
      spans: several words in a row are masked together, whole ones; a Chinese character is a word. Spans begin at words
        drawn without order and are l words long with probability 0.8^(l - 1) * 0.2 / (1 - 0.8^10), l = 1 ... 10; the
        one that reaches the share ends there, and none goes on over a special token: the end of a part or of a packed
        sequence. All words of a span are hidden, all are random, or all are kept.
        Source: Joshi et al. 2020 (SpanBERT), section 3.1.
    """

    def __init__(
        self, tokenizer: Tokenizer, share: float = 0.15, whole_word: bool = False, spans: bool = False
    ) -> None:
        assert tokenizer.special.mask >= 0, "the vocabulary has no mask token"
        self.share, self.spans, self.mask_id = share, spans, tokenizer.special.mask
        self.whole_word = whole_word or spans
        special = np.zeros(tokenizer.vocab_size, bool)
        special[list(tokenizer.special.ids)] = True
        self._is_special, self._starts_word = special, tokenizer.starts_word
        self._regular_ids = np.flatnonzero(~special).astype(np.int32)

    def __call__(self, token_ids: tf.Tensor, seeds: tf.Tensor) -> dict[str, tf.Tensor]:
        """Masks rows.

        Args:
          token_ids: [B, T] int32, T static.
          seeds: [B, 2] int32, one seed a row: a row's mask does not depend on its neighbours.

        Returns:
          token_ids [B, T] int32 with the masked tokens hidden; masked_positions [B, M] int32 in rising order,
          masked_labels [B, M] int32, masked_weights [B, M] float32 (0 = empty slot).
        """
        length = token_ids.shape[1]
        draws = tf.unstack(_uniform(seeds, 4 if self.spans else 3, length), axis=1)
        scores, kinds, words = draws[:3]
        if self.whole_word:
            word = self._word_of(token_ids)
            if self.spans:
                scores, kinds = self._by_span(token_ids, word, scores, kinds, draws[3])
            scores = tf.gather(scores, word, batch_dims=1)
            kinds = tf.gather(kinds, word, batch_dims=1) if self.spans else kinds
        chosen = self._choose(token_ids, scores, num_slots(length, self.share, self.whole_word))
        index = tf.cast(words * len(self._regular_ids), tf.int32)
        random_ids = tf.gather(self._regular_ids, tf.minimum(index, len(self._regular_ids) - 1))
        hidden = tf.where(kinds < MASK_TOKEN_SHARE + RANDOM_TOKEN_SHARE, random_ids, token_ids)
        hidden = tf.where(kinds < MASK_TOKEN_SHARE, self.mask_id, hidden)
        return {"token_ids": tf.where(chosen, hidden, token_ids), **self._slots(token_ids, chosen)}

    def _choose(self, token_ids: tf.Tensor, scores: tf.Tensor, slots: int) -> tf.Tensor:
        """[B, T] bool: the tokens (or whole words) with the lowest scores, as many as the share asks for."""
        candidates = tf.logical_not(tf.gather(self._is_special, token_ids))
        scores = tf.where(candidates, scores, tf.cast(NEVER, scores.dtype))
        available = tf.reduce_sum(tf.cast(candidates, tf.int32), axis=1)
        wanted = tf.cast(tf.round(self.share * tf.cast(available, tf.float32)), tf.int32)
        wanted = tf.clip_by_value(wanted, 1, slots)
        threshold = tf.gather(tf.sort(scores, axis=1), wanted[:, None] - 1, batch_dims=1)
        chosen = candidates & (scores <= threshold)
        below = candidates & (scores < threshold)
        too_many = tf.reduce_sum(tf.cast(chosen, tf.int32), axis=1, keepdims=True) > slots
        return tf.where(too_many & tf.reduce_any(below, axis=1, keepdims=True), below, chosen)

    def _word_of(self, token_ids: tf.Tensor) -> tf.Tensor:
        """[B, T] int32: number of each token's word in its row, in rising order; a special token is one by itself."""
        starts = tf.gather(self._starts_word, token_ids) | tf.gather(self._is_special, token_ids)
        return tf.minimum(tf.cumsum(tf.cast(starts, tf.int32), axis=1), token_ids.shape[1] - 1)

    def _by_span(
        self, token_ids: tf.Tensor, word: tf.Tensor, scores: tf.Tensor, kinds: tf.Tensor, lengths: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Score [B, T] float64 of each word, and the draw [B, T] that hides it: those of the best span over it.

        Every word begins a span with the score and length drawn for it. To take words by rising scores is to take one
        span after another; inside of a span the score rises a little from word to word.

        Args:
          token_ids: [B, T].
          word: [B, T] as _word_of gives it.
          scores: [B, T] drawn for the span that begins at each word.
          kinds: likewise.
          lengths: likewise; uniform.
        """
        first_token = tf.searchsorted(word, tf.broadcast_to(tf.range(word.shape[1]), tf.shape(word)))
        first_token = tf.minimum(first_token, word.shape[1] - 1)
        inside = ~tf.gather(self._is_special, tf.gather(token_ids, first_token, batch_dims=1))
        lengths, scores = span_lengths(lengths), tf.cast(scores, tf.float64)
        best, owner, reachable = scores, kinds, inside
        for back in range(1, min(LONGEST_SPAN, word.shape[1])):  # the span that begins so many words before
            reachable &= _shifted(inside, back)
            covers = reachable & (_shifted(lengths, back) > back)
            score = tf.where(covers, _shifted(scores, back) + back * 2.0**-40, tf.cast(NEVER, tf.float64))
            owner = tf.where(score < best, _shifted(kinds, back), owner)
            best = tf.minimum(score, best)
        return best, owner

    def _slots(self, token_ids: tf.Tensor, chosen: tf.Tensor) -> dict[str, tf.Tensor]:
        length = token_ids.shape[1]
        slots = num_slots(length, self.share, self.whole_word)
        positions = tf.sort(tf.where(chosen, tf.range(length), length), axis=1)[:, :slots]
        filled = positions < length
        positions = tf.where(filled, positions, 0)
        labels = tf.where(filled, tf.gather(token_ids, positions, batch_dims=1), 0)
        return {
            "masked_positions": positions,
            "masked_labels": labels,
            "masked_weights": tf.cast(filled, tf.float32),
        }


def span_lengths(uniform: tf.Tensor) -> tf.Tensor:
    """Words of spans, int32 in 1 ... LONGEST_SPAN: geometric ones, from uniform numbers in [0, 1)."""
    goes_on = 1 - SPAN_END
    within = 1 - uniform * (1 - goes_on**LONGEST_SPAN)
    return tf.minimum(1 + tf.cast(tf.math.log(within) / math.log(goes_on), tf.int32), LONGEST_SPAN)


def _shifted(rows: tf.Tensor, count: int) -> tf.Tensor:
    """[B, W] moved to the right by `count` places; zeros (False) come in."""
    return tf.pad(rows[:, :-count], [[0, 0], [count, 0]])


def _uniform(seeds: tf.Tensor, count: int, length: int) -> tf.Tensor:
    """[B, count, length] float32 in [0, 1): each row from its own seed."""
    return tf.map_fn(
        lambda seed: tf.random.stateless_uniform([count, length], seed),
        seeds,
        fn_output_signature=tf.TensorSpec([count, length], tf.float32),
    )
