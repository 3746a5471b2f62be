"""Are measures of rankings and lists the ones that are counted by hand?"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasllm import decisions


def test_rank_recall_and_reciprocal_rank():
    ranks = decisions.ranks_of([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.9, 0.5, 0.1]], [0, 1, 2])
    assert ranks.tolist() == [1, 2, 3]
    assert decisions.recall_at(ranks, 2) == pytest.approx(2 / 3)
    assert decisions.mean_reciprocal_rank(ranks) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_a_model_that_gives_one_score_to_all_earns_the_last_rank():
    assert decisions.ranks_of([[0.5, 0.5, 0.5]], [0]).tolist() == [3]


def test_what_was_not_found_counts_as_nothing():
    assert decisions.mean_reciprocal_rank([1, math.inf]) == 0.5
    assert decisions.recall_at([1, math.inf], 100) == 0.5
    with pytest.raises(ValueError, match="counted from 1"):
        decisions.recall_at([0, 1], 1)


def test_discounted_gain_by_hand():
    # Places 1 and 3 of three, two relevant: (1 + 1/2) / (1 + 1/log2 3) = 1.5 / 1.63093 = 0.91972.
    assert decisions.ndcg_at([1, 0, 1], 2, 3) == pytest.approx(0.91972, abs=1e-5)
    # Only the first place is looked at: 1 / 1.
    assert decisions.ndcg_at([1, 0, 1], 2, 1) == 1
    # A third relevant item is not in the list: 1.5 / (1.63093 + 1/2) = 0.70392.
    assert decisions.ndcg_at([1, 0, 1], 3, 10) == pytest.approx(0.70392, abs=1e-5)


def test_discounted_gain_of_many_lists_and_of_none_relevant():
    found = decisions.ndcg_at([[1, 1], [0, 1], [0, 0], [0, 0]], [2, 1, 1, 0], 2)
    np.testing.assert_allclose(found, [1, 1 / math.log2(3), 0, math.nan])


def test_area_under_the_curve_counts_pairs_and_ties_half():
    # Pairs (3, 2) (3, 1) (2, 1) right, (2, 2) tied: 3.5 of 4.
    assert decisions.auc([3, 2], [2, 1]) == 0.875
    assert math.isnan(decisions.auc([1], []))


@given(st.lists(st.integers(0, 5), min_size=1), st.lists(st.integers(0, 5), min_size=1))
def test_area_under_the_curve_is_the_share_of_pairs(positive, negative):
    wins = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    assert decisions.auc(positive, negative) == pytest.approx(np.mean(wins))
    assert decisions.auc(negative, positive) == pytest.approx(1 - np.mean(wins))


def test_coverage_is_the_share_of_items_shown_to_anybody():
    assert decisions.coverage([[1, 2], [2, 3, 1]], 12) == 0.25
    assert decisions.coverage([], 12) == 0


def test_diversity_is_the_mean_distance_of_pairs():
    # Two equal and one orthogonal, of any length: distances 0, 1, 1.
    assert decisions.intra_list_diversity([[1, 0], [3, 0], [0, 2]]) == pytest.approx(2 / 3)
    np.testing.assert_allclose(
        decisions.intra_list_diversity([[[1, 0], [1, 0]], [[1, 0], [-1, 0]]]), [0, 2], atol=1e-12
    )
    assert decisions.intra_list_diversity([[1, 0]]) == 0


def test_fusion_adds_reciprocal_ranks():
    # b: 1/62 + 1/61; a: 1/61 + 1/63; c: 1/62; so b, a, c.
    ids, scores = decisions.reciprocal_rank_fusion([["a", "b"], ["b", "c", "a"]])
    assert ids == ["b", "a", "c"]
    assert scores == pytest.approx([1 / 62 + 1 / 61, 1 / 61 + 1 / 63, 1 / 62])
    assert decisions.reciprocal_rank_fusion([np.array([7, 3])], k=1) == ([7, 3], [0.5, 1 / 3])
    assert decisions.reciprocal_rank_fusion([]) == ([], [])


def test_a_diverse_choice_passes_over_the_twin():
    # First item 0 (0.9). Then half relevance minus half nearest: item 1 0.40 - 0.5 = -0.1, item 2 0.25 - 0 = 0.25.
    relevance, similarity = [0.9, 0.8, 0.5], [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert decisions.maximal_marginal_relevance(relevance, similarity, 3, 0.5).tolist() == [0, 2, 1]
    assert decisions.maximal_marginal_relevance(relevance, similarity, 2, 0.0).tolist() == [0, 2]
    # What is unlike (similarity below 0) is worth more, not as much as what has nothing in common.
    assert decisions.maximal_marginal_relevance([3, 1, 1], [[1, 0, -1], [0, 1, 0], [-1, 0, 1]], 2, 0.5).tolist() == [
        0,
        2,
    ]


@given(st.lists(st.floats(-5, 5), max_size=12), st.integers(0, 15))
def test_with_a_trade_off_of_one_relevance_alone_orders(relevance, k):
    similarity = np.random.default_rng(0).normal(size=[len(relevance)] * 2)
    order = decisions.maximal_marginal_relevance(relevance, similarity, k, 1.0)
    assert order.tolist() == np.argsort(-np.array(relevance), kind="stable")[:k].tolist()


def test_an_interval_of_one_value_is_that_value_and_the_seed_decides():
    assert decisions.bootstrap_interval([2.0] * 5) == (2.0, 2.0)
    values = np.arange(50.0)
    assert decisions.bootstrap_interval(values, seed=1) == decisions.bootstrap_interval(values, seed=1)
    assert decisions.bootstrap_interval(values, seed=1) != decisions.bootstrap_interval(values, seed=2)


def test_an_interval_of_a_mean_is_two_standard_errors_each_way():
    # 200 zeros and 200 ones: standard error 0.5 / sqrt(400) = 0.025, 1.96 of them 0.049.
    low, high = decisions.bootstrap_interval([0.0, 1.0] * 200, num=4000)
    assert (low, high) == pytest.approx((0.451, 0.549), abs=0.005)
    inner_low, inner_high = decisions.bootstrap_interval([0.0, 1.0] * 200, num=4000, level=0.5)
    assert (inner_low, inner_high) == pytest.approx((0.4831, 0.5169), abs=0.005)  # 0.6745 standard errors


def test_rows_are_drawn_whole_for_a_statistic_of_columns():
    pairs = np.stack([np.arange(30.0), np.arange(30.0) * 2], axis=1)
    assert decisions.bootstrap_interval(pairs, lambda rows: rows[:, 1].sum() / max(rows[:, 0].sum(), 1)) == (2.0, 2.0)
    with pytest.raises(ValueError, match="values is empty"):
        decisions.bootstrap_interval([])
