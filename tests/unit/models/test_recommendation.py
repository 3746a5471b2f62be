"""Does the recommender score by text alone, fade its prior, and build lists by its explicit steps?"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from kerasllm import decisions
from kerasllm.config import make_run
from kerasllm.data.interactions import Catalogue, make_events
from kerasllm.data.item_tables import make_tables
from kerasllm.export.recommender import BECAUSE, POPULAR, ItemNames, RecommenderSignatures
from kerasllm.models.recommendation import FEATURES, IMPOSSIBLE, Recommender

NUM_ITEMS = 8
CATEGORIES = (("a",), ("a",), ("a",), ("a", "b"), ("b",), ("b",), ("c",), ())


def a_run(**recommendation: float):
    return make_run(
        {
            "objective": {"task": "recommendation"},
            "backbone": {
                "architecture": "gpt",
                "num_layers": 1,
                "hidden_dim": 16,
                "num_heads": 2,
                "norm_order": "pre",
                "num_token_types": 0,
            },
            "recommendation": {"history_length": 4, "table_strength": 1.0, "list_length": 4, **recommendation},
            "train": {"epochs": 1},
        }
    )


def tables_of(run):
    """A log in which everyone likes item 0, and items 6 and 7 have no event."""
    rows = [(f"user{user}", item, 100 * user + item, 5.0) for user in range(4) for item in range(user, 6)]
    names = tuple(f"i{number}" for number in range(NUM_ITEMS))
    catalogue = Catalogue(names, names, names, CATEGORIES, np.full(NUM_ITEMS, np.nan))
    text = np.random.default_rng(2).normal(size=(NUM_ITEMS, 6)).astype(np.float32)
    return make_tables(catalogue, make_events(rows), text, run.recommendation)


def a_model(run, tables=None):
    tables = tables or tables_of(run)
    return Recommender(run, dataclasses.asdict(tables), tables.num_trained)


def signatures_of(run, model=None):
    names = tuple(f"i{number}" for number in range(NUM_ITEMS))
    return RecommenderSignatures(
        model or a_model(run),
        lambda texts: tf.ones([tf.shape(texts)[0], 6]),
        [],
        np.zeros(6, np.float32),
        ItemNames(names, [f"Title {name}" for name in names], CATEGORIES, ("a", "b", "c")),
        run.recommendation,
    )


def inputs_of(history, candidates):
    history = np.array(history, np.int32)
    return {
        "history": history,
        "history_levels": np.where(history > 0, 3, 0).astype(np.int32),
        "candidates": np.array(candidates, np.int32),
    }


def test_no_item_is_impossible():
    logits = a_model(a_run())(inputs_of([[1, 2, 0, 0]], [[3, 0]]))["logits"].numpy()
    assert logits[0, 1] == np.float32(IMPOSSIBLE)
    assert abs(logits[0, 0]) < 100


def test_a_cold_candidate_is_scored_by_its_text_and_not_by_its_own_embedding():
    run = a_run()
    model = a_model(run)
    before = model(inputs_of([[1, 2, 0, 0]], [[3, 7]]))["logits"].numpy()
    model.item_table.assign(model.item_table.value + tf.random.stateless_normal(model.item_table.shape, [1, 2]))
    state = model.user_state(tf.constant([[1, 2, 0, 0]]), tf.constant([[3, 3, 0, 0]]))
    vectors = model.item_vectors(tf.constant([[3, 7]]), tf.constant([[0.0, 1.0]]))
    text = model.text_vectors(tf.gather(model.tables["text"], [[3, 7]]))
    np.testing.assert_allclose(vectors[0, 1], text[0, 1], atol=1e-6)
    assert not np.allclose(vectors[0, 0], text[0, 0])
    assert state.shape == (1, 16)
    assert before.shape == (1, 2)


def test_the_prior_fades_with_the_events_of_a_user():
    run = a_run(prior_events=2.0)
    model = a_model(run)
    place = FEATURES.index("prior")
    priors = [
        model.features(inputs_of([history], [[6]]))[0, 0, place].numpy()
        for history in ([0, 0, 0, 0], [1, 0, 0, 0], [1, 2, 0, 0])
    ]
    # k / (k + n) with k = 2: 1, 2/3, 1/2 of the popularity.
    np.testing.assert_allclose(np.array(priors) / priors[0], [1, 2 / 3, 1 / 2], rtol=1e-5)


def test_affinities_given_with_a_batch_replace_those_of_the_tables():
    model = a_model(a_run())
    inputs = inputs_of([[1, 2, 0, 0]], [[3, 4]])
    looked_up = model._affinity(inputs)
    same = model({**inputs, "affinity": looked_up})["logits"]
    np.testing.assert_allclose(same, model(inputs)["logits"], atol=1e-6)
    assert not np.allclose(model({**inputs, "affinity": looked_up + 1})["logits"], same)


def test_padding_behind_the_history_changes_nothing():
    model = a_model(a_run())
    short = model.user_state(tf.constant([[1, 2]]), tf.constant([[3, 3]]))
    long = model.user_state(tf.constant([[1, 2, 0, 0]]), tf.constant([[3, 3, 0, 0]]))
    np.testing.assert_allclose(short, long, atol=1e-5)


def test_served_scores_are_those_of_the_model():
    run = a_run()
    model = a_model(run)
    served = signatures_of(run, model).score(tf.constant(["i0:5,unknown:5,i1:5"]), tf.constant(["i2, i7,nothing"]))
    expected = model(inputs_of([[1, 2, 0, 0]], [[3, 8, 0]]))["logits"]
    np.testing.assert_allclose(served["scores"], expected, atol=1e-5)


def test_only_the_newest_events_count_and_values_become_levels():
    signatures = signatures_of(a_run())
    history, levels, had = signatures._read_history(tf.constant(["i0:5,i1:1,i2:3,i3,i4:x", ""]))
    assert history.numpy().tolist() == [[2, 3, 4, 5], [0, 0, 0, 0]]
    assert levels.numpy().tolist() == [[1, 2, 3, 3], [0, 0, 0, 0]]
    assert had.numpy()[0].tolist() == [False, True, True, True, True, True, False, False, False]


def test_lists_leave_out_what_was_had_and_what_is_blocked():
    answer = signatures_of(a_run()).recommend(tf.constant(["i0:5", "i0:1"]), tf.constant(["", "a"]))
    first, second = (set(row) for row in answer["items"].numpy())
    assert b"i0" not in first
    assert len(first) == 4
    assert second == {b"i4", b"i5", b"i6", b"i7"}


def test_a_cap_keeps_a_category_from_filling_the_list():
    items = signatures_of(a_run(most_per_category=1, list_length=6)).recommend(tf.constant([""]), tf.constant([""]))
    names = [item.decode() for item in items["items"].numpy()[0] if item]
    counts = {name: sum(name in CATEGORIES[int(item[1:])] for item in names) for name in "abc"}
    assert max(counts.values()) == 1
    assert items["scores"].numpy()[0, len(names) :] == pytest.approx(IMPOSSIBLE)  # nothing is left: "" and -1e9
    assert "i7" in names  # without a category


def test_the_choice_in_the_graph_is_maximal_marginal_relevance():
    run = a_run(diversity=0.4)
    tables = tables_of(run)
    signatures = signatures_of(run, a_model(run, tables))
    scores = np.random.default_rng(4).normal(size=NUM_ITEMS).astype(np.float32)
    numbers = np.arange(1, NUM_ITEMS + 1, dtype=np.int32)
    chosen = signatures._choose(tf.constant(numbers[None]), tf.constant(scores[None])).numpy()[0]
    relevance = (scores - scores.min()) / (scores.max() - scores.min())
    similarity = np.maximum(tables.text[1:] @ tables.text[1:].T, 0)
    expected = decisions.maximal_marginal_relevance(relevance, similarity, 4, trade_off=0.6)
    assert chosen.tolist() == expected.tolist()


def test_reasons_name_a_liked_item_or_say_popular():
    answer = signatures_of(a_run()).recommend(tf.constant(["i0:5,i1:1", ""]), tf.constant(["", ""]))
    reasons = [[text.decode() for text in row] for row in answer["reasons"].numpy()]
    assert any(reason == BECAUSE + "Title i0" for reason in reasons[0])
    assert not any("Title i1" in reason for reason in reasons[0])  # it was disliked
    assert set(reasons[1]) == {POPULAR}


def test_the_period_is_the_distance_to_the_mean_release_of_what_was_liked():
    run = a_run()
    released = np.zeros([NUM_ITEMS + 1, 2], np.float32)
    released[1:5] = [[1.0, 1], [3.0, 1], [0.0, 0], [2.5, 1]]  # decades from 1970; of item 3 it is not known
    model = a_model(run, dataclasses.replace(tables_of(run), released=released))
    model.event_weights.assign(np.ones(model.event_weights.shape, np.float32))
    inputs = {
        "history": tf.constant([[1, 2, 3, 0], [3, 0, 0, 0]]),
        "history_levels": tf.constant([[3, 3, 3, 0], [3, 0, 0, 0]]),
        "candidates": tf.constant([[4, 3, 5], [4, 3, 5]]),
    }
    found = model.features(inputs)[..., FEATURES.index("same_period")]
    np.testing.assert_allclose(found, [[-abs(2.5 - (1.0 + 3.0) / 2), 0, 0], [0, 0, 0]], atol=1e-6)


def test_a_new_item_has_weights_of_its_own():
    model = a_model(a_run())
    features = np.zeros([1, 2, len(FEATURES)], np.float32)
    features[..., FEATURES.index("text")] = 1
    features[0, 1, FEATURES.index("is_cold")] = 1
    model.feature_weights.assign(np.zeros(model.feature_weights.shape, np.float32))
    model.feature_weights.assign(model.feature_weights.numpy() + np.array([[2.0], [3.0]], np.float32))
    # text 2, and for the new one the same of is_cold and 3 of both besides
    np.testing.assert_allclose(model.rank(tf.constant(features)), [[2.0, 2 + 2 + 3 + 3]], atol=1e-5)
