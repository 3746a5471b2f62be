"""Where do the tokens stand among the padding? So that a model computes the tokens alone."""

from typing import Any, NamedTuple

import tensorflow as tf

from kerasllm.layers.projection import dimensions

# B batch, T tokens of a row, N tokens of all rows together, H heads, K width of a head


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

    def heads(self, values: Any, counts: list[int]) -> list[Any]:
        """[N, sum(counts) * K] -> [B, count, T, K] for each count of heads, one gather each in place of a transpose."""
        total = sum(counts)
        parts = tf.reshape(values, [-1, values.shape[-1] // total])
        numbers = tf.split(tf.range(total), counts)
        return [tf.gather(parts, self.tokens[:, None] * total + each[:, None]) for each in numbers]

    def without_heads(self, context: Any) -> Any:
        """[B, H, T, K] -> [N, H * K]."""
        _, num_heads, _, width = context.shape
        length = tf.shape(self.tokens)[1]
        row, column = (self.places // length)[:, None], (self.places % length)[:, None]
        places = (row * num_heads + tf.range(num_heads)) * length + column
        return tf.reshape(tf.gather(tf.reshape(context, [-1, width]), places), [-1, num_heads * width])


def token_rows(sequence_ids: Any) -> TokenRows:
    """The rows of sequence_ids [B, T] int32, where 0 is padding; the first row begins with a token."""
    is_token = tf.reshape(sequence_ids > 0, [-1])
    numbers = tf.cumsum(tf.cast(is_token, tf.int32)) - 1
    return TokenRows(tf.cast(tf.where(is_token)[:, 0], tf.int32), tf.reshape(numbers, tf.shape(sequence_ids)))
