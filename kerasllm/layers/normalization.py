"""How are activations brought to one scale? LayerNorm and RMSNorm over the last axis, in float32 under every policy."""

from typing import Any

import keras
import tensorflow as tf


class _Norm(keras.layers.Layer):
    """What both norms share: a gain over the last axis and an epsilon."""

    def __init__(self, epsilon: float = 1e-12, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape: Any) -> None:
        """Makes the weights."""
        self.gamma = self._vector("gamma", "ones", input_shape[-1])

    def _vector(self, name: str, initializer: str, size: int) -> Any:
        """A weight that is float32 under every policy."""
        return self.add_weight(shape=(size,), initializer=initializer, name=name, dtype="float32", autocast=False)

    def get_config(self) -> dict[str, Any]:
        """What the constructor took."""
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="kerasllm")
class LayerNorm(_Norm):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta over the last axis.

    Shapes:
      x        [..., D]  float
      returns  [..., D]  the compute dtype; the arithmetic is float32

    Source: Ba et al. 2016.
    """

    def build(self, input_shape: Any) -> None:
        """Makes the weights."""
        super().build(input_shape)
        self.beta = self._vector("beta", "zeros", input_shape[-1])

    def call(self, x: Any, training: bool = False) -> Any:
        """See the class for shapes."""
        if training:
            flat = tf.reshape(x, [-1, self.gamma.shape[0]])
            return tf.reshape(
                _normalize_for_training(flat, self.gamma.value, self.beta.value, self.epsilon), tf.shape(x)
            )
        wide = tf.cast(x, tf.float32)
        mean, variance = tf.nn.moments(wide, axes=[-1], keepdims=True)
        result = (wide - mean) * tf.math.rsqrt(variance + self.epsilon) * self.gamma.value + self.beta.value
        return tf.cast(result, x.dtype)


@keras.saving.register_keras_serializable(package="kerasllm")
class RMSNorm(_Norm):
    """x / sqrt(mean of squares + epsilon) * gamma over the last axis.

    Shapes:
      x        [..., D]  float
      returns  [..., D]  the compute dtype; the arithmetic is float32

    Source: Zhang & Sennrich 2019.
    """

    def call(self, x: Any, training: bool = False) -> Any:
        """See the class for shapes."""
        wide = tf.cast(x, tf.float32)
        scale = tf.math.rsqrt(tf.reduce_mean(tf.square(wide), axis=-1, keepdims=True) + self.epsilon)
        return tf.cast(wide * scale * self.gamma.value, x.dtype)


def make_norm(kind: str, epsilon: float, **kwargs: Any) -> keras.layers.Layer:
    """The norm that config.Backbone.norm names."""
    return {"layer_norm": LayerNorm, "rms_norm": RMSNorm}[kind](epsilon, **kwargs)


def _normalize_for_training(x: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
    """LayerNorm of [N, D] whose backward pass is written out: fewer passes over memory than the derived one."""

    @tf.custom_gradient
    def normalize(x: Any, gamma: Any, beta: Any) -> Any:
        wide = tf.cast(x, tf.float32)
        centred = wide - tf.reduce_mean(wide, axis=-1, keepdims=True)
        inverse = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True) + epsilon)
        unit = centred * inverse

        def gradient(upstream: Any) -> Any:
            wide_upstream = tf.cast(upstream, tf.float32)
            product = wide_upstream * unit
            share = gamma[:, None] / tf.cast(tf.shape(x)[1], tf.float32)
            mean, slope = tf.matmul(wide_upstream, share), tf.matmul(product, share)  # [N, 1] each
            to_x = (wide_upstream * gamma - mean - unit * slope) * inverse
            return tf.cast(to_x, x.dtype), tf.reduce_sum(product, axis=0), tf.reduce_sum(wide_upstream, axis=0)

        return tf.cast(unit * gamma + beta, x.dtype), gradient

    return normalize(x, gamma, beta)
