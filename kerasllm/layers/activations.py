"""What does the feed-forward layer put between its two products? Exact and tanh GELU, and the gate of SwiGLU."""

import math
from typing import Any

import tensorflow as tf


def activate(x: Any, name: str, training: bool = False) -> Any:
    """The function that config.Backbone.activation names; swiglu halves the last axis."""
    if name == "swiglu":
        return swiglu(x)
    return (gelu_tanh if name == "gelu_tanh" else gelu)(x, fast_gradient=training)


def gelu(x: Any, fast_gradient: bool = False) -> Any:
    """X * Phi(x) with the exact normal distribution function, as BERT has it (Hendrycks & Gimpel 2016).

    Args:
      x: [...] float.
      fast_gradient: keep Phi for the backward pass, which is then half as many passes over memory; the plain form
        is what graph optimizers fuse into the product before it when there is no backward pass.
    """
    return _gelu_for_training(x) if fast_gradient else tf.nn.gelu(x, approximate=False)


def gelu_tanh(x: Any, fast_gradient: bool = False) -> Any:
    """The tanh approximation of GELU, as GPT-2 has it; `fast_gradient` as in gelu."""
    return _gelu_tanh_for_training(x) if fast_gradient else tf.nn.gelu(x, approximate=True)


def swiglu(x: Any) -> Any:
    """silu(gate) * value for [..., 2 F] holding gate and value; returns [..., F] (Shazeer 2020)."""
    gate, value = tf.split(x, 2, axis=-1)
    return tf.nn.silu(gate) * value


@tf.custom_gradient
def _gelu_for_training(x: Any) -> Any:
    half = tf.constant(0.5, x.dtype)
    cumulative = tf.math.erf(x * tf.constant(math.sqrt(0.5), x.dtype)) * half + half

    def gradient(upstream: Any) -> Any:
        density = tf.exp(tf.square(x) * tf.constant(-0.5, x.dtype)) * tf.constant(1 / math.sqrt(2 * math.pi), x.dtype)
        return upstream * (cumulative + x * density)

    return x * cumulative, gradient


@tf.custom_gradient
def _gelu_tanh_for_training(x: Any) -> Any:
    half, one = tf.constant(0.5, x.dtype), tf.constant(1.0, x.dtype)
    slope, cubic = math.sqrt(2 / math.pi), math.sqrt(2 / math.pi) * 0.044715
    square = tf.square(x)
    share = half * tf.tanh(x * (tf.constant(slope, x.dtype) + tf.constant(cubic, x.dtype) * square)) + half

    def gradient(upstream: Any) -> Any:
        # With share = (1 + tanh u) / 2, d share / dx = 2 share (1 - share) du / dx.
        twice_inner = tf.constant(2 * slope, x.dtype) + tf.constant(6 * cubic, x.dtype) * square
        return upstream * share * (one + x * (one - share) * twice_inner)

    return x * share, gradient
