"""How do token ids become vectors? The sum of word, position and token-type embeddings."""

from typing import Any

import keras
import tensorflow as tf

from kerasllm.config import Backbone
from kerasllm.layers.dropout import drop
from kerasllm.layers.initializers import initializer_for
from kerasllm.layers.normalization import make_norm
from kerasllm.layers.positions import sinusoidal_table

# B batch, T tokens, D hidden width, V vocabulary


@keras.saving.register_keras_serializable(package="kerasllm")
class TextEmbedding(keras.layers.Layer):
    """Word + position + token type, then (post norm only) a norm, then dropout.

    The rows of the tables are added in float32 under every policy and the sum is cast once. Gradients are dense in
    training: the word table also scores the outputs, and one dense sum is cheaper than joining a sparse gradient to it.

    Shapes:
      token_ids, token_type_ids   [B, T] int32, or [N]: tokens without rows
      position_ids                [B or 1, T] or [N] int32, below options.max_length
      dropout_seed                [2] int32 or None
      returns                     [B, T, D] or [N, D]  the compute dtype

    Source: Devlin et al. 2019, section 3.2.
    """

    def __init__(self, vocab_size: int, options: Backbone | dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.options = Backbone.model_validate(options)
        self.norm = None
        if self.options.norm_order == "post":
            self.norm = make_norm(
                self.options.norm, self.options.norm_epsilon, name="embedding_norm", dtype=self.dtype_policy
            )

    def build(self, input_shape: Any) -> None:
        """Makes the weights."""
        self.word_table = self._table("word_table", self.vocab_size)
        self.position_table = (
            self._table("position_table", self.options.max_length) if self.options.positions == "learned" else None
        )
        self.token_type_table = (
            self._table("token_type_table", self.options.num_token_types) if self.options.num_token_types else None
        )
        if self.norm is not None:
            self.norm.build((None, None, self.options.hidden_dim))

    def _table(self, name: str, num_rows: int) -> Any:
        shape = (num_rows, self.options.hidden_dim)
        return self.add_weight(shape=shape, initializer=initializer_for(self.options), name=name, autocast=False)

    def call(
        self,
        token_ids: Any,
        position_ids: Any = None,
        token_type_ids: Any = None,
        dropout_seed: Any = None,
        training: bool = False,
    ) -> Any:
        """See the class for shapes."""

        def rows(table: Any, ids: Any) -> Any:
            # Of the value, not of the variable: a variable that rows are read from copies itself at every other reading
            value = tf.convert_to_tensor(table.value)
            return tf.cast((lookup if training else tf.gather)(value, ids), tf.float32)

        result = rows(self.word_table, token_ids)
        if self.position_table is not None:
            result += rows(self.position_table, position_ids)
        elif self.options.positions == "sinusoidal":
            table = sinusoidal_table(self.options.max_length, self.options.hidden_dim)
            result += tf.gather(tf.constant(table), position_ids)
        if self.token_type_table is not None:
            if token_type_ids is None:
                result += rows(self.token_type_table, 0)
            else:
                result += rows(self.token_type_table, token_type_ids)
        result = tf.cast(result, self.compute_dtype)
        if self.norm is not None:
            result = self.norm(result, training=training)
        return drop(result, self.options.dropout, dropout_seed, index=0)

    def get_config(self) -> dict[str, Any]:
        """What the constructor took."""
        return {**super().get_config(), "vocab_size": self.vocab_size, "options": self.options.model_dump()}


def lookup(table: Any, ids: Any) -> Any:
    """Rows [..., D] of `table` [V, D] float32 at `ids` [...]; the gradient of the table is dense."""

    @tf.custom_gradient
    def gather(table: Any) -> Any:
        def gradient(upstream: Any) -> Any:
            return tf.math.unsorted_segment_sum(upstream, ids, tf.shape(table)[0])

        return tf.gather(table, ids), gradient

    return gather(table)
