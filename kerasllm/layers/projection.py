"""How does one width become another? A matrix product over the last axis, with an optional bias."""

import math
from typing import Any

import keras
import tensorflow as tf

NUM_PARTS = 4  # of the product of one row


@keras.saving.register_keras_serializable(package="kerasllm")
class Projection(keras.layers.Layer):
    """x W + b, as one two-dimensional product whatever the rank of x (the fastest form on a CPU).

    Shapes:
      x        [..., D]       float
      one_row  bool           x is [N, D] float32 and N is 1: the product is computed as a sum of a few, so that all
                              threads read the weights; right for any N, but slow
      returns  [..., output]  the compute dtype
    """

    def __init__(
        self, output_dim: int, use_bias: bool = True, initializer: Any = "glorot_uniform", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.output_dim = output_dim
        self.use_bias = use_bias
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape: Any) -> None:
        """Makes the weights."""
        self.kernel = self.add_weight(
            shape=(input_shape[-1], self.output_dim), initializer=self.initializer, name="kernel"
        )
        self.bias = (
            self.add_weight(shape=(self.output_dim,), initializer="zeros", name="bias") if self.use_bias else None
        )

    def call(self, x: Any, one_row: bool = False) -> Any:
        """See the class for shapes."""
        is_flat = len(x.shape) == 2  # then nothing stands between the product and what is fused into it
        if one_row:
            result = _product_in_parts(x, tf.convert_to_tensor(self.kernel))
        else:
            result = tf.matmul(x if is_flat else tf.reshape(x, [-1, self.kernel.shape[0]]), self.kernel)
        if self.bias is not None:
            result = tf.nn.bias_add(result, self.bias)
        return result if is_flat else tf.reshape(result, [*dimensions(x)[:-1], self.output_dim])

    def get_config(self) -> dict[str, Any]:
        """What the constructor took."""
        return {
            **super().get_config(),
            "output_dim": self.output_dim,
            "use_bias": self.use_bias,
            "initializer": keras.initializers.serialize(self.initializer),
        }


def _product_in_parts(x: Any, kernel: Any) -> Any:
    """[N, D] and [D, output] -> [N, output], as a sum of products over parts of D."""
    width, output_dim = kernel.shape
    parts = math.gcd(width, NUM_PARTS)
    x, kernel = tf.reshape(x, [-1, parts, 1, width // parts]), tf.reshape(kernel, [parts, -1, output_dim])
    return tf.reduce_sum(tf.raw_ops.BatchMatMulV3(x=x, y=kernel, Tout=x.dtype), axis=[1, 2])


def dimensions(x: Any) -> list[Any]:
    """The shape as a list: numbers where they are known, scalar tensors where they are not."""
    dynamic = tf.shape(x)
    return [dynamic[axis] if size is None else size for axis, size in enumerate(x.shape)]
