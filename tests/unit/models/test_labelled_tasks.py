"""Does a model that learns labels beside masked words read the right token, and nothing where nothing is asked?"""

import keras
import numpy as np
import tensorflow as tf

from kerasllm import models
from kerasllm.config import make_run

RUN = {
    "backbone": {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "max_length": 16},
    "mix": {"inference": {"labels": ["yes", "no", "maybe"], "share": 0.2}},
    "train": {"steps": 1, "sequence_length": 16},
    "export": {"sequence_length": 16},
}
IDS = tf.constant([[2, 7, 8, 3, 2, 9, 3, 0]])
INPUTS = {"token_ids": IDS, "sequence_ids": tf.constant([[1, 1, 1, 1, 2, 2, 2, 0]])}
NO_SLOT = tf.zeros([1, 0], tf.int32)


def test_labels_are_read_from_the_first_token_also_in_packed_rows():
    model = models.from_run(make_run(RUN), 20)
    packed = {**INPUTS, "pair_positions": tf.constant([[0, 4]]), "masked_positions": NO_SLOT}
    outputs = model(packed)
    assert outputs["masked_lm_logits"].shape == (1, 0, 20)
    hidden = model.backbone(packed, packed=True)["hidden"]
    expected = model.heads["inference"](model.backbone.pooler(hidden[:, 0]))
    np.testing.assert_allclose(outputs["inference_logits"], expected, rtol=1e-5)
    assert outputs["inference_logits"].shape == (1, 3)


def test_a_model_made_anew_has_the_same_heads():
    model = models.from_run(make_run(RUN), 20)
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    batch = {**INPUTS, "masked_positions": tf.constant([[1, 2]])}
    for name, logits in model(batch).items():
        np.testing.assert_allclose(copy(batch)[name], logits, rtol=1e-6, err_msg=name)


def test_no_slot_gives_the_word_head_no_gradient():
    model = models.from_run(make_run(RUN), 20)
    with tf.GradientTape() as tape:
        outputs = model({**INPUTS, "masked_positions": NO_SLOT}, training=True, dropout_seed=tf.constant([1, 2]))
        loss = tf.reduce_sum(outputs["inference_logits"]) + tf.reduce_sum(outputs["masked_lm_logits"])
    head, bias = tape.gradient(loss, [model.masked_lm.transform.kernel.value, model.masked_lm.bias.value])
    assert not np.any(keras.ops.convert_to_numpy(head))
    assert not np.any(keras.ops.convert_to_numpy(bias))
