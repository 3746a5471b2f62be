"""What can be asked of an exported classifier? Strings or tf.train.Examples in, labels with probabilities out."""

# B texts, C classes

from collections.abc import Sequence

import keras
import tensorflow as tf

from kerasllm.text import Tokenizer, pack_texts

TEXT_FEATURE = "text"  # of the tf.train.Examples that Classify sends


class ClassifierSignatures(tf.Module):
    """The functions of an exported classifier.

    It tracks the plain variables behind the Keras ones: tracking the Keras model too would write every weight twice,
    and the version-1 loader of TensorFlow Serving would not find the copies.

    Args:
      model: called with token_ids, token_type_ids and sequence_ids, [B, T] int32 each; answers {"logits": [B, C]}.
      tokenizer: tokenizes in the graph.
      labels: C names in the order of the logits.
      sequence_length: tokens that a text is cut to; rows are padded to the longest of the batch.
    """

    def __init__(self, model: keras.Model, tokenizer: Tokenizer, labels: Sequence[str], sequence_length: int) -> None:
        super().__init__(name="classifier")
        self._tracked = [variable.value for variable in model.weights]
        self._tracked_text = tokenizer.assets
        self.sequence_length = sequence_length
        self.labels = tuple(labels)

        # The model is held by the closures alone: as an attribute tf.Module would track it.
        def probabilities(texts: tf.Tensor) -> tf.Tensor:
            packed = pack_texts(tokenizer, texts, sequence_length)
            num_tokens = tf.reduce_sum(packed["sequence_ids"], axis=1)
            longest = tf.maximum(tf.reduce_max(num_tokens), 2)  # 2: of an empty batch too
            logits = model({key: rows[:, :longest] for key, rows in packed.items()}, training=False)["logits"]
            return tf.nn.softmax(tf.cast(logits, tf.float32))

        self.probabilities = probabilities

    def predict(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Texts [B] string -> the likeliest label [B] string and probabilities [B, C] float32."""
        probabilities = self.probabilities(text)
        return {
            "label": tf.gather(tf.constant(self.labels), tf.argmax(probabilities, axis=-1)),
            "probabilities": probabilities,
        }

    def classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Serialized tf.train.Examples [B] -> classes [B, C] string and scores [B, C] float32, in the labels' order."""
        features = tf.io.parse_example(inputs, {TEXT_FEATURE: tf.io.FixedLenFeature([], tf.string)})
        scores = self.probabilities(features[TEXT_FEATURE])
        classes = tf.tile(tf.constant([self.labels]), [tf.shape(scores)[0], 1])
        return {"classes": classes, "scores": scores}

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The traced functions by signature name."""
        strings = tf.TensorSpec([None], tf.string)
        return {
            "serving_default": tf.function(self.predict, autograph=False).get_concrete_function(text=strings),
            "classify": tf.function(self.classify, autograph=False).get_concrete_function(inputs=strings),
        }
