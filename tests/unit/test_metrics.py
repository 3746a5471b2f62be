"""Are the reported numbers the ones that the counts give?"""

import math

import numpy as np
import pytest

from kerasllm import metrics


def test_means_are_over_real_targets_and_heads_add_by_weight():
    totals = {"masked_lm": {"loss": 20.0, "correct": 4.0}, "next_sentence": {"loss": 3.0, "correct": 3.0}}
    result = metrics.summarize(totals, {"masked_lm": 10, "next_sentence": 4}, {"masked_lm": 1.0, "next_sentence": 0.5})
    assert result == pytest.approx(
        {
            "loss": 2.375,  # 20 / 10 + 0.5 * 3 / 4
            "masked_lm_loss": 2.0,
            "masked_lm_accuracy": 0.4,
            "masked_lm_perplexity": math.exp(2),
            "next_sentence_loss": 0.75,
            "next_sentence_accuracy": 0.75,
        }
    )


def test_a_head_without_targets_is_unknown_and_does_not_spoil_the_sum():
    totals = {"masked_lm": {"loss": 2.0, "correct": 0.0}, "next_sentence": {"loss": 0.0, "correct": 0.0}}
    result = metrics.summarize(totals, {"masked_lm": 1, "next_sentence": 0}, {"masked_lm": 1.0, "next_sentence": 1.0})
    assert result["loss"] == 2.0
    assert math.isnan(result["next_sentence_loss"])


def test_perplexity_of_a_hopeless_loss_is_infinite():
    assert metrics.perplexity(math.log(64)) == pytest.approx(64)
    assert metrics.perplexity(1e4) == math.inf


def test_figures_of_a_small_matrix():
    # True 0 0 0 1 1, predicted 0 0 1 1 2; class 2 is predicted once and never true.
    matrix = metrics.confusion_matrix([0, 0, 0, 1, 1], [0, 0, 1, 1, 2], 3)
    assert matrix.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 0]]
    report = metrics.classification_report(matrix, ["a", "b", "c"])
    assert report["accuracy"] == pytest.approx(0.6)
    assert report["num_examples"] == 5
    assert report["per_class"]["a"] == pytest.approx({"precision": 1.0, "recall": 2 / 3, "f1": 0.8, "support": 3})
    assert report["per_class"]["b"] == pytest.approx({"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2})
    assert report["per_class"]["c"] == pytest.approx({"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0})
    assert report["macro_f1"] == pytest.approx((0.8 + 0.5 + 0.0) / 3)


def test_figures_equal_scikit_learn_s():
    reference = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    labels, predictions = generator.integers(0, 4, (2, 200))
    report = metrics.classification_report(metrics.confusion_matrix(labels, predictions, 4), list("abcd"))
    assert report["accuracy"] == pytest.approx(reference.accuracy_score(labels, predictions))
    assert report["macro_f1"] == pytest.approx(reference.f1_score(labels, predictions, average="macro"))
    theirs = reference.precision_recall_fscore_support(labels, predictions)
    ours = [[report["per_class"][name][key] for name in "abcd"] for key in ("precision", "recall", "f1", "support")]
    np.testing.assert_allclose(ours, theirs)


def test_classes_out_of_range_and_lists_of_two_lengths_are_refused():
    with pytest.raises(ValueError, match="num_classes=2"):
        metrics.confusion_matrix([0, 2], [0, 1], 2)
    with pytest.raises(ValueError, match="one length"):
        metrics.confusion_matrix([0, 1], [0], 2)
