"""Is each head's loss the sum over its real targets?"""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm import losses
from kerasllm.config import make_run

# softmax of (ln 2, ln 1, ln 1) is (1/2, 1/4, 1/4)
LOGITS = tf.math.log(tf.constant([[2.0, 1, 1], [2, 1, 1], [2, 1, 1]]))


def test_only_weighted_slots_count():
    # Labels 0 and 1 at p = 1/2 and 1/4: ln 2 + ln 4 = 2.0794; the third slot is empty.
    totals = losses.weighted_cross_entropy(LOGITS, tf.constant([0, 1, 2]), tf.constant([1.0, 1.0, 0.0]))
    assert float(totals["loss"]) == pytest.approx(np.log(8), abs=1e-6)
    assert float(totals["correct"]) == 1.0  # label 0 scores highest, label 1 does not


def test_the_gradient_of_an_empty_slot_is_nothing():
    with tf.GradientTape() as tape:
        tape.watch(LOGITS)
        loss = losses.weighted_cross_entropy(LOGITS, tf.constant([0, 1, 2]), tf.constant([1.0, 1.0, 0.0]))["loss"]
    # p - onehot: (1/2 - 1, 1/4, 1/4), (1/2, 1/4 - 1, 1/4), nothing
    expected = [[-0.5, 0.25, 0.25], [0.5, -0.75, 0.25], [0, 0, 0]]
    np.testing.assert_allclose(tape.gradient(loss, LOGITS), expected, atol=1e-6)


def test_bert_has_two_heads_unless_one_weighs_nothing():
    assert [head.name for head in losses.heads_for(make_run({}))] == ["masked_lm", "next_sentence"]
    run = make_run({"objective": {"next_sentence_weight": 0.0, "masked_lm_weight": 2.0}})
    assert [(head.name, head.weight) for head in losses.heads_for(run)] == [("masked_lm", 2.0)]


def test_the_head_of_a_causal_model_reads_its_own_labels_and_weights():
    (head,) = losses.heads_for(make_run({"objective": {"task": "gpt_pretraining"}}))
    assert head.name == "causal_lm"
    batch = {"labels": tf.constant([0, 1, 2]), "label_weights": tf.constant([1.0, 1.0, 0.0])}
    assert float(head.targets(batch)) == 2.0
    assert float(head.totals({"logits": LOGITS}, batch)["loss"]) == pytest.approx(np.log(8), abs=1e-6)


def test_each_head_of_a_classifier_counts_its_own_rows_and_weighs_what_the_run_says():
    heads = {
        "mood": {"column": "m", "labels": ["a", "b", "c"]},
        "topic": {"column": "t", "labels": ["x", "y", "z"], "weight": 0.5},
    }
    run = make_run({"objective": {"task": "text_classification"}, "data": {"heads": heads}})
    mood, topic = losses.heads_for(run)
    assert (mood.name, mood.weight, topic.name, topic.weight) == ("mood", 1.0, "topic", 0.5)
    batch = {
        "mood_labels": tf.constant([0, 1, 0]),
        "mood_weights": tf.constant([1.0, 1.0, 0.0]),
        "topic_labels": tf.constant([0, 0, 1]),
        "topic_weights": tf.constant([0.0, 0.0, 1.0]),
    }
    outputs = {"mood_logits": LOGITS, "topic_logits": LOGITS}
    assert (float(mood.targets(batch)), float(topic.targets(batch))) == (2.0, 1.0)
    assert float(mood.totals(outputs, batch)["loss"]) == pytest.approx(np.log(8), abs=1e-6)
    assert float(topic.totals(outputs, batch)["loss"]) == pytest.approx(np.log(4), abs=1e-6)


def test_a_classifier_without_named_heads_has_one():
    (head,) = losses.heads_for(make_run({"objective": {"task": "text_classification"}}))
    assert head.name == "label"


def test_bert_heads_read_slots_and_pairs():
    masked_lm, next_sentence = losses.heads_for(make_run({}))
    batch = {
        "masked_labels": tf.constant([[0, 1, 2]]),
        "masked_weights": tf.constant([[1.0, 0.0, 0.0]]),
        "pair_labels": tf.constant([[1]]),
        "pair_weights": tf.constant([[1.0]]),
    }
    outputs = {"masked_lm_logits": LOGITS[None], "next_sentence_logits": tf.zeros([1, 1, 2])}
    assert float(masked_lm.targets(batch)) == 1.0
    assert float(masked_lm.totals(outputs, batch)["loss"]) == pytest.approx(np.log(2), abs=1e-6)
    assert float(next_sentence.totals(outputs, batch)["loss"]) == pytest.approx(np.log(2), abs=1e-6)


def test_labels_that_tie_for_the_highest_score_share_the_right_answer():
    # Two of four tie: half an answer.
    tied = losses.weighted_cross_entropy(tf.constant([[3.0, 3.0, 1.0, 0.0]]), tf.constant([0]), tf.constant([1.0]))
    assert float(tied["correct"]) == 0.5


def test_logits_that_are_no_numbers_answer_nothing():
    broken = losses.weighted_cross_entropy(tf.fill([1, 3], np.nan), tf.constant([0]), tf.constant([1.0]))
    assert float(broken["correct"]) == 0.0
