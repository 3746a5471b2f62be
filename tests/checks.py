"""What must hold for every layer and every comparison of numbers?"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf


def assert_close(actual: Any, expected: Any, atol: float = 1e-5, rtol: float = 0.0) -> None:
    """Numbers, arrays, or dicts of them are equal up to `atol`."""
    if isinstance(expected, Mapping):
        assert actual.keys() == expected.keys()
        for key in expected:
            assert_close(actual[key], expected[key], atol, rtol)
        return
    actual, expected = (
        np.asarray(tf.cast(x, tf.float32)) if tf.is_tensor(x) else np.asarray(x) for x in (actual, expected)
    )
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    np.testing.assert_allclose(actual, expected, atol=atol, rtol=rtol)


def check_layer(layer: Any, *inputs: Any, output_shape: tuple[int, ...], **arguments: Any) -> Any:
    """What every layer keeps: shape, compute dtype or float32, config round trip, eager = graph, gradients everywhere.

    Returns the output.
    """
    output = layer(*inputs, **arguments)
    assert tuple(output.shape) == output_shape
    assert output.dtype.name in (layer.compute_dtype, "float32")
    assert np.isfinite(np.asarray(tf.cast(output, tf.float32))).all()
    traced = tf.function(lambda: layer(*inputs, **arguments))()
    assert_close(traced, tf.cast(output, tf.float32), atol=1e-5 if layer.compute_dtype == "float32" else 2e-2)
    twin = type(layer).from_config(layer.get_config())
    assert twin.get_config() == layer.get_config()
    twin(*inputs, **arguments)
    assert [tuple(v.shape) for v in twin.weights] == [tuple(v.shape) for v in layer.weights]
    with tf.GradientTape() as tape:
        probe = tf.cast(layer(*inputs, **arguments), tf.float32)
        loss = tf.reduce_sum(probe * tf.random.stateless_normal(probe.shape, [3, 4]))
    gradients = tape.gradient(loss, layer.trainable_variables)
    for variable, gradient in zip(layer.trainable_variables, gradients, strict=True):
        assert gradient is not None, f"no gradient reaches {variable.path}"
    return output
