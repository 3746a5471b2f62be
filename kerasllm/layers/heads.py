"""What stands on top of the stack? The pooler and the heads that score words, sentence pairs and labels."""

from typing import Any

import keras
import tensorflow as tf

from kerasllm.config import Backbone
from kerasllm.layers.activations import activate
from kerasllm.layers.dropout import drop
from kerasllm.layers.initializers import STDDEV, initializer_for
from kerasllm.layers.normalization import make_norm
from kerasllm.layers.projection import Projection, dimensions

# B batch, T tokens, M masked slots, S sequences of a row, D hidden width, V vocabulary, C classes

CLASSIFIER_DROPOUT_INDEX = 1_000_000  # far above any layer's


def tied_logits(hidden: Any, word_table: Any, bias: Any = None) -> Any:
    """Scores every word by its embedding: [..., D] and [V, D] -> [..., V] float32 (Press & Wolf 2017)."""
    flat = tf.reshape(hidden, [-1, word_table.shape[1]])
    logits = tf.cast(tf.matmul(flat, tf.cast(word_table, hidden.dtype), transpose_b=True), tf.float32)
    if bias is not None:
        logits = tf.nn.bias_add(logits, bias)
    return tf.reshape(logits, [*dimensions(hidden)[:-1], word_table.shape[0]])


@keras.saving.register_keras_serializable(package="kerasllm")
class Pooler(keras.layers.Layer):
    """tanh(x W + b) of the first token of a sequence: [..., D] -> [..., D] (Devlin et al. 2019)."""

    def __init__(self, options: Backbone | dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.options = Backbone.model_validate(options)
        self.projection = Projection(
            self.options.hidden_dim,
            initializer=initializer_for(self.options),
            name="projection",
            dtype=self.dtype_policy,
        )

    def build(self, input_shape: Any) -> None:
        """Makes the weights."""
        self.projection.build(input_shape)

    def call(self, first: Any) -> Any:
        """See the class for shapes."""
        return tf.tanh(self.projection(first))

    def get_config(self) -> dict[str, Any]:
        """What the constructor took."""
        return {**super().get_config(), "options": self.options.model_dump()}


@keras.saving.register_keras_serializable(package="kerasllm")
class MaskedLMHead(keras.layers.Layer):
    """Scores every vocabulary word at each masked slot; only these slots are computed.

    Shapes:
      hidden      [B, T, D]  float    last layer of the encoder
      positions   [B, M]     int32    index into T; empty slots may hold 0, the loss gives them weight 0
      word_table  [V, D]     float32  the backbone's word embeddings
      returns     [B, M, V]  float32  logits (natural log), float32 under every dtype policy

    Source: Devlin et al. 2019, section 3.1; tying: Press & Wolf 2017.
    """

    def __init__(self, vocab_size: int, options: Backbone | dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.options = Backbone.model_validate(options)
        self.transform = Projection(
            self.options.hidden_dim,
            initializer=initializer_for(self.options),
            name="transform",
            dtype=self.dtype_policy,
        )
        self.norm = make_norm(self.options.norm, self.options.norm_epsilon, name="norm", dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        """Makes the weights."""
        self.transform.build(input_shape)
        self.norm.build(input_shape)
        self.bias = self.add_weight(shape=(self.vocab_size,), initializer="zeros", name="bias", autocast=False)

    def call(self, hidden: Any, positions: Any, word_table: Any, training: bool = False) -> Any:
        """See the class for shapes."""
        slots = self.transform(tf.gather(hidden, positions, batch_dims=1))
        activation = "gelu_tanh" if self.options.activation == "gelu_tanh" else "gelu"  # a gate needs twice the width
        slots = self.norm(activate(slots, activation, training), training=training)
        return tied_logits(slots, word_table, self.bias.value)

    def get_config(self) -> dict[str, Any]:
        """What the constructor took."""
        return {**super().get_config(), "vocab_size": self.vocab_size, "options": self.options.model_dump()}


@keras.saving.register_keras_serializable(package="kerasllm")
class NextSentenceHead(keras.layers.Layer):
    """Does B follow A? [..., D] pooled -> [..., 2] float32 logits: 0 = it does, 1 = B is random (Devlin et al.)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        initializer = keras.initializers.TruncatedNormal(stddev=STDDEV)
        self.projection = Projection(2, initializer=initializer, name="projection", dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        """Makes the weights."""
        self.projection.build(input_shape)

    def call(self, pooled: Any) -> Any:
        """See the class for shapes."""
        return tf.cast(self.projection(pooled), tf.float32)


@keras.saving.register_keras_serializable(package="kerasllm")
class ClassificationHead(keras.layers.Layer):
    """Dropout and one product: [B, D] pooled -> [B, C] float32 logits (Devlin et al. 2019, section 4.1)."""

    def __init__(self, num_classes: int, dropout: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.dropout = dropout
        initializer = keras.initializers.TruncatedNormal(stddev=STDDEV)
        self.projection = Projection(num_classes, initializer=initializer, name="projection", dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        """Makes the weights."""
        self.projection.build(input_shape)

    def call(self, pooled: Any, dropout_seed: Any = None) -> Any:
        """See the class for shapes."""
        pooled = drop(pooled, self.dropout, dropout_seed, CLASSIFIER_DROPOUT_INDEX)
        return tf.cast(self.projection(pooled), tf.float32)

    def get_config(self) -> dict[str, Any]:
        """What the constructor took."""
        return {**super().get_config(), "num_classes": self.num_classes, "dropout": self.dropout}
