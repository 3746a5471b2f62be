"""Do probabilities say how often they are right, and is the temperature the one that makes them so?"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasllm.decisions import calibration_error_by_chance, expected_calibration_error, fit_temperature, softmax
from kerasllm.decisions.calibration import TEMPERATURES


def draw(probabilities, generator):
    """One label of each row, by its probabilities."""
    return (generator.random((len(probabilities), 1)) > probabilities.cumsum(axis=1)).sum(axis=1)


def test_softmax_of_logarithms_is_the_shares():
    np.testing.assert_allclose(softmax(np.log([[1.0, 2.0, 5.0]])), [[0.125, 0.25, 0.625]])
    np.testing.assert_allclose(softmax([1000.0, 1000.0]), [0.5, 0.5])


def test_the_temperature_makes_three_of_four_right_mean_three_quarters():
    # Logits (2, 0), right three times of four. Best is sigmoid(2 / T) = 3/4, so 2 / T = ln 3 and T = 1.8205.
    assert fit_temperature([[2.0, 0.0]] * 4, [0, 0, 0, 1]) == pytest.approx(2 / math.log(3), rel=1e-4)


@pytest.mark.parametrize(("labels", "bound"), [([0, 0], TEMPERATURES[0]), ([1, 1], TEMPERATURES[1])])
def test_a_set_that_is_all_right_or_all_wrong_ends_at_a_bound(labels, bound):
    assert fit_temperature([[2.0, 0.0]] * 2, labels) == pytest.approx(bound)


def test_no_examples_change_nothing():
    assert fit_temperature(np.zeros([0, 3]), []) == 1.0


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 1000), st.floats(0.3, 5.0))
def test_the_temperature_that_spoiled_the_logits_is_found(seed, temperature):
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=[8000, 4]) * 2
    assert fit_temperature(logits * temperature, draw(softmax(logits), generator)) == pytest.approx(
        temperature, rel=0.1
    )


def test_calibration_error_of_two_bins():
    # Bin 1: 0.6 and 0.7, one right: |1.3 - 1| = 0.3. Bin 2: 0.8 and 0.9, both right: |1.7 - 2| = 0.3. (0.3 + 0.3) / 4.
    probabilities = [[0.6, 0.4], [0.3, 0.7], [0.8, 0.2], [0.1, 0.9]]
    assert expected_calibration_error(probabilities, [0, 0, 0, 1], num_bins=2) == pytest.approx(0.15)


def test_equal_probabilities_share_a_bin_whatever_the_order():
    # Always 0.7 sure and right seven times of ten.
    for labels in ([0] * 7 + [1] * 3, [1] * 3 + [0] * 7):
        assert expected_calibration_error([[0.7, 0.3]] * 10, labels) == pytest.approx(0)


def test_a_sure_predictor_that_is_always_right_has_no_error_and_one_always_wrong_has_all():
    probabilities = np.eye(3)[[0, 1, 2] * 10]
    assert expected_calibration_error(probabilities, [0, 1, 2] * 10) == 0
    assert expected_calibration_error(probabilities, [1, 2, 0] * 10) == 1


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 1000), st.integers(2, 20))
def test_a_predictor_that_knows_the_true_probabilities_has_almost_no_error(seed, num_classes):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(num_classes, 0.5), size=15_000)
    # In each of 15 bins of 1,000 the share is off by at most 0.5 / sqrt(1000) = 0.0158 (one standard error e), in the
    # mean over bins by 0.8 e = 0.0126 with a spread of 0.6 e / sqrt(15) = 0.0025; four of these on top.
    assert expected_calibration_error(probabilities, draw(probabilities, generator)) < 0.0226


def test_few_answers_show_an_error_by_chance():
    # One bin of 100 that are 0.8 sure: |share right - 0.8| is 0.8 * sqrt(0.8 * 0.2 / 100) = 0.032 on average.
    probabilities = np.array([[0.8, 0.2]] * 100)
    assert calibration_error_by_chance(probabilities, num_draws=4000) == pytest.approx(0.0319, abs=0.0015)
    assert calibration_error_by_chance(np.eye(2)[[0, 1]]) == 0  # who is wholly sure cannot be wrong by chance
    assert math.isnan(calibration_error_by_chance(np.zeros([0, 2])))


def test_labels_that_are_no_columns_and_other_lengths_are_refused():
    with pytest.raises(ValueError, match="labels run from 0 to 2, the scores have 2 classes"):
        fit_temperature([[0.0, 1.0]] * 2, [0, 2])
    with pytest.raises(ValueError, match=r"scores \(2, 2\) must be \[N, C\] and labels \(1,\) \[N\]"):
        expected_calibration_error([[0.0, 1.0]] * 2, [0])
