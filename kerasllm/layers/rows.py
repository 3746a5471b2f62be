"""Where do the tokens stand among the padding? So that a model computes the tokens alone."""

from typing import Any, NamedTuple

import tensorflow as tf

from kerasllm.layers.projection import dimensions

# B batch, T tokens of a row, N tokens of all rows together


class TokenRows(NamedTuple):
    """Tokens of rows of unequal length, one after another, and their places in the padded rows.

    Attributes:
      places: [N] int32, of each token in the rows put end to end.
      tokens: [B, T] int32, at each place the number of its token; at padding that of the token before it.
    """

    places: Any
    tokens: Any

    def without_padding(self, rows: Any) -> Any:
        """[B, T, ...] -> [N, ...]."""
        return tf.gather(tf.reshape(rows, [-1, *dimensions(rows)[2:]]), self.places)

    def with_padding(self, values: Any) -> Any:
        """[N, ...] -> [B, T, ...]; padding holds copies of the token before it."""
        return tf.gather(values, self.tokens)


def token_rows(sequence_ids: Any) -> TokenRows:
    """The rows of sequence_ids [B, T] int32, where 0 is padding; the first row begins with a token."""
    is_token = tf.reshape(sequence_ids > 0, [-1])
    numbers = tf.cumsum(tf.cast(is_token, tf.int32)) - 1
    return TokenRows(tf.cast(tf.where(is_token)[:, 0], tf.int32), tf.reshape(numbers, tf.shape(sequence_ids)))
