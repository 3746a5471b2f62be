"""Do models say the same when they do not compute padding?"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.models import BertBackbone, GPTBackbone, GPTCausalLM, TextClassifier, TextEncoder
from tests.checks import assert_close

SMALL = {"num_layers": 2, "hidden_dim": 16, "num_heads": 2, "max_length": 16}
TOKEN_IDS = tf.random.stateless_uniform([4, 8], [1, 2], 5, 50, tf.int32)
LENGTHS = tf.constant([3, 8, 2, 5])
SEQUENCE_IDS = tf.sequence_mask(LENGTHS, 8, tf.int32)
BATCH = {"token_ids": TOKEN_IDS, "token_type_ids": tf.zeros_like(TOKEN_IDS), "sequence_ids": SEQUENCE_IDS}


@pytest.fixture
def backbone():
    keras.utils.set_random_seed(3)
    return BertBackbone(50, **SMALL)


def both(model):
    """What a model says to the batch with and without computing padding."""
    model.backbone.skips_padding = False
    with_padding = model(BATCH, training=False)
    model.backbone.skips_padding = True
    return with_padding, model(BATCH, training=False)


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_labels_and_embeddings_are_the_same(backbone, pooling):
    for model, key in (
        (TextClassifier(backbone, 3, pooling=pooling), "label_logits"),
        (TextEncoder(backbone, pooling), "embeddings"),
    ):
        expected, found = both(model)
        assert np.ptp(expected[key], axis=0).max() > 1e-3
        assert_close(found[key], expected[key])


def test_next_words_are_the_same_at_the_tokens():
    expected, found = both(GPTCausalLM(GPTBackbone(50, **SMALL)))
    is_token = SEQUENCE_IDS == 1
    assert_close(found["logits"][is_token], expected["logits"][is_token])


def test_sequences_of_a_packed_row_are_the_same(backbone):
    packed = {**BATCH, "sequence_ids": tf.constant([[1, 1, 2, 2, 2, 0, 0, 0]] * 4)}
    packed["position_ids"] = tf.constant([[0, 1, 0, 1, 2, 0, 0, 0]] * 4)
    expected = backbone(packed, packed=True)["hidden"]
    backbone.skips_padding = True
    assert_close(backbone(packed, packed=True)["hidden"][:, :5], expected[:, :5])


def test_no_product_of_the_layers_has_a_row_for_padding(backbone):
    backbone.skips_padding = True
    widths = []
    expand = backbone.blocks[0].expand
    call = expand.call
    expand.call = lambda x, **options: widths.append(x.shape[0]) or call(x, **options)
    backbone(BATCH, training=False)
    assert widths == [18]  # 3 + 8 + 2 + 5


def test_a_batch_without_rows_stays_one(backbone):
    backbone.skips_padding = True
    empty = {key: values[:0] for key, values in BATCH.items()}
    assert backbone(empty)["pooled"].shape == (0, 16)


def test_rows_that_only_fill_up_a_batch_change_nothing(backbone):
    expected = TextEncoder(backbone)(BATCH)["embeddings"]
    backbone.skips_padding = True
    filled = {key: tf.pad(values, [[0, 2], [0, 0]]) for key, values in BATCH.items()}
    assert_close(TextEncoder(backbone)(filled)["embeddings"][:4], expected)
