"""How much does a model have to compute for a token, and how much could the machine? Floating-point operations of both.

# T tokens of a row, D hidden width, H query heads, G key-value heads, K = D / H, F intermediate width, V vocabulary
"""

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from kerasllm.config import Backbone

TRAINING_FACTOR = 3  # a backward pass costs twice the forward pass
MEASURED_FOR_S = 0.5
LEAST_PRODUCT_S = 0.02  # of one product: short ones measure the call
LARGEST_SIZE = 8192


@dataclass(frozen=True)
class ModelFlops:
    """What one forward pass needs, a multiplication and an addition counted as two.

    Attributes:
      per_token: of the backbone, for each real token.
      per_target: head -> for each of its real targets; a head that is not here costs next to nothing.
    """

    per_token: float
    per_target: Mapping[str, float]

    def of_training(self, numbers: Mapping[str, float]) -> float:
        """Forward and backward for a step with these "tokens" and "<head>/targets"."""
        heads = sum(cost * numbers.get(f"{head}/targets", 0.0) for head, cost in self.per_target.items())
        return TRAINING_FACTOR * (self.per_token * numbers["tokens"] + heads)


def count_flops(backbone: Backbone, vocab_size: int, length: int) -> ModelFlops:
    """The model's operations, counted from its configuration.

    Forward, for a token and a layer:
      query, key, value   2 D (H + 2 G) K
      scores and context  2 T D each: every token of the row, also for a causal model and packed rows
      output              2 D D
      feed-forward        2 D F for each of its two matrices (three with swiglu)
    and for a target: masked_lm 2 D D + 2 D V (its slots alone are computed), causal_lm 2 D V. Training is three times
    the forward pass; 6 N + 12 layers H K T for N weights, as in the sources. Table look-ups, norms, biases,
    activations, the pooler and heads of a few classes are left out, as is what rematerialisation computes again.

    Args:
      backbone: its options.
      vocab_size: V.
      length: T.

    Source: Kaplan et al. 2020, section 2.1 and table 1; Chowdhery et al. 2022 (PaLM), appendix B.
    """
    width = backbone.hidden_dim
    groups = backbone.num_key_value_heads or backbone.num_heads
    key_width = width // backbone.num_heads
    attention = 2 * width * (backbone.num_heads + 2 * groups) * key_width + 4 * length * width + 2 * width * width
    matrices = 3 if backbone.activation == "swiglu" else 2
    feed_forward = 2 * width * (backbone.intermediate_dim or 4 * width) * matrices
    words = 2.0 * width * vocab_size
    return ModelFlops(
        per_token=float(backbone.num_layers * (attention + feed_forward)),
        per_target={"masked_lm": 2.0 * width * width + words, "causal_lm": words},
    )


def matrix_product_rate(strategy: tf.distribute.Strategy, precision: str) -> float:
    """FLOP/s of large square matrix products on all devices of a strategy, in the precision of a run.

    One device is measured, for about half a second and once a process; logical CPU devices share one machine's cores.
    """
    devices = strategy.extended.worker_devices
    workers = strategy.num_replicas_in_sync // len(devices)
    count = workers if "CPU" in devices[0].upper() else strategy.num_replicas_in_sync
    return count * _rate_of(devices[0], precision)


def measure_matrix_product(device: str, precision: str) -> float:
    """FLOP/s of large square matrix products on one device, the best of about half a second."""
    with tf.device(device):
        size, seconds = 128, 0.0
        while seconds < LEAST_PRODUCT_S and size < LARGEST_SIZE:
            size *= 2
            matrix = tf.random.stateless_normal([size, size], [1, 2])
            matrix = tf.cast(matrix, tf.bfloat16 if precision == "mixed_bfloat16" else tf.float32)
            seconds = min(_seconds_of_product(matrix) for _ in range(2))  # the first one prepares the kernel
        stop = time.perf_counter() + MEASURED_FOR_S
        while time.perf_counter() < stop:  # the best: whatever else runs only slows it down
            seconds = min(seconds, _seconds_of_product(matrix))
    return 2 * size**3 / seconds


_rate_of = functools.cache(measure_matrix_product)


def _seconds_of_product(matrix: Any) -> float:
    start = time.perf_counter()
    tf.matmul(matrix, matrix)[0, 0].numpy()  # one number to the host: the device has to be done
    return time.perf_counter() - start
