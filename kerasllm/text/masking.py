"""Where is the mask made? Masked language modelling on rows of tokens: the same seed gives the same mask, in-graph."""

# B rows, T tokens, M masked slots, V vocabulary

import math

import numpy as np
import tensorflow as tf

from kerasllm.text.tokenizers import Tokenizer

MASK_TOKEN_SHARE = 0.8  # of the chosen tokens become [MASK] (Devlin et al. 2019, appendix A.1)
RANDOM_TOKEN_SHARE = 0.1  # become a random word; the rest stays as it is
WHOLE_WORD_SLACK = 8  # slots more than the share, so that the last word chosen fits whole


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
    """

    def __init__(self, tokenizer: Tokenizer, share: float = 0.15, whole_word: bool = False) -> None:
        assert tokenizer.special.mask >= 0, "the vocabulary has no mask token"
        self.share, self.whole_word, self.mask_id = share, whole_word, tokenizer.special.mask
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
        scores, kinds, words = tf.unstack(_uniform(seeds, 3, length), axis=1)
        chosen = self._choose(token_ids, scores, num_slots(length, self.share, self.whole_word))
        index = tf.cast(words * len(self._regular_ids), tf.int32)
        random_ids = tf.gather(self._regular_ids, tf.minimum(index, len(self._regular_ids) - 1))
        hidden = tf.where(kinds < MASK_TOKEN_SHARE + RANDOM_TOKEN_SHARE, random_ids, token_ids)
        hidden = tf.where(kinds < MASK_TOKEN_SHARE, self.mask_id, hidden)
        return {"token_ids": tf.where(chosen, hidden, token_ids), **self._slots(token_ids, chosen)}

    def _choose(self, token_ids: tf.Tensor, scores: tf.Tensor, slots: int) -> tf.Tensor:
        """[B, T] bool: the tokens (or whole words) with the lowest scores, as many as the share asks for."""
        candidates = tf.logical_not(tf.gather(self._is_special, token_ids))
        if self.whole_word:
            starts = tf.gather(self._starts_word, token_ids) | ~candidates
            word = tf.cumsum(tf.cast(starts, tf.int32), axis=1)
            scores = tf.gather(scores, tf.minimum(word, tf.shape(scores)[1] - 1), batch_dims=1)
        scores = tf.where(candidates, scores, 2.0)  # uniform scores are below 1
        available = tf.reduce_sum(tf.cast(candidates, tf.int32), axis=1)
        wanted = tf.cast(tf.round(self.share * tf.cast(available, tf.float32)), tf.int32)
        wanted = tf.clip_by_value(wanted, 1, slots)
        threshold = tf.gather(tf.sort(scores, axis=1), wanted[:, None] - 1, batch_dims=1)
        chosen = candidates & (scores <= threshold)
        below = candidates & (scores < threshold)
        too_many = tf.reduce_sum(tf.cast(chosen, tf.int32), axis=1, keepdims=True) > slots
        return tf.where(too_many & tf.reduce_any(below, axis=1, keepdims=True), below, chosen)

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


def _uniform(seeds: tf.Tensor, count: int, length: int) -> tf.Tensor:
    """[B, count, length] float32 in [0, 1): each row from its own seed."""
    return tf.map_fn(
        lambda seed: tf.random.stateless_uniform([count, length], seed),
        seeds,
        fn_output_signature=tf.TensorSpec([count, length], tf.float32),
    )
