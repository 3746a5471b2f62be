"""Which replies fit a query? Exact search over embeddings, fused with BM25, as one graph that a SavedModel holds."""

# B queries, A replies, E entries, D width of an embedding, K replies wanted

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from kerasllm.errors import DataError
from kerasllm.retrieval.encoding import embed_texts, text_encoder
from kerasllm.retrieval.lexical import LexicalIndex
from kerasllm.text.slots import has_chinese
from kerasllm.text.turns import newest_turns
from kerasllm.trained import Trained

RANK_OFFSET = 60.0  # of reciprocal ranks (Cormack et al. 2009)

Fusion = Literal["dense", "weighted", "reciprocal_rank"]


class ReplyIndex(tf.Module):
    """Finds the replies nearest to a query. A new index over other replies needs no training, only this constructor.

    A reply is found by its entries: its own text, and the questions that it has answered before. It scores as its best
    entry does.

    An exporting tf.Module holds the index as an attribute; the weights behind it are tracked once. `variable_bytes`
    is what it adds to an export.

    Args:
      trained: of a text_matching run.
      replies: A texts.
      entries: E texts that are searched; None: the replies themselves.
      owners: [E] the reply that each entry stands for; needed with `entries`.
      fusion: "dense": the cosine alone; "weighted": dense_share * cosine + (1 - dense_share) * BM25 as a share of the
        best BM25 of the query; "reciprocal_rank": sum of 1 / (60 + rank) of both, a reply without a common word has
        only its dense rank (Cormack et al. 2009).
      dense_share: of "weighted".
      same_language: a reply in Chinese fits queries whose newest turn has Chinese characters, another one those
        without; what does not fit has cosine -1 and BM25 0.

    Raises:
      DataError: there is no reply, or a reply without an entry.
    """

    def __init__(
        self,
        trained: Trained,
        replies: Sequence[str],
        entries: Sequence[str] | None = None,
        owners: Sequence[int] | np.ndarray | None = None,
        *,
        fusion: Fusion = "dense",
        dense_share: float = 0.5,
        same_language: bool = False,
    ) -> None:
        super().__init__(name="reply_index")
        assert (entries is None) == (owners is None), "entries and owners belong together"
        assert fusion in ("dense", "weighted", "reciprocal_rank"), f"fusion={fusion!r} is not known"
        entries = list(replies) if entries is None else list(entries)
        owners = np.arange(len(replies)) if owners is None else np.asarray(owners)
        _check(replies, entries, owners)
        self.num_replies, self.num_entries = len(replies), len(entries)
        self.replies, self.entries = tuple(replies), tuple(entries)
        self.replies_of_entries = tuple(replies[owner] for owner in owners.tolist())
        self.fusion, self.dense_share, self.same_language = fusion, dense_share, same_language
        self._owners = tf.Variable(owners.astype(np.int32), trainable=False, name="owners")
        self._matrix = tf.Variable(embed_texts(trained, entries, "passage"), trainable=False, name="embeddings")
        self.lexical = None if fusion == "dense" else LexicalIndex(trained.tokenizer, entries)
        self._tracked = [variable.value for variable in trained.model.weights]
        self._tracked_text = trained.tokenizer.assets
        # The model is held by the closure alone: as an attribute tf.Module would track its Keras variables as well.
        self.embed = text_encoder(trained, "query")

    @property
    def variable_bytes(self) -> int:
        """Bytes of everything that an export stores for the index, the encoder's weights included."""
        return sum(variable.shape.num_elements() * variable.dtype.size for variable in self.variables)

    def search(self, texts: tf.Tensor, k: int, without: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """The K = min(k, A) best replies of each query, best first, in the graph; ties go to the earlier reply.

        Args:
          texts: [B] string.
          k: replies wanted.
          without: [B, E] bool, entries by which a query may not find a reply; one that has no other has cosine -1 and
            BM25 0. None: all may.

        Returns: each [B, K]: "replies" int32 (place in `replies`), "scores" float32 (fused), "similarity" float32
          (cosine of the best entry), "lexical" float32 (BM25 of the best entry; 0 without fusion), "entries" int32
          (the entry of the highest cosine).
        """
        by_entry = tf.matmul(self.embed(texts), self._matrix, transpose_b=True)
        by_words = tf.zeros_like(by_entry) if self.lexical is None else self.lexical.scores(texts)
        if without is not None:
            by_entry, by_words = tf.where(without, -1.0, by_entry), tf.where(without, 0.0, by_words)
        best, lexical = self._best_of_reply(by_entry), self._best_of_reply(by_words)
        fits = self._fits(texts)
        similarity, lexical = tf.where(fits, best, -1.0), tf.where(fits, lexical, 0.0)
        scores, replies = tf.math.top_k(self._fused(similarity, lexical), min(k, self.num_replies))
        nearest = self._nearest_entry(by_entry, best)
        chosen = {"similarity": similarity, "lexical": lexical, "entries": nearest}
        picked = {name: tf.gather(each, replies, batch_dims=1) for name, each in chosen.items()}
        return {"replies": replies, "scores": scores, **picked}

    def scores(self, texts: tf.Tensor) -> tf.Tensor:
        """Fused scores of all replies, [B] string -> [B, A] float32: for evaluation and mining."""
        similarity = self._best_of_reply(tf.matmul(self.embed(texts), self._matrix, transpose_b=True))
        lexical = similarity if self.lexical is None else self._best_of_reply(self.lexical.scores(texts))
        fits = self._fits(texts)
        return self._fused(tf.where(fits, similarity, -1.0), tf.where(fits, lexical, 0.0))

    def _fits(self, texts: tf.Tensor) -> tf.Tensor:
        """[B, A] bool, or [1, 1] where every reply fits every query."""
        if not self.same_language:
            return tf.ones([1, 1], tf.bool)
        return tf.equal(has_chinese(newest_turns(texts))[:, None], has_chinese(tf.constant(self.replies))[None])

    def _best_of_reply(self, by_entry: tf.Tensor) -> tf.Tensor:
        """[B, E] -> [B, A]: the highest score among the entries of each reply."""
        best = tf.math.unsorted_segment_max(tf.transpose(by_entry), self._owners, self.num_replies)
        return tf.transpose(best)

    def _nearest_entry(self, by_entry: tf.Tensor, best: tf.Tensor) -> tf.Tensor:
        """[B, A] int32, the entry that gave each reply its highest score; of several the first."""
        is_best = by_entry >= tf.gather(best, self._owners, axis=1)
        places = tf.where(is_best, tf.range(self.num_entries)[None], self.num_entries)
        return tf.transpose(tf.math.unsorted_segment_min(tf.transpose(places), self._owners, self.num_replies))

    def _fused(self, similarity: tf.Tensor, lexical: tf.Tensor) -> tf.Tensor:
        if self.fusion == "dense":
            return similarity
        if self.fusion == "weighted":
            highest = tf.reduce_max(lexical, axis=1, keepdims=True)
            return self.dense_share * similarity + (1 - self.dense_share) * tf.math.divide_no_nan(lexical, highest)
        return _reciprocal_rank(similarity) + tf.where(lexical > 0, _reciprocal_rank(lexical), 0.0)


def _reciprocal_rank(scores: tf.Tensor) -> tf.Tensor:
    """1 / (60 + rank) of each column in its row, ranks from 1; of equal scores the earlier column ranks first."""
    order = tf.argsort(scores, axis=1, direction="DESCENDING", stable=True)
    ranks = tf.argsort(order, axis=1, stable=True) + 1
    return 1.0 / (RANK_OFFSET + tf.cast(ranks, tf.float32))


def _check(replies: Sequence[Any], entries: Sequence[Any], owners: np.ndarray) -> None:
    if not replies:
        raise DataError("an index needs at least one reply. Give a file of replies.")
    assert len(entries) == len(owners), f"{len(entries)} entries, {len(owners)} owners"
    lonely = np.setdiff1d(np.arange(len(replies)), owners)
    if lonely.size:
        raise DataError(f"reply {lonely[0]} ({replies[lonely[0]]!r}) has no entry: it could never be found.")
