"""Which activations are dropped? A pure function of a seed and a constant index: nothing to save, nothing to resume."""

from typing import Any

import keras
import tensorflow as tf

LEVELS = 65536  # of 16 random bits: the rate is met to 1 / 65536, and the scale uses the rate that is met

ALGORITHM = "philox"  # named, so that XLA and every device draw what TensorFlow draws on a CPU


def drop(x: Any, rate: float, seed: Any, index: int) -> Any:
    """Sets a share `rate` of `x` to zero and scales the rest so that the mean stays.

    Args:
      x: [...] float; the shape may be known only at run time.
      rate: share to drop, 0 to 1 exclusive.
      seed: int32 [2], or None: nothing is dropped.
      index: constant of the calling layer, so that two layers under one seed drop different places.
    """
    if seed is None or rate == 0:
        return x
    keep = keep_mask(tf.shape(x), rate, seed, index, x.dtype)
    return x * keep


def keep_mask(shape: Any, rate: float, seed: Any, index: int, dtype: Any) -> Any:
    """0 where dropped, else 1 / (1 - rate); two places share each 32 random bits, which halves the cost of drawing."""
    threshold = round(rate * LEVELS)
    count = tf.reduce_prod(shape)
    folded = tf.random.experimental.stateless_fold_in(seed, index, alg=ALGORITHM)
    words = tf.random.stateless_uniform([(count + 1) // 2], folded, None, None, tf.uint32, alg=ALGORITHM)
    halves = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[:count]
    keep = tf.cast(tf.reshape(halves, shape) >= tf.constant(threshold, tf.uint16), dtype)
    return keep * tf.cast(LEVELS / (LEVELS - threshold), dtype)


def draw_seed() -> Any:
    """An int32 [2] seed from Keras's global seed generator, for callers that do not keep their own."""
    return keras.random.randint((2,), 0, 2**31 - 1, dtype="int32")
