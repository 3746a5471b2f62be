"""How does each token gather from the others? Self-attention with one product for query, key and value."""

import math
from typing import Any

import keras
import tensorflow as tf

from kerasllm.config import Backbone
from kerasllm.layers.dropout import keep_mask
from kerasllm.layers.initializers import initializer_for
from kerasllm.layers.positions import rotary_angles, rotate
from kerasllm.layers.projection import Projection, dimensions
from kerasllm.layers.rows import TokenRows

# B batch, T tokens, N tokens of all rows, S columns of a cache
# D hidden width, H query heads, G key-value heads, K = D / H width of a head

PENALTY = 1e9  # taken from a score; finite, so that a row with nothing allowed stays a number


def attention_penalty(sequence_ids: Any, length: Any, is_causal: bool, packed: bool, dtype: Any) -> Any:
    """What is taken from the scores: 0 where a query may look at a key, PENALTY elsewhere; None: all may.

    Taken from, not added to: product and sum become one operation of oneDNN, which is 50 times as slow for several rows
    that share a causal mask.

    Args:
      sequence_ids: [B, T] int32, 0 = padding, or None: no padding.
      length: T.
      is_causal: a query sees no later key.
      packed: a query sees only keys of its own sequence; without it, every key that is not padding.
      dtype: of the result.

    Returns: broadcastable to [B, H, T, T].
    """
    allowed = None
    if is_causal:
        allowed = tf.linalg.band_part(tf.ones([1, 1, length, length], tf.bool), -1, 0)
    if sequence_ids is not None:
        visible = (sequence_ids > 0)[:, None, None, :]
        if packed:
            visible &= (sequence_ids[:, :, None] == sequence_ids[:, None, :])[:, None]
        allowed = visible if allowed is None else allowed & visible
    if allowed is None:
        return None
    return (1 - tf.cast(allowed, dtype)) * tf.cast(PENALTY, dtype)


