"""Do lower layers learn as much slower as the run says, and the others as before?"""

import numpy as np
import tensorflow as tf

from kerasllm import config, models
from kerasllm.training.by_layer import layer_shares
from kerasllm.training.optimizers import make_optimizer


def classifier() -> tf.Module:
    run = config.make_run(
        {
            "data": {"labels": ["a", "b"]},
            "objective": {"task": "text_classification"},
            "backbone": {"num_layers": 2, "hidden_dim": 8, "num_heads": 2},
        }
    )
    return models.from_run(run, 20)


def test_each_layer_down_has_half_the_rate_of_the_one_above():
    model = classifier()
    shares = dict(zip((one.path for one in model.trainable_variables), layer_shares(model, 0.5), strict=True))
    assert shares["backbone/embedding/word_table"] == 0.125
    assert shares["backbone/block_0/expand/kernel"] == 0.25
    assert shares["backbone/block_1/expand/kernel"] == 0.5
    assert shares["backbone/pooler/projection/kernel"] == 1.0
    assert shares["text_classifier/head_label/projection/kernel"] == 1.0


def test_the_first_update_of_a_layer_is_its_share_of_the_rate():
    # Adam's first step is rate x sign of the gradient, whatever the gradient: 0.01 x 0.5 in the upper block.
    model = classifier()
    settings = config.Optimizer(
        peak_learning_rate=0.01, warmup_share=0.0, decay="constant", weight_decay=0.0, epsilon=1e-12, layer_decay=0.5
    )
    optimizer = make_optimizer(settings, 1, model)
    before = [one.numpy() for one in model.trainable_variables]
    optimizer.apply([tf.ones(one.shape) for one in model.trainable_variables], model.trainable_variables)
    for variable, old, share in zip(model.trainable_variables, before, layer_shares(model, 0.5), strict=True):
        np.testing.assert_allclose(old - variable.numpy(), 0.01 * share, rtol=1e-3, err_msg=variable.path)
