"""How does a token know its place? Sinusoidal tables and rotations; learned tables are in embeddings.py."""

from typing import Any

import numpy as np
import tensorflow as tf

# B batch, T tokens, H heads, K width of a head (even)


def sinusoidal_table(length: int, dim: int) -> np.ndarray:
    """[length, dim] float32: sin at even columns, cos at odd ones (Vaswani et al. 2017, section 3.5)."""
    angles = np.arange(length)[:, None] / 10000 ** (np.arange(0, dim, 2)[None, :] / dim)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, -1)[:, :dim].astype(np.float32)


def rotary_angles(position_ids: Any, dim: int) -> tuple[Any, Any]:
    """Cosines and sines [B or 1, 1, T, K / 2] float32 for position_ids [B or 1, T]."""
    frequencies = 10000.0 ** (-np.arange(0, dim, 2, dtype=np.float32) / dim)
    angles = tf.cast(position_ids, tf.float32)[:, None, :, None] * frequencies
    return tf.cos(angles), tf.sin(angles)


def rotate(x: Any, cosines: Any, sines: Any) -> Any:
    """Turns each pair (x[i], x[i + K/2]) of [B, H, T, K] by its angle (Su et al. 2021, halves as in Llama)."""
    first, second = tf.split(x, 2, axis=-1)
    cosines, sines = tf.cast(cosines, x.dtype), tf.cast(sines, x.dtype)
    return tf.concat([first * cosines - second * sines, second * cosines + first * sines], axis=-1)
