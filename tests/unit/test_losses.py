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


# Two queries in the plane; each has its right passage and one mined one, at these angles (cosine of the difference).
QUERIES = tf.constant([[1.0, 0.0], [0.0, 1.0]])
PASSAGES = tf.constant([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [-1.0, 0.0]]])
MATCHING = {"query_embeddings": QUERIES, "passage_embeddings": PASSAGES}


def matching_batch(**changes):
    batch = {
        "query_group": tf.constant([0, 1]),
        "passage_group": tf.constant([[0, 1], [2, 3]]),
        "candidate_weights": tf.ones([2, 2]),
        "match_weights": tf.ones([2]),
    }
    return batch | changes


def matching_head(symmetric=False):
    matching = {"temperature": 1.0, "symmetric": symmetric}
    (head,) = losses.heads_for(make_run({"objective": {"task": "text_matching"}, "matching": matching}))
    return head


def test_each_query_picks_among_all_passages_of_the_batch():
    # Cosines of query 0: 1, 0, 0, -1; of query 1: 0, 1, 1, 0 where the right one ties with a mined one.
    first = np.log(np.e + 2 + 1 / np.e) - 1
    second = np.log(2 * np.e + 2) - 1
    totals = matching_head().totals(MATCHING, matching_batch())
    assert float(totals["loss"]) == pytest.approx(first + second, abs=1e-5)
    assert float(totals["correct"]) == 1.5
    assert float(matching_head().targets(matching_batch())) == 2.0


def test_equal_passages_and_those_of_an_equal_query_are_no_negatives():
    # Passage (0, 1) says what the right one of query 1 says: query 1 loses its rival, 0, 1, 0 are left.
    same_passage = matching_batch(passage_group=tf.constant([[0, 2], [2, 3]]))
    logits = losses.in_batch_logits(MATCHING, same_passage, 1.0).numpy()
    assert (logits[1] <= losses.NOT_A_CANDIDATE).tolist() == [False, True, False, False]
    # Equal queries: the right passage of either, and what equals it, is no negative of the other.
    same_query = matching_batch(query_group=tf.constant([7, 7]), passage_group=tf.constant([[0, 1], [2, 0]]))
    logits = losses.in_batch_logits(MATCHING, same_query, 1.0).numpy()
    assert (logits <= losses.NOT_A_CANDIDATE).tolist() == [[False, False, True, True], [True, False, False, True]]


def test_a_row_that_fills_up_the_batch_teaches_nothing_and_is_no_negative():
    alone = matching_batch(match_weights=tf.constant([1.0, 0.0]), candidate_weights=tf.constant([[1.0, 0.0], [1, 1]]))
    with tf.GradientTape() as tape:
        tape.watch([QUERIES, PASSAGES])
        loss = matching_head(symmetric=True).totals(MATCHING, alone)["loss"]
    assert float(loss) == pytest.approx(0.0, abs=1e-6)
    for gradient in tape.gradient(loss, [QUERIES, PASSAGES]):
        np.testing.assert_allclose(gradient, 0.0, atol=1e-6)


def test_the_symmetric_loss_is_the_mean_of_both_directions():
    # Back: passage 0 sees queries at 1 and 0, passage 1 likewise: ln(e + 1) - 1 each.
    forward = float(matching_head().totals(MATCHING, matching_batch())["loss"])
    both = float(matching_head(symmetric=True).totals(MATCHING, matching_batch())["loss"])
    assert both == pytest.approx((forward + 2 * (np.log(np.e + 1) - 1)) / 2, abs=1e-5)


def test_a_reranker_picks_the_first_of_the_candidates_that_are_there():
    (head,) = losses.heads_for(make_run({"objective": {"task": "reranking"}}))
    batch = {"candidate_weights": tf.constant([[1.0, 1, 0], [1, 1, 1]]), "match_weights": tf.constant([1.0, 0.0])}
    totals = head.totals({"scores": tf.constant([[0.0, 0.0, 9.0], [0, 1, 2]])}, batch)
    assert float(totals["loss"]) == pytest.approx(np.log(2), abs=1e-6)
    assert float(totals["correct"]) == 0.5
    assert float(head.targets(batch)) == 1.0


def test_neighbours_that_disagree_cost_the_mean_of_both_divergences():
    # p = (1/2, 1/2), q = (1/4, 3/4): both divergences together are the sum of (p - q) ln(p / q),
    # 1/4 ln 2 + 1/4 ln 3/2 = 0.2747; the mean of the two is half of it. The second pair has no weight.
    logits = tf.math.log(tf.constant([[0.5, 0.5], [0.25, 0.75], [0.9, 0.1], [0.1, 0.9]]))
    assert float(losses.disagreement(logits, tf.constant([1.0, 1.0, 0.0, 0.0]))) == pytest.approx(0.13733, abs=1e-5)


def test_consistency_is_asked_of_rows_that_come_in_twos_only():
    run = make_run({"objective": {"task": "text_classification", "consistency": 2.0}})
    (head,) = losses.heads_for(run)
    outputs = {"label_logits": tf.math.log(tf.constant([[0.5, 0.5], [0.25, 0.75]]))}
    batch = {"label_labels": tf.constant([0, 0]), "label_weights": tf.ones([2])}
    plain = float(head.totals(outputs, batch)["loss"])
    assert plain == pytest.approx(np.log(8), abs=1e-6)  # p = 1/2 and 1/4
    twice = {**batch, "twice_weights": tf.ones([2])}
    assert float(head.training_totals(outputs, twice)["loss"]) - plain == pytest.approx(2 * 0.13733, abs=1e-5)
    assert float(head.training_totals(outputs, batch)["loss"]) == plain


def test_smoothed_labels_give_every_class_its_part():
    # p = (1/2, 1/4, 1/4), label 1, e = 0.3: targets (0.1, 0.8, 0.1): 0.1 ln 2 + 0.8 ln 4 + 0.1 ln 4 = 1.9 ln 2.
    totals = losses.weighted_cross_entropy(LOGITS[:2], tf.constant([1, 1]), tf.constant([1.0, 0.0]), smoothing=0.3)
    assert float(totals["loss"]) == pytest.approx(1.9 * np.log(2), abs=1e-6)


def test_labels_are_smoothed_in_training_and_not_where_it_is_judged():
    run = make_run({"objective": {"task": "text_classification", "label_smoothing": 0.3}})
    (head,) = losses.heads_for(run)
    batch = {"label_labels": tf.constant([1, 0, 0]), "label_weights": tf.constant([1.0, 0.0, 0.0])}
    outputs = {"label_logits": LOGITS}
    assert float(head.training_totals(outputs, batch)["loss"]) == pytest.approx(1.9 * np.log(2), abs=1e-6)
    assert float(head.totals(outputs, batch)["loss"]) == pytest.approx(np.log(4), abs=1e-6)


def test_tasks_beside_the_corpus_have_heads_of_their_own():
    task = {"labels": ["a", "b", "c"], "share": 0.2, "weight": 0.5}
    heads = losses.heads_for(make_run({"mix": {"inference": task}}))
    assert [(head.name, head.weight) for head in heads][-1] == ("inference", 0.5)
    batch = {"inference_labels": tf.constant([1, 0, 0]), "inference_weights": tf.constant([1.0, 0.0, 0.0])}
    assert float(heads[-1].totals({"inference_logits": LOGITS}, batch)["loss"]) == pytest.approx(np.log(4), abs=1e-6)
