"""What is predicted from a backbone? Masked words and next sentences, the next word, or labels."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasllm.layers import (
    ClassificationHead,
    MaskedLMHead,
    NextSentenceHead,
    WordMatchHead,
    draw_seed,
    tied_logits,
)
from kerasllm.models.backbone import TransformerBackbone
from kerasllm.models.bert import BertBackbone
from kerasllm.models.gpt import GPTBackbone

# B batch, T tokens, M masked slots, S sequences of a row, V vocabulary, C classes

NO_WORD = 100.0  # log probability of special tokens where words are matched: they count nothing


class Task(keras.Model):
    """A backbone and what stands on it; whole when the constructor returns, as the backbone is."""

    def __init__(self, backbone: TransformerBackbone, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(dtype=dtype or backbone.dtype_policy, name=name)
        self.backbone = backbone

    def get_config(self) -> dict[str, Any]:
        """What the constructor took."""
        return {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Task":
        """A model of the same form with new weights."""
        backbone = keras.saving.deserialize_keras_object(config["backbone"], custom_objects)
        return cls(**{**config, "backbone": backbone})


@keras.saving.register_keras_serializable(package="kerasllm")
class BertPretrainer(Task):
    """Masked words and next sentences (Devlin et al. 2019), and labels of texts beside them (Liu et al. 2019, MT-DNN).

    Args:
      backbone: of BERT's kind.
      word_matches: next sentences are told by words that both parts have too, and not by the pooled [CLS] alone.
      num_classes: C of each labelled task by name; each reads the pooled [CLS] of a row's first sequence.
      dropout: before the last product of the labelled tasks.

    Shapes:
      inputs   BertBackbone's, and masked_positions [B, M] int32, pair_positions [B, S] int32 (optional: [[0]] * B)
      returns  {"masked_lm_logits": [B, M, V] float32, "next_sentence_logits": [B, S, 2] float32,
               "<task>_logits": [B, C] float32 for each labelled task}
    """

    def __init__(
        self,
        backbone: BertBackbone,
        word_matches: bool = False,
        num_classes: Mapping[str, int] | None = None,
        dropout: float = 0.1,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(backbone, name, dtype)
        self.masked_lm = MaskedLMHead(backbone.vocab_size, backbone.options, name="masked_lm", dtype=self.dtype_policy)
        self.next_sentence = NextSentenceHead(name="next_sentence", dtype=self.dtype_policy)
        self.word_matches = None
        if word_matches:
            self.word_matches = WordMatchHead(backbone.vocab_size, name="word_matches", dtype=self.dtype_policy)
        self.num_classes, self.dropout = dict(num_classes or {}), dropout
        self.heads = make_heads(self.num_classes, dropout, self.dtype_policy)
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Makes all variables; `input_shape` is not read."""
        self.masked_lm.build((None, None, self.backbone.options.hidden_dim))
        self.next_sentence.build((None, self.backbone.options.hidden_dim))
        if self.word_matches is not None:
            self.word_matches.build((None, None))
        for head in self.heads.values():
            head.build((None, self.backbone.options.hidden_dim))

    def start_from_counts(self, counts: Any, special_ids: Sequence[int]) -> None:
        """Tells a new model how frequent each word is, before its first step.

        The bias of the masked-word head becomes the log of the words' probabilities, so that the first steps need not
        learn them; word matches count rare words more, and special tokens not at all.

        Args:
          counts: [V] of each token in the training text.
          special_ids: token ids that are no words.
        """
        counts = np.asarray(counts, np.float64) + 1
        log_probabilities = np.log(counts / counts.sum())
        self.masked_lm.bias.assign(log_probabilities)
        if self.word_matches is not None:
            log_probabilities[list(special_ids)] = NO_WORD
            self.word_matches.log_probabilities.assign(log_probabilities)

    def call(self, inputs: dict[str, Any], training: bool = False, dropout_seed: Any = None) -> dict[str, Any]:
        """Scores the masked slots, the pairs and the labels; rows are packed if there is more than one pair slot."""
        dropout_seed = seed_for(self.dropout if self.heads else 0.0, training, dropout_seed)
        pair_positions = inputs.get("pair_positions")
        packed = pair_positions is not None and pair_positions.shape[1] != 1
        outputs = self.backbone(inputs, training=training, dropout_seed=dropout_seed, packed=packed)
        if packed:
            pooled = self.backbone.pooler(tf.gather(outputs["hidden"], pair_positions, batch_dims=1))
        else:
            pooled = outputs["pooled"][:, None]
        next_sentence = self.next_sentence(pooled)
        if self.word_matches is not None:
            zeros = tf.zeros_like(inputs["token_ids"])
            parts = inputs.get("token_type_ids", zeros), inputs.get("sequence_ids", zeros + 1)
            next_sentence += self.word_matches(inputs["token_ids"], *parts, num_sequences=pooled.shape[1])
        return {
            "masked_lm_logits": self.masked_lm(
                outputs["hidden"], inputs["masked_positions"], self.backbone.word_table, training=training
            ),
            "next_sentence_logits": next_sentence,
            **{f"{name}_logits": head(pooled[:, 0], dropout_seed) for name, head in self.heads.items()},
        }

    def get_config(self) -> dict[str, Any]:
        """What the constructor took."""
        return {
            **super().get_config(),
            "word_matches": self.word_matches is not None,
            "num_classes": self.num_classes,
            "dropout": self.dropout,
        }


