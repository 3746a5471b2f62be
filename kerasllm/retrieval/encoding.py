"""How do texts become embeddings, and pairs become scores, with a trained model? In the graph and by the list."""

# N texts, B texts of a call, D width of an embedding

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from kerasllm.config import Run
from kerasllm.text import Tokenizer, pack_pairs, pack_texts
from kerasllm.trained import SHAPES_MULTIPLE, Trained

Side = Literal["query", "passage"]


def text_encoder(trained: Trained, which: Side) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function for the graph: texts [B] string -> embeddings [B, D] float32 of length 1.

    Args:
      trained: of a text_matching run.
      which: says where texts are cut, at matching.query_length or at matching.passage_length tokens.
    """
    length, tokenizer, model = _length(trained.run, which), trained.tokenizer, trained.model

    def encode(texts: tf.Tensor) -> tf.Tensor:
        embeddings: tf.Tensor = model(_trimmed(pack_texts(tokenizer, texts, length)), training=False)["embeddings"]
        return embeddings

    return encode


def pair_scorer(trained: Trained) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """A function for the graph: queries [B] and passages [B] string -> scores [B] float32, from a reranking run."""
    length, tokenizer, model = trained.run.train.sequence_length, trained.tokenizer, trained.model

    def score(queries: tf.Tensor, passages: tf.Tensor) -> tf.Tensor:
        rows = _trimmed(pack_pairs(tokenizer, queries, passages, length))
        scores: tf.Tensor = model(rows, training=False)["scores"]
        return scores

    return score


def embed_texts(trained: Trained, texts: Sequence[str], which: Side, batch: int = 64) -> np.ndarray:
    """Embeddings [N, D] float32 of length 1; `trained` and `which` as in `text_encoder`."""
    width = trained.run.backbone.hidden_dim
    return _by_length(trained.tokenizer, text_encoder(trained, which), [texts], batch, [width])


def score_pairs(trained: Trained, queries: Sequence[str], passages: Sequence[str], batch: int = 64) -> np.ndarray:
    """Scores [N] float32 of pairs, from a reranking run."""
    return _by_length(trained.tokenizer, pair_scorer(trained), [queries, passages], batch, [])


def _by_length(
    tokenizer: Tokenizer, compute: Callable[..., Any], columns: list[Sequence[str]], batch: int, shape: list[int]
) -> np.ndarray:
    """Computes rows of like length together, so that little padding is computed; results in the order given."""
    count = len(columns[0])
    results = np.zeros([count, *shape], np.float32)
    texts = [tf.constant(column, tf.string, [count]) for column in columns]
    lengths = sum(tokenizer.tokenize(column).row_lengths() for column in texts)
    order = np.argsort(np.asarray(lengths), kind="stable")
    strings = [tf.TensorSpec([None], tf.string)] * len(columns)
    compiled = tf.function(
        compute, input_signature=strings
    ).get_concrete_function()  # without it: warnings of retracing
    for start in range(0, count, batch):
        chosen = order[start : start + batch]
        results[chosen] = compiled(*(tf.gather(column, chosen) for column in texts)).numpy()
    return results


def _trimmed(rows: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Rows as long as the longest of the batch, rounded up: few shapes."""
    longest = tf.maximum(tf.reduce_max(tf.reduce_sum(rows["sequence_ids"], axis=1)), 1)  # of an empty batch too
    width = -(-longest // SHAPES_MULTIPLE) * SHAPES_MULTIPLE
    return {key: values[:, :width] for key, values in rows.items()}


def _length(run: Run, which: Side) -> int:
    return run.matching.query_length if which == "query" else run.matching.passage_length
