"""The schedule by hand, the fused update against Keras's own, and who is spared from decay."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm import config
from kerasllm.training.optimizers import WarmupThenDecay, make_optimizer
from kerasllm.training.update_rules import FusedAdamW


@pytest.mark.parametrize(
    ("decay", "rates"),
    [
        # 2 of 6 updates rise: 1/2, 1; then 4 updates fall from 1 to a final share of 0.2.
        ("linear", [0.5, 1.0, 0.8, 0.6, 0.4, 0.2]),
        # 0.2 + 0.8 * (1 + cos(pi k / 4)) / 2 for k = 1 to 4
        ("cosine", [0.5, 1.0, 0.882843, 0.6, 0.317157, 0.2]),
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_the_rate_rises_then_falls_to_its_final_share_at_the_last_update(decay: str, rates: list[float]) -> None:
    schedule = WarmupThenDecay(peak=1.0, warmup_steps=2, total_steps=6, decay=decay, final_share=0.2)
    np.testing.assert_allclose([float(schedule(step)) for step in range(6)], rates, atol=1e-6)


def test_without_warm_up_the_first_update_has_nearly_the_peak() -> None:
    schedule = WarmupThenDecay(peak=3.0, warmup_steps=0, total_steps=3, decay="linear", final_share=0.0)
    np.testing.assert_allclose([float(schedule(step)) for step in range(4)], [2.0, 1.0, 0.0, 0.0], atol=1e-6)


def test_the_fused_update_is_that_of_keras() -> None:
    start = np.linspace(-1, 1, 12).reshape(3, 4).astype(np.float32)
    results = []
    for kind in (FusedAdamW, keras.optimizers.AdamW):
        variable = keras.Variable(start, name="kernel")
        optimizer = kind(learning_rate=0.1, weight_decay=0.01, epsilon=1e-6)
        optimizer.build([variable])
        for step in range(5):
            optimizer.apply([tf.constant(start * (step - 1.5))], [variable])
        results.append(variable.numpy())
    np.testing.assert_allclose(results[0], results[1], rtol=1e-6, atol=1e-6)
    assert not np.allclose(results[0], start)


def test_decay_spares_norms_and_biases() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), keras.layers.LayerNormalization()])
    for variable in model.trainable_variables:
        variable.assign(tf.ones_like(variable.value))
    settings = config.Optimizer(peak_learning_rate=0.5, warmup_share=0, decay="constant", weight_decay=0.1)
    optimizer = make_optimizer(settings, 10, model)
    optimizer.apply([tf.zeros_like(variable.value) for variable in model.trainable_variables])
    # Without a gradient only decay moves a weight: 1 - 0.5 * 0.1 = 0.95.
    moved = {
        variable.path.split("/", 1)[-1]: float(variable.numpy().ravel()[0]) for variable in model.trainable_variables
    }
    assert {round(value, 6) for path, value in moved.items() if path.endswith("kernel")} == {0.95}
    assert {value for path, value in moved.items() if not path.endswith("kernel")} == {1.0}
    assert len(moved) >= 3
