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

SHARE_SCALE = 10.0  # of the weights of shares, so that a rate made for matrices moves them
FIRST_SHARE_WEIGHTS = [-0.5, -0.3, 0.2]  # of the greater share, of the lesser one, and alone
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
class WordMatchHead(keras.layers.Layer):
    """Does B follow A, judged by the words that both have? Logits that join those of NextSentenceHead.

    The share of each part that stands in the other one too is told, where rare words count more than frequent ones: a
    word of probability p counts p ** -rarity, and rarity is learned.

    Shapes:
      token_ids       [B, T]     int32
      token_type_ids  [B, T]     int32    0 = A, 1 = B
      sequence_ids    [B, T]     int32    0 = padding, k = k-th sequence of the row
      num_sequences   int                 S
      returns         [B, S, 2]  float32  logits; 0 for a sequence that has one part only

    Attributes:
      log_probabilities: [V] float32, of the words in the corpus (natural log), set by BertPretrainer.start_from_counts;
        until then all words count alike.
    """

    def __init__(self, vocab_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocab_size = vocab_size

    def build(self, input_shape: Any) -> None:
        """Makes the weights."""
        self.log_probabilities = self.add_weight(
            shape=(self.vocab_size,), initializer="zeros", name="log_probabilities", trainable=False, autocast=False
        )
        half, first = keras.initializers.Constant(0.5), keras.initializers.Constant(FIRST_SHARE_WEIGHTS)
        self.rarity = self.add_weight(shape=(), initializer=half, name="rarity", autocast=False)
        self.share_weights = self.add_weight(shape=(3,), initializer=first, name="share_weights", autocast=False)

    def call(self, token_ids: Any, token_type_ids: Any, sequence_ids: Any, num_sequences: int) -> Any:
        """See the class for shapes."""
        is_same_pair = (sequence_ids[:, :, None] == sequence_ids[:, None]) & (sequence_ids > 0)[:, None]
        is_other_part = is_same_pair & (token_type_ids[:, :, None] != token_type_ids[:, None])
        is_same_word = token_ids[:, :, None] == token_ids[:, None]
        is_matched = tf.cast(tf.reduce_any(is_other_part & is_same_word, axis=-1), tf.float32)
        parts = tf.where(tf.reduce_any(is_other_part, axis=-1), 2 * (sequence_ids - 1) + token_type_ids, -1)
        counts = tf.exp(-self.rarity.value * tf.gather(self.log_probabilities.value, token_ids))
        counts = tf.one_hot(parts, 2 * num_sequences) * counts[:, :, None]  # two parts of each sequence
        totals = tf.reduce_sum(counts, axis=1)
        shares = tf.math.divide_no_nan(tf.einsum("bt,btp->bp", is_matched, counts), totals)
        shares, has_part = (tf.reshape(each, [-1, num_sequences, 2]) for each in (shares, totals > 0))
        features = tf.stack([tf.reduce_max(shares, -1), tf.reduce_min(shares, -1), tf.ones_like(shares[..., 0])], -1)
        is_random = SHARE_SCALE * tf.linalg.matvec(features, self.share_weights.value)
        is_random *= tf.cast(tf.reduce_all(has_part, axis=-1), tf.float32)
        return tf.stack([-is_random, is_random], axis=-1) / 2

    def get_config(self) -> dict[str, Any]:
        """What the constructor took."""
        return {**super().get_config(), "vocab_size": self.vocab_size}


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