@keras.saving.register_keras_serializable(package="kerasllm")
class GPTCausalLM(Task):
    """The next word at every token, scored by the word embeddings (Radford et al. 2019).

    Shapes:
      inputs   GPTBackbone's; with sequence_ids, documents of a row do not see each other
      returns  {"logits": [B, T, V] float32}
    """

    def __init__(self, backbone: GPTBackbone, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(backbone, name, dtype)
        self.built = True

    def call(self, inputs: dict[str, Any], training: bool = False, dropout_seed: Any = None) -> dict[str, Any]:
        """Scores the next word of every token."""
        packed = inputs.get("sequence_ids") is not None
        outputs = self.backbone(inputs, training=training, dropout_seed=dropout_seed, packed=packed)
        return {"logits": self.score(outputs["hidden"])}

    def score(self, hidden: Any) -> Any:
        """Hidden states [..., D] -> logits [..., V] float32."""
        return tied_logits(hidden, self.backbone.word_table)


@keras.saving.register_keras_serializable(package="kerasllm")
class TextClassifier(Task):
    """One label of each head for a text, from the pooled first token or from the mean of its tokens.

    Args:
      backbone: of BERT's kind.
      num_classes: C of each head by name; a plain number makes one head, "label".
      dropout: before the last product.
      pooling: "first" takes BERT's pooler (Devlin et al. 2019); "mean" averages the last layer over the real tokens, as
        sentence encoders do (Reimers & Gurevych 2019).

    Shapes:
      inputs   BertBackbone's
      returns  {"<head>_logits": [B, C] float32} for each head
    """

    def __init__(
        self,
        backbone: BertBackbone,
        num_classes: int | Mapping[str, int],
        dropout: float = 0.1,
        pooling: str = "first",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(backbone, name, dtype)
        assert pooling in ("first", "mean"), f"pooling={pooling!r} is neither 'first' nor 'mean'"
        self.num_classes = {"label": num_classes} if isinstance(num_classes, int) else dict(num_classes)
        self.dropout = dropout
        self.pooling = pooling
        self.heads = make_heads(self.num_classes, dropout, self.dtype_policy)
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Makes all variables; `input_shape` is not read."""
        for head in self.heads.values():
            head.build((None, self.backbone.options.hidden_dim))

    def call(self, inputs: dict[str, Any], training: bool = False, dropout_seed: Any = None) -> dict[str, Any]:
        """Scores the labels of every head."""
        dropout_seed = seed_for(self.dropout, training, dropout_seed)
        outputs = self.backbone(inputs, training=training, dropout_seed=dropout_seed)
        pooled = outputs["pooled"] if self.pooling == "first" else mean_of_tokens(outputs["hidden"], inputs)
        return {f"{name}_logits": head(pooled, dropout_seed) for name, head in self.heads.items()}

    def get_config(self) -> dict[str, Any]:
        """What the constructor took."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "dropout": self.dropout,
            "pooling": self.pooling,
        }


def make_heads(num_classes: Mapping[str, int], dropout: float, dtype: Any) -> dict[str, ClassificationHead]:
    """A new head for each name."""
    return {
        name: ClassificationHead(count, dropout, name=f"head_{name}", dtype=dtype)
        for name, count in num_classes.items()
    }


def seed_for(dropout: float, training: bool, dropout_seed: Any) -> Any:
    """The seed of a model that drops: none outside of training, and a new one where none is given."""
    if not training:
        return None
    return draw_seed() if dropout_seed is None and dropout > 0 else dropout_seed


def mean_of_tokens(hidden: Any, inputs: dict[str, Any]) -> Any:
    """Mean [B, D] of hidden [B, T, D] over the real tokens (sequence_ids > 0; all, where that is not given)."""
    sequence_ids = inputs.get("sequence_ids")
    if sequence_ids is None:
        return tf.reduce_mean(hidden, axis=1)
    is_real = tf.cast(sequence_ids > 0, tf.float32)[:, :, None]
    count = tf.maximum(tf.reduce_sum(is_real, axis=1), 1.0)  # a row that only fills up a batch has no token
    return tf.cast(tf.reduce_sum(tf.cast(hidden, tf.float32) * is_real, axis=1) / count, hidden.dtype)
