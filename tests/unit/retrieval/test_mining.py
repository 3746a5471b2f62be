"""Are hard negatives near, and never right?"""

import numpy as np

from kerasllm import data, retrieval

PAIRS = data.join_pairs(
    ["transfer time", "Transfer  time", "card", "closing time"],
    ["A transfer takes two days.", "We close at six.", "The card arrives.", "we close at  six."],
)


def test_the_highest_scores_that_are_not_right_are_taken_in_order():
    scores = np.array([[0.1, 0.9, 0.5, 0.7], [0.4, 0.3, 0.2, 0.1]])
    found = retrieval.hardest(scores, [{1}, {0, 1, 2}], 2)
    assert found.tolist() == [[3, 2], [3, -1]]


def test_what_answers_an_equal_query_is_no_negative(small_tokenizer):
    mined = retrieval.mine_by_words(PAIRS, small_tokenizer, 3)
    assert PAIRS.passages == ["A transfer takes two days.", "We close at six.", "The card arrives."]
    assert PAIRS.right.tolist() == [0, 1, 2, 1]
    # The two questions about transfers are equal: both answers are right for both, only the card is not.
    assert mined.negatives.tolist()[:2] == [[2, -1, -1], [2, -1, -1]]
    assert set(mined.negatives[2].tolist()) == {0, 1, -1}


def test_the_encoder_mines_by_its_own_cosines(encoder):
    mined = retrieval.mine_by_encoder(PAIRS, encoder, 1)
    cosines = retrieval.embed_texts(encoder, PAIRS.queries, "query") @ (
        retrieval.embed_texts(encoder, PAIRS.passages, "passage").T
    )
    for query, answers in ((2, {2}), (3, {1})):
        wrong = [place for place in np.argsort(-cosines[query]) if place not in answers]
        assert mined.negatives[query].tolist() == wrong[:1]


def test_joined_negatives_are_there_once(small_tokenizer, encoder):
    words, near = retrieval.mine_by_words(PAIRS, small_tokenizer, 2), retrieval.mine_by_encoder(PAIRS, encoder, 2)
    joined = retrieval.join_negatives(words, near)
    assert sorted(joined.negatives[3].tolist()) == [0, 2]
    assert joined.negatives[0].tolist() == [2, -1]
