"""What can be asked of an exported classifier? Strings or tf.train.Examples in, labels with probabilities out."""

# B texts, C classes

import contextlib
from collections.abc import Callable, Mapping

import keras
import tensorflow as tf

from kerasllm.config import LabelHead
from kerasllm.decisions import ClassDecision
from kerasllm.export.narrow import NarrowWeights
from kerasllm.text import Tokenizer, pack_texts

TEXT_FEATURE = "text"  # of the tf.train.Examples that Classify sends


class ClassifierSignatures(tf.Module):
    """The functions of an exported classifier.

    It tracks the plain variables behind the Keras ones: tracking the Keras model too would write every weight twice,
    and the version-1 loader of TensorFlow Serving would not find the copies.

    Args:
      model: called with token_ids, token_type_ids and sequence_ids, [B, T] int32 each; answers
        {"<head>_logits": [B, C]}.
      tokenizer: tokenizes in the graph.
      heads: by name; their labels in the order of the logits.
      sequence_length: tokens that a text is cut to; rows are padded to the longest of the batch.
      decisions: by head, what is concluded from its logits.
      bfloat16_weights: stores matrices as bfloat16 and computes with what comes out of that.

    Attributes:
      stored: the variables on disk.
    """

    def __init__(
        self,
        model: keras.Model,
        tokenizer: Tokenizer,
        heads: Mapping[str, LabelHead],
        sequence_length: int,
        decisions: Mapping[str, ClassDecision],
        bfloat16_weights: bool = False,
    ) -> None:
        super().__init__(name="classifier")
        narrow = NarrowWeights(model) if bfloat16_weights else None
        self._tracked = narrow.tracked if narrow else [variable.value for variable in model.weights]
        self.stored = narrow.stored if narrow else self._tracked
        self._tracked_text = tokenizer.assets
        self.sequence_length = sequence_length
        self.labels = {name: head.labels for name, head in heads.items()}
        self._decided = {name: decided_in_graph(decisions[name]) for name in heads}

        # The model is held by the closures alone: as an attribute tf.Module would track it.
        def pack(texts: tf.Tensor) -> dict[str, tf.Tensor]:
            return pack_to_longest(tokenizer, texts, sequence_length)

        def logits(texts: tf.Tensor) -> dict[str, tf.Tensor]:
            with narrow.in_place() if narrow else contextlib.nullcontext():
                outputs = model(pack(texts), training=False)
            return {name: tf.cast(outputs[f"{name}_logits"], tf.float32) for name in heads}

        self.pack, self.logits = pack, logits

    def predict(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Texts [B] string -> for each head label [B] string, probabilities [B, C], in_set [B, C] and abstain [B] bool.

        Where texts out of scope are told, also out_of_scope [B] bool. The names carry the prefix `<head>_` where there
        are several heads.
        """
        answers = {}
        for name, logits in self.logits(text).items():
            prefix = f"{name}_" if len(self.labels) > 1 else ""
            for key, value in self._decided[name](logits).items():
                answers[f"{prefix}{key}"] = value
            likeliest = tf.argmax(answers[f"{prefix}probabilities"], axis=-1)
            answers[f"{prefix}label"] = tf.gather(tf.constant(self.labels[name]), likeliest)
        return answers

    def classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Serialized tf.train.Examples [B] -> classes [B, C] string and scores [B, C] float32 of the first head."""
        features = tf.io.parse_example(inputs, {TEXT_FEATURE: tf.io.FixedLenFeature([], tf.string)})
        name, labels = next(iter(self.labels.items()))
        scores = self._decided[name](self.logits(features[TEXT_FEATURE])[name])["probabilities"]
        return {"classes": tf.tile(tf.constant([labels]), [tf.shape(scores)[0], 1]), "scores": scores}

    def name_labels(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Any texts [B] string -> for each head labels [B, C] string, the names of the columns of its probabilities."""
        several = len(self.labels) > 1
        return {
            f"{name}_labels" if several else "labels": tf.tile(tf.constant([labels]), [tf.shape(text)[0], 1])
            for name, labels in self.labels.items()
        }

    def token_ids(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Texts [B] string -> token_ids [B, T] int32 as the model sees them, padded to the longest of the batch."""
        return {"token_ids": self.pack(text)["token_ids"]}

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The traced functions by signature name."""
        strings = tf.TensorSpec([None], tf.string)
        return {
            "serving_default": tf.function(self.predict, autograph=False).get_concrete_function(text=strings),
            "classify": tf.function(self.classify, autograph=False).get_concrete_function(inputs=strings),
            "labels": tf.function(self.name_labels, autograph=False).get_concrete_function(text=strings),
            "token_ids": tf.function(self.token_ids, autograph=False).get_concrete_function(text=strings),
        }


def pack_to_longest(tokenizer: Tokenizer, texts: tf.Tensor, sequence_length: int) -> dict[str, tf.Tensor]:
    """As pack_texts; rows are as long as the longest text of the batch, and 2 tokens long in an empty batch."""
    packed = pack_texts(tokenizer, texts, sequence_length)
    longest = tf.maximum(tf.reduce_max(tf.reduce_sum(packed["sequence_ids"], axis=1)), 2)
    return {key: rows[:, :longest] for key, rows in packed.items()}


def decided_in_graph(decision: ClassDecision) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """ClassDecision for a graph: of logits [B, C] its probabilities, in_set, abstain and, where told, out_of_scope."""

    def decide(logits: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = tf.nn.softmax(logits / decision.temperature)
        needed = tf.maximum(tf.constant(decision.thresholds, tf.float32), decision.abstain_below)
        top, highest = tf.argmax(probabilities, axis=-1), tf.reduce_max(probabilities, axis=-1)
        is_top = tf.one_hot(top, len(decision.thresholds), on_value=True, off_value=False)
        decided = {
            "probabilities": probabilities,
            "in_set": (1.0 - probabilities <= decision.conformal) | is_top,
            "abstain": highest < tf.gather(needed, top),
        }
        if decision.scope_below is not None:
            score = highest if decision.scope_score == "probability" else tf.reduce_logsumexp(logits, axis=-1)
            decided["out_of_scope"] = score < decision.scope_below
        return decided

    return decide
