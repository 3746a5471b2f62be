"""Do the sets hold the true label as often as promised?"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasllm.decisions import conformal_sets, conformal_threshold, softmax


def of_true(*values):
    """Probabilities of two classes, the first of which is true."""
    return [[value, 1 - value] for value in values]


def test_the_threshold_is_the_score_at_the_corrected_rank():
    # Scores 1 - p: 0.1, 0.2, 0.4, 0.7. Coverage 0.6: rank ceil(5 * 0.6) = 3, so 0.4. Coverage 0.8: rank 4, so 0.7.
    probabilities = of_true(0.3, 0.9, 0.6, 0.8)
    assert conformal_threshold(probabilities, [0] * 4, 0.6) == pytest.approx(0.4)
    assert conformal_threshold(probabilities, [0] * 4, 0.8) == pytest.approx(0.7)


def test_too_few_examples_put_every_label_into_the_set():
    # Rank ceil(5 * 0.9) = 5 of 4 examples.
    assert conformal_threshold(of_true(0.3, 0.9, 0.6, 0.8), [0] * 4, 0.9) == 1.0
    assert conformal_threshold(np.zeros([0, 2]), [], 0.5) == 1.0
    assert conformal_sets([[1.0, 0.0]], 1.0).all()


def test_a_rank_that_is_whole_is_not_rounded_up():
    # 100 * 0.55 is 55.000000000000007 in floating point: the 55th of 99 scores 0.01 ... 0.99, not the 56th.
    probabilities = of_true(*(1 - np.arange(1, 100) / 100))
    assert conformal_threshold(probabilities, [0] * 99, 0.55) == pytest.approx(0.55)


def test_a_set_holds_the_labels_within_the_threshold_and_always_the_top_one():
    sets = conformal_sets([[0.5, 0.45, 0.05], [0.34, 0.33, 0.33], [0.2, 0.7, 0.1]], 0.56)
    assert sets.tolist() == [[True, True, False], [True, False, False], [False, True, False]]


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 1000), st.sampled_from([0.8, 0.9, 0.95]), st.floats(0.3, 3.0))
def test_the_promised_coverage_is_met_on_new_texts_however_wrong_the_model(seed, coverage, sharpness):
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=[12_000, 5]) * 2
    labels = (logits + generator.gumbel(size=logits.shape)).argmax(axis=1)  # drawn with softmax(logits)
    probabilities = softmax(logits * sharpness)
    threshold = conformal_threshold(probabilities[:4000], labels[:4000], coverage)
    sets = conformal_sets(probabilities[4000:], threshold)
    # Spread of 4,000 and of 8,000 draws: sqrt(p q (1/4000 + 1/8000)) <= 0.0078; four of them above and below. The top
    # label, which is always in, can only add.
    held = sets[np.arange(8000), labels[4000:]].mean()
    assert held > coverage - 0.031
    if threshold >= 0.8:  # the top label of five, at least 1/5, is in by itself
        assert held < coverage + 0.031
