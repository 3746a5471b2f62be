"""Do lists of texts get the embeddings and scores that the graph gives one by one?"""

import numpy as np
import tensorflow as tf

from kerasllm import retrieval

TEXTS = ["A transfer takes two days.", "", "转账", "password " * 40]


def test_embeddings_have_length_1_and_do_not_depend_on_the_other_texts(encoder):
    together = retrieval.embed_texts(encoder, TEXTS, "passage", batch=3)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    alone = np.concatenate([retrieval.embed_texts(encoder, [text], "passage") for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    graph = tf.function(retrieval.text_encoder(encoder, "passage"))(tf.constant(TEXTS))
    np.testing.assert_allclose(together, graph, atol=1e-5)


def test_queries_are_cut_at_their_own_length(encoder):
    # matching.query_length = 16 leaves 14 tokens, of which 13 and 14 are not the same text.
    short, longer, longest = ("we " * count for count in (13, 14, 20))
    queries = retrieval.embed_texts(encoder, [short, longer, longest], "query")
    np.testing.assert_allclose(queries[1], queries[2], atol=1e-5)
    assert np.abs(queries[0] - queries[1]).max() > 1e-4
    passages = retrieval.embed_texts(encoder, [longer, longest], "passage")
    assert np.abs(passages[0] - passages[1]).max() > 1e-4


def test_pair_scores_do_not_depend_on_the_other_pairs(reranker):
    queries = ["card", "how long does a transfer take", "转账"]
    together = retrieval.score_pairs(reranker, queries, TEXTS[:3], batch=2)
    alone = [retrieval.score_pairs(reranker, [query], [text])[0] for query, text in zip(queries, TEXTS, strict=False)]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_no_texts_are_no_embeddings(encoder):
    assert retrieval.embed_texts(encoder, [], "query").shape == (0, 16)
