"""How are two texts compared? One embedding for each (dual encoder), or one score for the pair (cross-encoder)."""

from typing import Any

import keras
import tensorflow as tf

from kerasllm.layers import ClassificationHead, draw_seed
from kerasllm.layers.projection import dimensions
from kerasllm.models.bert import BertBackbone
from kerasllm.models.tasks import Task, mean_of_tokens

# B rows, T tokens, K hard negatives of a query, D hidden width

TEXT_KEYS = ("token_ids", "token_type_ids", "sequence_ids")


@keras.saving.register_keras_serializable(package="kerasllm")
class TextEncoder(Task):
    """A dual encoder whose two towers share their weights: texts that belong together have near embeddings.

    Args:
      backbone: of BERT's kind.
      pooling: "mean" averages the last layer over the real tokens (Reimers & Gurevych 2019); "first" takes [CLS].

    Shapes:
      inputs   token_ids, token_type_ids, sequence_ids [B, T] int32
      returns  {"embeddings": [B, D] float32 of length 1}
    or, for training, the same keys behind "query_" [B, T] and "passage_" [B, 1 + K, T]
      returns  {"query_embeddings": [B, D], "passage_embeddings": [B, 1 + K, D]}

    Source: Karpukhin et al. 2020 (DPR); one tower for both sides as in Reimers & Gurevych 2019.
    """

    def __init__(
        self, backbone: BertBackbone, pooling: str = "mean", name: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__(backbone, name, dtype)
        assert pooling in ("first", "mean"), f"pooling={pooling!r} is neither 'first' nor 'mean'"
        self.pooling = pooling
        self.built = True

    def call(self, inputs: dict[str, Any], training: bool = False, dropout_seed: Any = None) -> dict[str, Any]:
        """Embeds texts, or the queries and passages of a training batch."""
        if "token_ids" in inputs:
            return {"embeddings": self._embed(inputs, training, dropout_seed)}
        if training and dropout_seed is None:
            dropout_seed = draw_seed()
        queries = {key: inputs[f"query_{key}"] for key in TEXT_KEYS}
        passages = {key: _flat(inputs[f"passage_{key}"]) for key in TEXT_KEYS}
        embeddings = self._embed(passages, training, _other(dropout_seed))
        leading = dimensions(inputs["passage_token_ids"])[:-1]
        return {
            "query_embeddings": self._embed(queries, training, dropout_seed),
            "passage_embeddings": tf.reshape(embeddings, [*leading, embeddings.shape[-1]]),
        }

    def _embed(self, inputs: dict[str, Any], training: bool, dropout_seed: Any) -> Any:
        hidden = self.backbone(inputs, training=training, dropout_seed=dropout_seed)["hidden"]
        pooled = hidden[:, 0] if self.pooling == "first" else mean_of_tokens(hidden, inputs)
        return tf.math.l2_normalize(tf.cast(pooled, tf.float32), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """What the constructor took."""
        return {**super().get_config(), "pooling": self.pooling}


@keras.saving.register_keras_serializable(package="kerasllm")
class CrossEncoder(Task):
    """Scores how well the second text of a pair answers the first; sees both at once (Nogueira & Cho 2019).

    Args:
      backbone: of BERT's kind, with two token types.
      dropout: before the last product.
      pooling: "first" takes BERT's pooler, "mean" the mean of the real tokens.

    Shapes:
      inputs   token_ids, token_type_ids, sequence_ids [B, T] or [B, 1 + K, T] int32, packed by text.pack_pairs
      returns  {"scores": [B] or [B, 1 + K] float32}, logits that compare the candidates of one query
    """

    def __init__(
        self,
        backbone: BertBackbone,
        dropout: float = 0.1,
        pooling: str = "first",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(backbone, name, dtype)
        assert pooling in ("first", "mean"), f"pooling={pooling!r} is neither 'first' nor 'mean'"
        self.dropout = dropout
        self.pooling = pooling
        self.head = ClassificationHead(1, dropout, name="head", dtype=self.dtype_policy)
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Makes all variables; `input_shape` is not read."""
        self.head.build((None, self.backbone.options.hidden_dim))

    def call(self, inputs: dict[str, Any], training: bool = False, dropout_seed: Any = None) -> dict[str, Any]:
        """Scores the pairs."""
        if not training:
            dropout_seed = None
        elif dropout_seed is None and self.dropout > 0:
            dropout_seed = draw_seed()
        pairs = {key: _flat(inputs[key]) for key in TEXT_KEYS if key in inputs}
        outputs = self.backbone(pairs, training=training, dropout_seed=dropout_seed)
        pooled = outputs["pooled"] if self.pooling == "first" else mean_of_tokens(outputs["hidden"], pairs)
        return {"scores": tf.reshape(self.head(pooled, dropout_seed), dimensions(inputs["token_ids"])[:-1])}

    def get_config(self) -> dict[str, Any]:
        """What the constructor took."""
        return {**super().get_config(), "dropout": self.dropout, "pooling": self.pooling}


def _flat(rows: Any) -> Any:
    """[..., T] -> [rows, T]."""
    return tf.reshape(rows, [-1, dimensions(rows)[-1]])


def _other(seed: Any) -> Any:
    """A seed for the second tower: equal masks on both sides would tell which texts belong together."""
    return None if seed is None else tf.random.experimental.stateless_fold_in(seed, 1)
