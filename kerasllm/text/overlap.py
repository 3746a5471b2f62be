"""How much of a text stands in other texts? The share of its runs of tokens that each of them has too, in-graph."""

# B texts, K others of each, G tokens of the longest text, R of the longest other

from typing import Any

import tensorflow as tf

from kerasllm.text.interface import Tokenizer

RUN_TOKENS = 3  # shorter runs are of any text


def shares_in(tokenizer: Tokenizer, texts: Any, others: Any) -> Any:
    """The share of each text's runs of three tokens that stand in each of its others: [B, K] float32.

    A text of fewer tokens has no run, and shares nothing: 0.

    Args:
      tokenizer: cuts both.
      texts: [B] string.
      others: [B, K] string.
    """
    own, is_own = _runs(tokenizer, texts)
    there, is_there = (
        tf.reshape(column, tf.concat([tf.shape(others), tf.shape(column)[1:]], axis=0))
        for column in _runs(tokenizer, tf.reshape(others, [-1]))
    )
    is_shared = tf.reduce_any((own[:, None, :, None] == there[:, :, None]) & is_there[:, :, None], axis=-1)  # [B, K, G]
    num_shared = tf.reduce_sum(tf.cast(is_shared & is_own[:, None], tf.float32), axis=-1)
    return tf.math.divide_no_nan(num_shared, tf.reduce_sum(tf.cast(is_own, tf.float32), axis=-1)[:, None])


def agreement(tokenizer: Tokenizer, texts: Any, others: Any) -> Any:
    """How nearly two texts say the same: 2 x shared runs / all runs, their F1: [B] float32.

    Args:
      tokenizer: cuts both.
      texts: [B] string.
      others: [B] string; two of the same are 1, whatever they are.
    """
    precision = shares_in(tokenizer, texts, others[:, None])[:, 0]
    recall = shares_in(tokenizer, others, texts[:, None])[:, 0]
    both = tf.math.divide_no_nan(2 * precision * recall, precision + recall)
    return tf.where(tf.equal(texts, others), 1.0, both)


def _runs(tokenizer: Tokenizer, texts: Any) -> tuple[Any, Any]:
    """Runs of tokens as numbers [N, G] int64, and which of them there are [N, G] bool."""
    ids = tokenizer.tokenize(texts)
    padded = tf.cast(tf.pad(ids.to_tensor(), [[0, 0], [0, RUN_TOKENS]]), tf.int64)
    width = tf.shape(padded)[1] - RUN_TOKENS
    numbers = tf.zeros_like(padded[:, :width])
    for offset in range(RUN_TOKENS):
        numbers = numbers * tokenizer.vocab_size + padded[:, offset : offset + width]
    return numbers, tf.range(width) < (tf.cast(ids.row_lengths(), tf.int32) - (RUN_TOKENS - 1))[:, None]
