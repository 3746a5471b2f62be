"""How well does BM25 on words rank passages? English stop words are left out, as bm25s does it."""

from collections.abc import Sequence

import numpy as np


def scores(passages: Sequence[str], queries: Sequence[str]) -> np.ndarray:
    """BM25 (Lucene's form, package bm25s) of each query against each passage: [queries, passages] float32."""
    import bm25s

    index = bm25s.BM25()
    index.index(bm25s.tokenize(list(passages), stopwords="en", show_progress=False), show_progress=False)
    words = bm25s.tokenize(list(queries), stopwords="en", return_ids=False, show_progress=False)
    empty = np.zeros(len(passages), np.float32)
    return np.stack([index.get_scores(query) if query else empty for query in words])
