"""Which passages share words with a query? BM25 (package bm25s) over the project's own token ids, also in the graph."""

# N queries, E entries (passages), B queries of a call

import logging
from collections.abc import Callable, Sequence

import bm25s
import numpy as np
import tensorflow as tf

from kerasllm.text import Tokenizer

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to tell every step


class LexicalIndex(tf.Module):
    """BM25 of token ids: it needs no word splitter, so that Chinese and in-graph search work as everything else does.

    A score is a sum over the tokens of the query, so what a token is worth in each passage is computed once, here.

    Args:
      tokenizer: gives the ids; not tracked, an export has to track `tokenizer.assets` itself.
      passages: E texts.
      term_saturation: k1 of BM25.
      length_share: b of BM25.

    Source: Robertson & Zaragoza 2009, in the form of Lucene; computed by bm25s (Lu 2024).
    """

    def __init__(
        self, tokenizer: Tokenizer, passages: Sequence[str], term_saturation: float = 1.5, length_share: float = 0.75
    ) -> None:
        super().__init__(name="lexical_index")
        self.num_entries = len(passages)
        self.bm25 = bm25s.BM25(k1=term_saturation, b=length_share)
        words = {f"{index}": index for index in range(tokenizer.vocab_size)}
        self.bm25.index(
            (_token_lists(tokenizer.tokenize, passages), words), create_empty_token=False, show_progress=False
        )
        postings = self.bm25.scores
        self._starts = tf.Variable(postings["indptr"].astype(np.int32), trainable=False, name="starts")  # [V + 1]
        self._entries = tf.Variable(postings["indices"].astype(np.int32), trainable=False, name="entries")
        self._values = tf.Variable(postings["data"].astype(np.float32), trainable=False, name="values")
        # As an attribute the tokenizer would be tracked, and its vocabulary be written once more.
        self.tokens_of = lambda texts: tokenizer.tokenize(texts)

    def scores(self, texts: tf.Tensor) -> tf.Tensor:
        """BM25 of each text against every entry, in the graph: [B] string -> [B, E] float32."""
        tokens = self.tokens_of(texts)
        first = tf.gather(self._starts, tokens.values)
        counts = tf.gather(self._starts, tokens.values + 1) - first
        places = tf.ragged.range(first, first + counts).values  # of every posting of every token
        query = tf.repeat(tf.cast(tokens.value_rowids(), tf.int32), counts)
        cell = query * self.num_entries + tf.gather(self._entries, places)
        num_queries = tf.shape(texts)[0]
        sums = tf.math.unsorted_segment_sum(tf.gather(self._values, places), cell, num_queries * self.num_entries)
        return tf.reshape(sums, [num_queries, self.num_entries])

    def compute_scores(self, texts: Sequence[str]) -> np.ndarray:
        """The same by bm25s itself: [N, E] float32, for mining and for comparison."""
        rows = [self.bm25.get_scores_from_ids(ids) for ids in _token_lists(self.tokens_of, texts)]
        return np.stack(rows) if rows else np.zeros([0, self.num_entries], np.float32)


def _token_lists(tokenize: Callable[[tf.Tensor], tf.RaggedTensor], texts: Sequence[str]) -> list[list[int]]:
    lists: list[list[int]] = tokenize(tf.constant(texts, tf.string, [len(texts)])).to_list()
    return lists
