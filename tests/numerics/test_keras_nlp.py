"""Do keras-nlp's backbones and ours compute the same from the same weights?"""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm import interop
from kerasllm.errors import ConfigError
from kerasllm.models import GPTCausalLM

SIZES = {
    "vocabulary_size": 60,
    "num_layers": 2,
    "num_heads": 4,
    "hidden_dim": 32,
    "intermediate_dim": 48,
    "max_sequence_length": 16,
}
TOKEN_IDS = tf.constant(np.random.default_rng(0).integers(1, 60, (3, 12)), tf.int32)
PADDING_MASK = tf.constant(np.arange(12)[None] < np.array([[12], [9], [5]]), tf.int32)


@pytest.fixture(scope="module")
def keras_hub():
    return pytest.importorskip("keras_hub")


def with_random_weights(backbone):
    """Zero biases and unit gains would hide a mistake."""
    generator = np.random.default_rng(1)
    for weight in backbone.weights:
        weight.assign(weight + generator.normal(0, 0.1, weight.shape))
    return backbone


def test_bert_hidden_states_agree(keras_hub):
    theirs = with_random_weights(keras_hub.models.BertBackbone(**SIZES))
    ours = interop.from_keras_nlp(theirs)
    segments = tf.constant(np.arange(12)[None] >= 6, tf.int32) * PADDING_MASK
    expected = theirs({"token_ids": TOKEN_IDS, "segment_ids": segments, "padding_mask": PADDING_MASK})
    actual = ours({"token_ids": TOKEN_IDS, "token_type_ids": segments, "sequence_ids": PADDING_MASK})
    real = PADDING_MASK.numpy().astype(bool)
    assert np.abs(actual["hidden"] - expected["sequence_output"])[real].max() < 1e-5
    assert np.abs(actual["pooled"] - expected["pooled_output"]).max() < 1e-5


def test_gpt2_hidden_states_agree(keras_hub):
    theirs = with_random_weights(keras_hub.models.GPT2Backbone(**SIZES))
    ours = interop.from_keras_nlp(theirs)
    expected = theirs({"token_ids": TOKEN_IDS, "padding_mask": PADDING_MASK})
    actual = ours({"token_ids": TOKEN_IDS, "sequence_ids": PADDING_MASK})["hidden"]
    assert np.abs(actual - expected)[PADDING_MASK.numpy().astype(bool)].max() < 1e-5


def test_gpt2_logits_agree(keras_hub):
    theirs = keras_hub.models.GPT2CausalLM(with_random_weights(keras_hub.models.GPT2Backbone(**SIZES)), None)
    ours = GPTCausalLM(interop.from_keras_nlp(theirs.backbone))
    expected = theirs({"token_ids": TOKEN_IDS, "padding_mask": PADDING_MASK})
    actual = ours({"token_ids": TOKEN_IDS, "sequence_ids": PADDING_MASK})["logits"]
    assert np.abs(actual - expected)[PADDING_MASK.numpy().astype(bool)].max() < 1e-4


def test_another_kind_of_model_is_refused_by_name():
    with pytest.raises(ConfigError, match="keras-nlp dict cannot be converted"):
        interop.from_keras_nlp({})
