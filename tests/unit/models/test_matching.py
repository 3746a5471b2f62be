"""Do the dual encoder and the cross-encoder compare texts whatever else is in the batch?"""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm import models
from kerasllm.config import make_run
from kerasllm.models import CrossEncoder, TextEncoder
from tests.checks import assert_close

SMALL = {"num_layers": 1, "hidden_dim": 16, "num_heads": 2, "max_length": 16}


def rows(*shape: int) -> dict[str, tf.Tensor]:
    """Random tokens; the last two of each row are padding."""
    ids = tf.random.stateless_uniform(shape, [1, 2], 5, 50, tf.int32)
    is_real = tf.broadcast_to(tf.range(shape[-1]) < shape[-1] - 2, shape)
    return {"token_ids": ids, "token_type_ids": tf.zeros_like(ids), "sequence_ids": tf.cast(is_real, tf.int32)}


def model_of(task: str, pooling: str = "mean", vocab_size: int = 50):
    settings = {"backbone": SMALL, "objective": {"task": task, "pooling": pooling}}
    run = make_run({**settings, "train": {"steps": 1, "sequence_length": 16}, "export": {"sequence_length": 16}})
    return models.from_run(run, vocab_size)


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_embeddings_have_length_1_and_do_not_see_padding(pooling):
    encoder, batch = model_of("text_matching", pooling), rows(3, 8)
    embeddings = encoder(batch)["embeddings"]
    np.testing.assert_allclose(tf.norm(embeddings, axis=1), 1.0, atol=1e-5)
    shorter = encoder({key: values[:, :6] for key, values in batch.items()})["embeddings"]
    assert_close(shorter, embeddings)


def test_a_training_batch_gets_the_embeddings_of_its_texts_one_by_one():
    encoder, queries, passages = model_of("text_matching"), rows(2, 6), rows(2, 3, 8)
    batch = {f"query_{key}": values for key, values in queries.items()}
    outputs = encoder(batch | {f"passage_{key}": values for key, values in passages.items()})
    assert_close(outputs["query_embeddings"], encoder(queries)["embeddings"])
    assert outputs["passage_embeddings"].shape == (2, 3, 16)
    one = {key: values[1] for key, values in passages.items()}
    assert_close(outputs["passage_embeddings"][1], encoder(one)["embeddings"])


def test_the_two_sides_of_a_batch_drop_other_places():
    encoder, same = model_of("text_matching"), rows(2, 8)
    batch = {f"query_{key}": values for key, values in same.items()}
    batch |= {f"passage_{key}": values[:, None] for key, values in same.items()}
    outputs = encoder(batch, training=True, dropout_seed=tf.constant([1, 2]))
    again = encoder(batch, training=True, dropout_seed=tf.constant([1, 2]))
    assert_close(again["query_embeddings"], outputs["query_embeddings"])
    difference = outputs["query_embeddings"] - outputs["passage_embeddings"][:, 0]
    assert float(tf.reduce_max(tf.abs(difference))) > 1e-3


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_candidates_are_scored_one_by_one(pooling):
    scorer, candidates = model_of("reranking", pooling), rows(2, 3, 8)
    scores = scorer(candidates)["scores"]
    assert scores.shape == (2, 3)
    assert scores.dtype == tf.float32
    assert_close(scorer({key: values[1] for key, values in candidates.items()})["scores"], scores[1])


def test_which_text_is_the_second_makes_a_difference():
    scorer, pairs = model_of("reranking"), rows(1, 8)
    other = pairs | {"token_type_ids": tf.ones_like(pairs["token_ids"])}
    assert abs(float(scorer(pairs)["scores"][0] - scorer(other)["scores"][0])) > 1e-6


@pytest.mark.parametrize(("task", "kind"), [("text_matching", TextEncoder), ("reranking", CrossEncoder)])
def test_matching_models_come_back_from_their_configuration(task, kind):
    model = model_of(task)
    twin = kind.from_config(model.get_config())
    assert twin.get_config() == model.get_config()
    assert [tuple(w.shape) for w in twin.weights] == [tuple(w.shape) for w in model.weights]