@keras.saving.register_keras_serializable(package="kerasllm")
class SelfAttention(keras.layers.Layer):
    """softmax(Q K^T / sqrt(K) - penalty) V, then the output product.

    Shapes:
      x              [B, T, D]  float; with rows: [N, D]
      penalty        broadcastable to [B, H, T, T], or None
      position_ids   [B or 1, T] int32; read for rotary positions only
      dropout_seed   [2] int32 or None: no dropout
      rows           where the N tokens stand in rows [B, T], or None: x has padding
      returns        of x's shape, in the compute dtype

    Source: Vaswani et al. 2017; fewer key-value heads: Ainslie et al. 2023.
    """

    def __init__(self, options: Backbone | dict[str, Any], index: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.options = Backbone.model_validate(options)
        self.index = index
        self.num_heads = self.options.num_heads
        self.num_groups = self.options.num_key_value_heads or self.num_heads
        self.head_dim = self.options.hidden_dim // self.num_heads
        projection_dim = (self.num_heads + 2 * self.num_groups) * self.head_dim
        common = {"use_bias": self.options.use_bias, "dtype": self.dtype_policy}
        self.query_key_value = Projection(
            projection_dim, initializer=initializer_for(self.options), name="query_key_value", **common
        )
        self.output_projection = Projection(
            self.options.hidden_dim,
            initializer=initializer_for(self.options, is_residual=True),
            name="output",
            **common,
        )

    def build(self, input_shape: Any) -> None:
        """Makes the weights."""
        self.query_key_value.build(input_shape)
        self.output_projection.build(input_shape)

    def call(
        self,
        x: Any,
        penalty: Any = None,
        position_ids: Any = None,
        dropout_seed: Any = None,
        training: bool = False,
        rows: TokenRows | None = None,
    ) -> Any:
        """See the class for shapes."""
        query, key, value = self._heads(x, position_ids, rows)
        keep = None
        if dropout_seed is not None and self.options.attention_dropout > 0:
            batch, length, _ = dimensions(x)
            shape = tf.stack([batch, self.num_heads, length, length])
            keep = keep_mask(shape, self.options.attention_dropout, dropout_seed, self.index, query.dtype)
        attend = _attend_for_training if training else _attend
        return self._output(attend(query, self._of_each_head(key), self._of_each_head(value), penalty, keep), rows)

    def prefill(self, x: Any, penalty: Any, position_ids: Any) -> tuple[Any, tuple[Any, Any]]:
        """As `call` without dropout, and the keys and values [B, G, T, K] that later tokens will look at."""
        query, key, value = self._heads(x, position_ids)
        context = _attend(query, self._of_each_head(key), self._of_each_head(value), penalty, None)
        return self._output(context), (key, value)

    def extend(
        self, x: Any, cache: tuple[Any, Any], columns: Any, penalty: Any, one_row: bool = False
    ) -> tuple[Any, tuple[Any, Any]]:
        """Attention of one new token a row to a cache of all before it, which it is written into.

        Args:
          x: [B, D].
          cache: keys and values [B, G, S, K] float32; their memory is written, so they may not be read again.
          columns: [B] int32, the new token's position, and its place in the cache.
          penalty: broadcastable to [B, 1, 1, 1, S], float32; forbids the columns after it.
          one_row: see Projection.

        Returns: [B, D], and the cache with the new token.
        """
        groups, heads = self.num_groups, self.num_heads
        projected = tf.reshape(self.query_key_value(x, one_row=one_row), [-1, heads + 2 * groups, self.head_dim])
        query, key, value = tf.split(projected, [heads, groups, groups], axis=1)
        if self.options.positions == "rotary":
            angles = rotary_angles(columns[:, None], self.head_dim)
            query, key = (rotate(one[:, :, None], *angles)[:, :, 0] for one in (query, key))
        heads_before = tf.range(tf.shape(x)[0])[:, None] * groups + tf.range(groups)
        places = tf.reshape(heads_before * tf.shape(cache[0])[2] + columns[:, None], [-1])
        keys, values = _written(cache[0], places, key), _written(cache[1], places, value)
        query = tf.cast(query, tf.float32) * (1 / math.sqrt(self.head_dim))
        query = tf.reshape(query, [-1, groups, heads // groups, 1, self.head_dim])  # heads of a group share its keys
        context = _attend_alone(query, keys[:, :, None], values[:, :, None], penalty)
        context = tf.reshape(tf.cast(context, x.dtype), [-1, self.options.hidden_dim])
        return self.output_projection(context, one_row=one_row), (keys, values)

    def _heads(self, x: Any, position_ids: Any, rows: TokenRows | None = None) -> tuple[Any, Any, Any]:
        """Query [B, H, T, K], scaled, and key and value [B, G, T, K]; query and key turned by their positions."""
        projected = self.query_key_value(x)
        batch, length = dimensions(x if rows is None else rows.tokens)[:2]
        if rows is not None:
            query, key, value = rows.heads(projected, [self.num_heads, self.num_groups, self.num_groups])
        elif self.num_groups == self.num_heads:
            stacked = tf.reshape(projected, [batch, length, 3, self.num_heads, self.head_dim])
            query, key, value = tf.unstack(tf.transpose(stacked, [2, 0, 3, 1, 4]))
        else:
            split = tf.reshape(projected, [batch, length, self.num_heads + 2 * self.num_groups, self.head_dim])
            sizes = [self.num_heads, self.num_groups, self.num_groups]
            query, key, value = tf.split(tf.transpose(split, [0, 2, 1, 3]), sizes, axis=1)
        if self.options.positions == "rotary":
            angles = rotary_angles(position_ids, self.head_dim)
            query, key = rotate(query, *angles), rotate(key, *angles)
        return query * tf.cast(1 / math.sqrt(self.head_dim), query.dtype), key, value

    def _of_each_head(self, groups: Any) -> Any:
        """[B, G, T, K] -> [B, H, T, K]: query head h looks at group h // (H / G)."""
        repeats = self.num_heads // self.num_groups
        return groups if repeats == 1 else tf.repeat(groups, repeats, axis=1)

    def _output(self, context: Any, rows: TokenRows | None = None) -> Any:
        """[B, H, T, K] -> [B, T, D], or [N, D] with rows, through the output product."""
        if rows is not None:
            return self.output_projection(rows.without_heads(context))
        batch, _, length, _ = dimensions(context)
        together = tf.reshape(tf.transpose(context, [0, 2, 1, 3]), [batch, length, self.options.hidden_dim])
        return self.output_projection(together)

    def get_config(self) -> dict[str, Any]:
        """What the constructor took."""
        return {**super().get_config(), "options": self.options.model_dump(), "index": self.index}


def _weights(query: Any, key: Any, penalty: Any) -> Any:
    """Softmax over keys; in bfloat16 the kernel itself sums in float32."""
    scores = tf.matmul(query, key, transpose_b=True)
    return tf.nn.softmax(scores if penalty is None else scores - penalty)


def _attend(query: Any, key: Any, value: Any, penalty: Any, keep: Any) -> Any:
    weights = _weights(query, key, penalty)
    return tf.matmul(weights if keep is None else weights * keep, value)


def _attend_alone(query: Any, key: Any, value: Any, penalty: Any) -> Any:
    """`_attend` of a single token in each row.

    In operations that oneDNN leaves alone: one token is too little to be worth its setting up, which costs ten times as
    much as the computing.
    """
    scores = tf.raw_ops.BatchMatMulV3(x=query, y=key, Tout=query.dtype, adj_y=True) - penalty
    return tf.raw_ops.BatchMatMulV3(x=tf.exp(tf.nn.log_softmax(scores)), y=value, Tout=query.dtype)


def _written(cache: Any, places: Any, new: Any) -> Any:
    """The cache [B, G, S, K] with a new key or value [B, G, K] at each place [B * G] among its columns, not copied."""
    head_dim = cache.shape[-1]
    columns, new = tf.reshape(cache, [-1, head_dim]), tf.reshape(tf.cast(new, cache.dtype), [-1, head_dim])
    return tf.reshape(tf.raw_ops.InplaceUpdate(x=columns, i=places, v=new), tf.shape(cache))


def _attend_for_training(query: Any, key: Any, value: Any, penalty: Any, keep: Any) -> Any:
    """The same with a written backward pass.

    The sum over keys that the softmax's derivative needs equals the product of the context with its gradient
    (Dao et al. 2022, appendix B.4), which is T / K times smaller than the one over the weights.
    """

    @tf.custom_gradient
    def attend(query: Any, key: Any, value: Any) -> Any:
        weights = _weights(query, key, penalty)
        kept = weights if keep is None else weights * keep
        context = tf.matmul(kept, value)

        def gradient(upstream: Any) -> Any:
            overlap = tf.reduce_sum(tf.cast(context * upstream, tf.float32), axis=-1, keepdims=True)
            to_kept = tf.matmul(upstream, value, transpose_b=True)
            to_scores = kept * to_kept - weights * tf.cast(overlap, weights.dtype)
            return (
                tf.matmul(to_scores, key),
                tf.matmul(to_scores, query, transpose_a=True),
                tf.matmul(kept, upstream, transpose_a=True),
            )

        return context, gradient

    return attend(query, key, value)
