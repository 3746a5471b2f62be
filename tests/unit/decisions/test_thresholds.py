"""Do thresholds keep the precision, or the share of rejections, that is asked for?"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.decisions import NEVER, class_thresholds, threshold_for_precision, threshold_for_rejection


def test_the_lowest_score_that_keeps_the_precision_with_one_more_mistake_counted():
    # From 0.5 on 4 of 5 are right, with one more mistake 4 of 6; from 0.6 on 4 of 4, then 4 of 5 = 0.8.
    scores, is_right = [0.9, 0.8, 0.7, 0.6, 0.5], [True, True, True, True, False]
    assert threshold_for_precision(scores, is_right, 0.8) == 0.6
    assert threshold_for_precision(scores, is_right, 0.66) == 0.5
    assert threshold_for_precision(scores, is_right, 0.75) == 0.6


def test_few_right_answers_prove_little():
    assert threshold_for_precision(np.linspace(1, 2, 8), [True] * 8, 0.9) == math.inf  # 8 / 9 < 0.9
    assert threshold_for_precision(np.linspace(1, 2, 9), [True] * 9, 0.9) == 1.0  # 9 / 10
    assert threshold_for_precision([], [], 0.9) == math.inf


def test_equal_scores_are_answered_together():
    # At 0.5 stand two right and one wrong: 2 of 3, with one more mistake 2 of 4. Two alone is no choice.
    assert threshold_for_precision([0.5, 0.5, 0.5], [True, True, False], 0.6) == math.inf
    assert threshold_for_precision([0.5, 0.5, 0.5], [True, True, False], 0.5) == 0.5


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=60), st.sampled_from([0.5, 0.8, 0.9]))
def test_the_precision_is_kept_and_no_lower_threshold_keeps_it(rows, precision):
    scores, is_right = np.array([s for s, _ in rows]), np.array([right for _, right in rows], bool)

    def keeps(threshold):
        chosen = is_right[scores >= threshold]
        return chosen.sum() >= precision * (len(chosen) + 1) - 1e-9

    found = threshold_for_precision(scores, is_right, precision)
    assert found == min((score for score in set(scores.tolist()) if keeps(score)), default=math.inf)


def test_at_most_the_share_of_what_is_in_scope_is_rejected():
    scores = np.arange(100)
    assert threshold_for_rejection(scores, 0.05) == 5  # 0, 1, 2, 3, 4 are below
    assert threshold_for_rejection(scores, 0.0) == 0
    assert threshold_for_rejection([0.3, 0.3, 0.9], 0.34) == 0.3  # one may go, but the two at 0.3 go or stay together
    with pytest.raises(ValueError, match="is empty"):
        threshold_for_rejection([], 0.05)


def of_class(answer, top, num_classes=3):
    rest = (1 - top) / (num_classes - 1)
    return [top if index == answer else rest for index in range(num_classes)]


def test_each_class_has_the_threshold_that_its_own_answers_need():
    # Precision 0.5, one more mistake counted. Class 0: from 0.7 on 2 of 2 right, 2/3; from 0.6 on 2 of 3, 2/4.
    # Class 1: 0 of 2 right. Class 2 is never the answer and takes the threshold of all: 0.9 right, 1/2; 0.8 wrong,
    # 1/3; 0.7 right, 2/4; 0.65 wrong, 2/5; 0.6 wrong, 2/6: so 0.7.
    rows = [of_class(0, 0.9), of_class(1, 0.8), of_class(0, 0.7), of_class(1, 0.65), of_class(0, 0.6)]
    thresholds = class_thresholds(rows, [0, 0, 0, 2, 2], 0.5)
    np.testing.assert_allclose(thresholds, [0.6, NEVER, 0.7])


def test_no_float32_probability_reaches_never():
    assert np.nextafter(np.float32(1), np.float32(2)) < np.float32(NEVER)


def test_a_million_rows_are_no_matter():
    generator = np.random.default_rng(0)
    scores = generator.random(1_000_000)
    # Right with probability equal to the score: above t the precision is (1 + t) / 2, 0.9 at t = 0.8.
    assert threshold_for_precision(scores, generator.random(1_000_000) < scores, 0.9) == pytest.approx(0.8, abs=0.01)
