"""Does the index in the graph rank as NumPy and bm25s do, also when it is exported?"""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm import decisions, retrieval
from kerasllm.errors import DataError
from kerasllm.export.checks import Call, check_export

QUERIES = ["how long does a transfer take", "reset password", "转账要多久", "when does the card arrive", ""]


def test_bm25_in_the_graph_is_that_of_the_package_in_english_and_chinese(small_tokenizer, replies):
    index = retrieval.LexicalIndex(small_tokenizer, replies)
    expected = index.compute_scores(QUERIES)
    np.testing.assert_allclose(index.scores(tf.constant(QUERIES)).numpy(), expected, atol=1e-5)
    assert expected[:4].argmax(axis=1).tolist() == [3, 0, 2, 1]
    assert (expected[4] == 0).all()


def test_bm25_of_one_word_is_the_formula(small_tokenizer):
    # 2 passages of 2 and 1 tokens, "a" once in the first: idf = ln(1 + (2 - 1 + .5) / (1 + .5)) = ln 2,
    # saturation = 1 / (1 + 1.5 * (1 - .75 + .75 * 2 / 1.5)) = 1 / 2.875.
    index = retrieval.LexicalIndex(small_tokenizer, ["a b", "b"])
    np.testing.assert_allclose(index.scores(tf.constant(["a"])).numpy(), [[np.log(2) / 2.875, 0]], atol=1e-6)


def test_dense_search_is_the_exact_order_of_cosines(encoder, replies):
    index = retrieval.ReplyIndex(encoder, replies)
    queries, passages = (retrieval.embed_texts(encoder, *side) for side in ((QUERIES, "query"), (replies, "passage")))
    cosines = queries @ passages.T
    found = index.search(tf.constant(QUERIES), 3)
    assert found["replies"].numpy().tolist() == np.argsort(-cosines, axis=1, kind="stable")[:, :3].tolist()
    np.testing.assert_allclose(found["scores"], -np.sort(-cosines, axis=1)[:, :3], atol=1e-5)
    np.testing.assert_array_equal(found["entries"], found["replies"])
    assert index.search(tf.constant(QUERIES), 9)["replies"].shape == (5, 5)


def test_a_reply_scores_as_its_best_entry_does_and_says_which(encoder, replies):
    entries, owners = [*replies, QUERIES[0], QUERIES[1]], [0, 1, 2, 3, 4, 4, 4]
    found = retrieval.ReplyIndex(encoder, replies, entries, owners).search(tf.constant(QUERIES[:2]), 1)
    assert found["replies"].numpy().tolist() == [[4], [4]]
    assert found["entries"].numpy().tolist() == [[5], [6]]
    np.testing.assert_allclose(found["similarity"], 1.0, atol=1e-5)


def test_replies_in_another_language_fit_no_query(encoder):
    # The English query stands among the Chinese replies' entries: it would find them, were they allowed.
    replies, entries = ["请重置密码", "open the app", "两天"], ["reset password", "open the app", "转账要多久"]
    index = retrieval.ReplyIndex(encoder, replies, entries, [0, 1, 2], fusion="weighted", same_language=True)
    found = index.search(tf.constant(["reset password", "转账要多久"]), 3)
    assert found["replies"].numpy()[:, 0].tolist() == [1, 2]
    np.testing.assert_array_equal(found["similarity"][0, 1:], [-1, -1])
    np.testing.assert_array_equal(found["lexical"][0, 1:], [0, 0])
    assert found["similarity"][1, 2] == -1
    all_scores = index.scores(tf.constant(["reset password"])).numpy()[0]
    assert all_scores.argmax() == 1
    later = index.search(tf.constant(["reset password ; 转账要多久"]), 1)  # the turn before was Chinese
    assert later["replies"].numpy().tolist() == [[1]]
    free = retrieval.ReplyIndex(encoder, replies, entries, [0, 1, 2], fusion="weighted")
    assert free.search(tf.constant(["reset password"]), 1)["replies"].numpy().tolist() == [[0]]


def test_reciprocal_ranks_are_fused_as_in_decisions(encoder, replies):
    index = retrieval.ReplyIndex(encoder, replies, fusion="reciprocal_rank")
    found = index.search(tf.constant(QUERIES[:1]), 5)
    cosines = (
        retrieval.embed_texts(encoder, QUERIES[:1], "query") @ retrieval.embed_texts(encoder, replies, "passage").T
    )
    words = retrieval.LexicalIndex(encoder.tokenizer, replies).compute_scores(QUERIES[:1])
    rankings = [np.argsort(-scores[0], kind="stable") for scores in (cosines, words)]
    rankings[1] = [place for place in rankings[1] if words[0, place] > 0]
    order, scores = decisions.reciprocal_rank_fusion(rankings)
    np.testing.assert_allclose(found["scores"][0], scores, atol=1e-6)
    assert found["replies"].numpy()[0].tolist() == order


def test_weighted_fusion_adds_the_cosine_and_the_share_of_the_best_bm25(encoder, replies):
    index = retrieval.ReplyIndex(encoder, replies, fusion="weighted", dense_share=0.25)
    found = index.search(tf.constant(QUERIES), 5)
    share = found["lexical"].numpy() / np.maximum(found["lexical"].numpy().max(axis=1, keepdims=True), 1e-9)
    np.testing.assert_allclose(found["scores"], 0.25 * found["similarity"] + 0.75 * share, atol=1e-5)
    all_scores = index.scores(tf.constant(QUERIES)).numpy()
    np.testing.assert_allclose(np.take_along_axis(all_scores, found["replies"].numpy(), 1), found["scores"], atol=1e-6)


def test_an_index_without_replies_or_with_a_lonely_one_is_refused(encoder, replies):
    with pytest.raises(DataError, match="at least one reply"):
        retrieval.ReplyIndex(encoder, [])
    with pytest.raises(DataError, match="reply 1 .* has no entry"):
        retrieval.ReplyIndex(encoder, replies[:2], ["one"], [0])


class Searcher(tf.Module):
    """What a served index is."""

    def __init__(self, index: retrieval.ReplyIndex) -> None:
        super().__init__()
        self.index = index

    def search(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.index.search(text, 3)


@pytest.mark.parametrize("fusion", ["dense", "reciprocal_rank"])
def test_an_exported_index_answers_as_in_the_process_and_stores_its_weights_once(encoder, replies, fusion, tmp_path):
    index = retrieval.ReplyIndex(encoder, replies, fusion=fusion)
    module = Searcher(index)
    signature = tf.function(module.search, input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": signature})
    expected = {name: values.numpy() for name, values in index.search(tf.constant(QUERIES), 3).items()}
    inputs = {"text": np.array([query.encode() for query in QUERIES], object)}
    check_export(tmp_path / "1", index.variable_bytes, [Call("serving_default", inputs, expected)])
