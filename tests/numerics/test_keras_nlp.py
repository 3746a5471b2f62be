"""Do keras-nlp's backbones and ours compute the same from the same weights?"""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm import interop, models, text
from kerasllm.errors import CheckpointError, ConfigError

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


def test_a_bert_preset_on_disk_computes_what_ours_does_and_comes_back(keras_hub, tmp_path):
    tokenizer = text.train_wordpiece(["Net profit rose.", "Sales fell, 净利润下降。"] * 3, vocab_size=60)
    fields = {"num_layers": 2, "hidden_dim": 32, "num_heads": 4, "intermediate_dim": 48, "max_length": 16}
    ours = models.BertBackbone(tokenizer.vocab_size, name="backbone", activation="gelu_tanh", **fields)
    with_random_weights(ours)
    assert interop.write_preset(ours, tmp_path / "bert", tokenizer)
    theirs = keras_hub.models.BertBackbone.from_preset(str(tmp_path / "bert"))
    token_ids = TOKEN_IDS % tokenizer.vocab_size
    inputs = {"token_ids": token_ids, "segment_ids": 0 * token_ids, "padding_mask": PADDING_MASK}
    expected = ours({"token_ids": token_ids, "sequence_ids": PADDING_MASK})
    assert np.abs(theirs(inputs)["pooled_output"] - expected["pooled"]).max() < 1e-5
    back, read = interop.read_preset(tmp_path / "bert")
    assert (read.words, read.lowercase) == (tokenizer.words, True)
    for weight, twin in zip(ours.weights, back.weights, strict=True):
        np.testing.assert_array_equal(weight, twin, weight.path)


def test_a_gpt_preset_on_disk_gives_our_logits_and_comes_back(keras_hub, tmp_path):
    tokenizer = text.train_sentencepiece(["Net profit rose.", "Sales fell, 净利润下降。"] * 20, vocab_size=310)
    ours = models.GPTBackbone(tokenizer.vocab_size, name="backbone", num_layers=2, hidden_dim=32, num_heads=4)
    with_random_weights(ours)
    assert not interop.write_preset(ours, tmp_path / "gpt", tokenizer)  # there is no such tokenizer there
    theirs = keras_hub.models.GPT2CausalLM.from_preset(str(tmp_path / "gpt"), preprocessor=None)
    expected = models.GPTCausalLM(ours)({"token_ids": TOKEN_IDS})["logits"]
    actual = theirs({"token_ids": TOKEN_IDS, "padding_mask": tf.ones_like(TOKEN_IDS)})
    assert np.abs(actual - expected).max() < 1e-4
    back, read = interop.read_preset(tmp_path / "gpt")
    assert read is None
    for weight, twin in zip(ours.weights, back.weights, strict=True):
        np.testing.assert_array_equal(weight, twin, weight.path)


def test_the_exact_gelu_goes_there_only_if_that_is_said(keras_hub, tmp_path):
    ours = models.BertBackbone(60, num_layers=1, hidden_dim=32, num_heads=4, max_length=16)
    with pytest.raises(ConfigError, match="activation='gelu' has no place .* with_tanh_gelu=True"):
        interop.to_keras_nlp(ours)
    theirs = interop.to_keras_nlp(ours, with_tanh_gelu=True)
    inputs = {"token_ids": TOKEN_IDS, "segment_ids": 0 * TOKEN_IDS, "padding_mask": PADDING_MASK}
    difference = (
        theirs(inputs)["pooled_output"] - ours({"token_ids": TOKEN_IDS, "sequence_ids": PADDING_MASK})["pooled"]
    )
    assert 0 < np.abs(difference).max() < 1e-2


def test_other_norms_and_folders_that_are_no_preset_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="norm='rms_norm' has no place in keras-nlp's GPT2Backbone"):
        interop.to_keras_nlp(models.GPTBackbone(60, num_layers=1, hidden_dim=32, num_heads=4, norm="rms_norm"))
    with pytest.raises(CheckpointError, match="not a keras-nlp preset"):
        interop.read_preset(tmp_path)


def test_gpt2_logits_agree(keras_hub):
    theirs = keras_hub.models.GPT2CausalLM(with_random_weights(keras_hub.models.GPT2Backbone(**SIZES)), None)
    ours = models.GPTCausalLM(interop.from_keras_nlp(theirs.backbone))
    expected = theirs({"token_ids": TOKEN_IDS, "padding_mask": PADDING_MASK})
    actual = ours({"token_ids": TOKEN_IDS, "sequence_ids": PADDING_MASK})["logits"]
    assert np.abs(actual - expected)[PADDING_MASK.numpy().astype(bool)].max() < 1e-4


def test_another_kind_of_model_is_refused_by_name():
    with pytest.raises(ConfigError, match="keras-nlp dict cannot be converted"):
        interop.from_keras_nlp({})
