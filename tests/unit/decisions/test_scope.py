"""Are texts that belong to no label told by the better score, at the stated cost?"""

import numpy as np
import pytest

from kerasllm.decisions import ClassDecision, fit_scope, scope_scores


def test_the_scores_are_the_top_probability_and_the_logarithm_of_the_sum():
    logits = np.log([[2.0, 1.0, 1.0]])
    assert scope_scores(logits, "probability")[0] == pytest.approx(0.5)
    assert scope_scores(logits, "energy")[0] == pytest.approx(np.log(4))
    # At temperature 2 the odds are square roots: sqrt 2 / (sqrt 2 + 2).
    assert scope_scores(logits, "probability", 2.0)[0] == pytest.approx(np.sqrt(2) / (np.sqrt(2) + 2))


def test_the_score_that_tells_them_apart_is_chosen():
    # Same odds everywhere, so the probability says nothing; the size of the logits does.
    inside, outside = np.array([[9.0, 7.0], [8.0, 6.0]]), np.array([[1.0, -1.0], [2.0, 0.0]])
    score, below = fit_scope(np.concatenate([inside, outside]), [True, True, False, False], 1.0, 0.05)
    assert score == "energy"
    assert below == pytest.approx(scope_scores(inside, "energy").min())


def test_at_most_the_stated_share_in_scope_is_rejected():
    logits = np.stack([np.linspace(0, 5, 100), np.zeros(100)], axis=1)
    score, below = fit_scope(logits, [True] * 100, 1.0, 0.05)
    assert score == "probability"
    assert (scope_scores(logits, score) < below).sum() == 5


def test_a_decision_without_a_threshold_calls_nothing_out_of_scope():
    assert not ClassDecision.undecided(2).out_of_scope(np.zeros([3, 2])).any()
