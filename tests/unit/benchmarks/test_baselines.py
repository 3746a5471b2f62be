"""Are the baselines what their names say? Each on a toy small enough to work out by hand."""

import math

import numpy as np
import pytest

from benchmarks.baselines import naive_bayes, unigram, word_overlap
from benchmarks.baselines.kneser_ney import KneserNeyBigram


def test_the_unigram_guess_is_the_most_frequent_training_token():
    # Token 2 stands three times in training; two of the three real slots hold it, the fourth slot is empty.
    counts = unigram.count_tokens(np.array([[2, 2, 1], [2, 0, 0]]), vocab_size=4)
    assert counts.tolist() == [2, 1, 3, 0]
    scores = unigram.score_masked_tokens(counts, np.array([[2, 1], [2, 2]]), np.array([[1.0, 1.0], [1.0, 0.0]]))
    assert scores.token_id == 2
    assert scores.accuracy == pytest.approx(2 / 3)


def test_unigram_perplexity_is_that_of_add_one_shares():
    # Counts 2, 1, 3, 0 with one added to each: 3, 2, 4, 1 of 10. Labels 2 and 3: sqrt(1/0.4 * 1/0.1) = 5.
    scores = unigram.score_masked_tokens(np.array([2, 1, 3, 0]), np.array([2, 3]), np.array([1, 1]))
    assert scores.perplexity == pytest.approx(5.0)


def test_no_real_slot_is_an_error_and_not_a_score():
    with pytest.raises(ValueError, match="no masked slot is real"):
        unigram.score_masked_tokens(np.array([1, 1]), np.array([0]), np.array([0]))


def test_frequent_tokens_make_up_the_share_of_the_text():
    # Ten tokens: 0 six times, 1 three times, 2 once. Half the text is reached within token 0; 70 % needs token 1 too.
    counts = np.array([6, 3, 1, 0])
    assert word_overlap.frequent_tokens(counts, share=0.5).tolist() == [True, False, False, False]
    assert word_overlap.frequent_tokens(counts, share=0.7).tolist() == [True, True, False, False]


def test_overlap_is_the_share_of_the_smaller_part_s_content_tokens():
    ignored = np.array([True, False, False, False, False])
    # {1, 2} and {2, 3, 4}: one of two; token 0 does not count.
    assert word_overlap.overlap([0, 1, 2, 2], [0, 2, 3, 4], ignored) == 0.5
    assert word_overlap.overlap([0], [0, 1], ignored) == 0.0


def test_the_threshold_is_the_best_one_on_training_pairs_and_is_kept_for_others():
    overlaps, is_random = np.array([0.0, 0.1, 0.2, 0.5, 0.6]), np.array([1, 1, 0, 1, 0])
    # At 0.2: 0.0 and 0.1 are called random (right), 0.2 and 0.6 next (right), 0.5 next (wrong): 4 of 5.
    fitted = word_overlap.fit_threshold(overlaps, is_random)
    assert fitted.threshold == 0.2
    assert fitted.accuracy(overlaps, is_random) == pytest.approx(0.8)
    assert fitted.accuracy(np.array([0.3, 0.3]), np.array([0, 1])) == pytest.approx(0.5)


def test_a_useless_overlap_still_finds_the_more_frequent_answer():
    fitted = word_overlap.fit_threshold(np.array([0.4, 0.4, 0.4]), np.array([1, 1, 0]))
    assert fitted.accuracy(np.array([0.4]), np.array([1])) == 1.0


TOY = (np.array([0, 0, 0, 1]), np.array([1, 1, 2, 0]))  # bigrams 01 01 02 10 over four words


def test_kneser_ney_gives_the_probabilities_worked_out_by_hand():
    # d = n1 / (n1 + 2 n2) = 2 / (2 + 2) = 1/2. Words 0, 1, 2 follow one different word each, word 3 none: e = 1/2,
    # q = (1/2)/3 + 1/2 * 3/3 * 1/4 = 7/24 for the three, 1/8 for word 3. After 0: c = 3, n = 2, back-off 1/3.
    model = KneserNeyBigram.fit(*TOY, vocab_size=4)
    expected = [7 / 72, 1.5 / 3 + 7 / 72, 0.5 / 3 + 7 / 72, 1 / 24]
    assert model.probability(np.zeros(4, int), np.arange(4)) == pytest.approx(expected)
    assert model.probability(np.array([3]), np.array([3])) == pytest.approx([1 / 8])  # nothing was ever seen after 3


def test_kneser_ney_is_a_distribution_after_every_word():
    rng = np.random.default_rng(0)
    words = rng.zipf(1.5, 5000) % 40
    model = KneserNeyBigram.fit(words[:-1], words[1:], vocab_size=50)
    every = np.arange(50)
    sums = [model.probability(np.full(50, word), every).sum() for word in every]
    assert sums == pytest.approx(np.ones(50))


def test_a_word_seen_after_many_words_is_likelier_than_one_seen_often_after_one():
    # Word 1 follows word 0 nine times; word 2 follows words 3, 4 and 5 once each. After the unseen word 6, 2 wins.
    previous = np.array([0] * 9 + [3, 4, 5])
    following = np.array([1] * 9 + [2, 2, 2])
    model = KneserNeyBigram.fit(previous, following, vocab_size=8)
    after = model.probability(np.array([6, 6]), np.array([1, 2]))
    assert after[1] > 2 * after[0]


def test_kneser_ney_perplexity_is_the_inverse_geometric_mean():
    model = KneserNeyBigram.fit(*TOY, vocab_size=4)
    p = model.probability(np.array([0, 0]), np.array([1, 3]))
    perplexity = model.perplexity(np.array([0, 0]), np.array([1, 3]))
    assert perplexity == pytest.approx(1 / math.sqrt(p[0] * p[1]))


def test_words_are_split_alike_in_both_languages():
    assert naive_bayes.split_words("Net profit rose 12.5 %!") == ["net", "profit", "rose", "0", ".", "0", "%", "!"]
    assert naive_bayes.split_words("净利润增长12%") == ["净", "利", "润", "增", "长", "0", "%"]
    assert naive_bayes.split_words("公司CEO辞职") == ["公", "司", "ceo", "辞", "职"]


def test_naive_bayes_learns_words_and_bigrams():
    texts = ["profit rose", "profit rose again", "profit fell", "loss fell", "利润增长", "利润下降"]
    labels = [1, 1, 0, 1, 1, 0]
    assert naive_bayes.predict(texts, labels, ["profit rose", "the profit fell", "增长", "下降"]) == [1, 0, 1, 0]
