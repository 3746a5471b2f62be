"""Do the baselines of the recommender rank as their papers say?"""

import numpy as np
import pytest

from benchmarks.baselines import bpr, ease, item_knn, popularity

# Three users, four items: items 0 and 1 go together, item 2 has one friend, nobody knows item 3.
LIKED = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0]], np.float32)


def test_popularity_counts_likes():
    assert popularity.scores(LIKED).tolist() == [[3, 2, 1, 0]] * 3


def test_a_new_item_is_as_popular_as_its_categories():
    # Category 0 holds items 0 and 1 (5 likes), category 1 holds item 2 (1 like) and the new item 3.
    shares = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    scores = popularity.category_scores(LIKED, shares, np.array([False, False, False, True]))
    # Third user: likes 1 and 1, own shares (1 + 1) / (2 + 2); category 1 has 1 like for 1 item: 1/2.
    assert scores[2, 3] == pytest.approx(0.5)
    # First user: likes 2 and 0, own share of category 1 is (0 + 1) / (2 + 2): 1/4.
    assert scores[0, 3] == pytest.approx(0.25)


def test_item_knn_prefers_what_goes_together():
    scores = item_knn.scores(LIKED, num_neighbours=4, shrinkage=0.0)
    # Third user: item 1 by its cosine 2 / sqrt(3 * 2) with item 0, and none with item 2.
    assert scores[2, 1] == pytest.approx(2 / np.sqrt(6))
    assert scores[2, 3] == 0


def test_ease_gives_an_item_no_credit_for_itself():
    scores = ease.scores(np.array([[1, 1], [1, 1]], np.float32), 1.0)
    np.testing.assert_allclose(scores, np.full([2, 2], 2 / 3), atol=1e-6)  # see test_interactions


def test_bpr_learns_two_tastes():
    liked = np.zeros([20, 10], np.float32)
    liked[:10, :5] = liked[10:, 5:] = 1
    liked[0, 0] = 0
    scores = bpr.scores(liked, num_factors=4, iterations=100, rate=0.1)
    assert scores[0, 0] > scores[0, 5:].max()
