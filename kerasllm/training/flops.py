"""How much does a model have to compute for a token, and how much could the machine? Floating-point operations of both.

# T tokens of a row, D hidden width, H query heads, G key-value heads, K = D / H, F intermediate width, V vocabulary
"""

import functools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from kerasllm.config import Backbone

MEASURED_FOR_S = 0.5
LEAST_PRODUCT_S = 0.02  # of one product: short ones measure the call
LARGEST_SIZE = 8192


@dataclass(frozen=True)
class ModelFlops:
    """What training needs, forward and backward, a multiplication and an addition counted as two.

    Attributes:
      per_token: of the backbone, for each real token.
      per_target: head -> for each of its real targets; a head that is not here costs next to nothing.
    """

    per_token: float
    per_target: Mapping[str, float]

    def of_training(self, numbers: Mapping[str, float]) -> float:
        """Operations of a step with these "tokens" and "<head>/targets"."""
        heads = sum(cost * numbers.get(f"{head}/targets", 0.0) for head, cost in self.per_target.items())
        return self.per_token * numbers["tokens"] + heads


@dataclass(frozen=True)
class _Part:
    """A part of the model.

    Attributes:
      name: stands in the paths of its variables.
      flop: of its matrix product in a forward pass; 0: it has none.
      matrix: the path of the product's weights ends so; "": it is one of two activations.
    """

    name: str
    flop: float = 0.0
    matrix: str = ""


def count_flops(backbone: Backbone, vocab_size: int, length: int, learning: Iterable[str] | None = None) -> ModelFlops:
    """The model's operations, counted from its configuration.

    Forward, for a token and a layer:
      query, key, value   2 D (H + 2 G) K
      scores and context  2 T D each: every token of the row, also for a causal model and packed rows
      output              2 D D
      feed-forward        2 D F for each of its two matrices (three with swiglu)
    and for a target: masked_lm 2 D D + 2 D V (its slots alone are computed), causal_lm 2 D V. Backward, each product
    costs as much again for its weights, if they learn, and for its input, if anything below learns; scores and context
    have two inputs. Where all learn, training is three times the forward pass; 6 N + 12 layers H K T for N weights, as
    in the sources. Table look-ups, norms, biases, activations, the pooler and heads of a few classes are left out, as
    is what rematerialisation computes again.

    Args:
      backbone: its options.
      vocab_size: V.
      length: T.
      learning: paths of the variables that learn; None: all.

    Source: Kaplan et al. 2020, section 2.1 and table 1; Chowdhery et al. 2022 (PaLM), appendix B.
    """
    width = backbone.hidden_dim
    paths = None if learning is None else [f"/{path}" for path in learning]
    of_words = _Part("words", 2.0 * width * vocab_size, "/embedding/word_table")
    of_masked = [_Part("masked_lm/transform", 2.0 * width * width, "/masked_lm/transform/kernel"), _Part("masked_lm")]
    per_token, below = _of_training(_backbone_parts(backbone, length), paths, below=False)
    return ModelFlops(
        per_token,
        {
            "masked_lm": _of_training([*of_masked, of_words], paths, below)[0],
            "causal_lm": _of_training([of_words], paths, below)[0],
        },
    )


def _backbone_parts(backbone: Backbone, length: int) -> list[_Part]:
    """What a token goes through, from below."""
    width = backbone.hidden_dim
    groups = backbone.num_key_value_heads or backbone.num_heads
    projected = (backbone.num_heads + 2 * groups) * (width // backbone.num_heads)
    expanded = (backbone.intermediate_dim or 4 * width) * (2 if backbone.activation == "swiglu" else 1)
    attention = [
        _product("attention/query_key_value", width, projected),
        _Part("scores and context", 4.0 * length * width),
        _product("attention/output", width, width),
    ]
    feed_forward = [
        _product("expand", width, expanded),
        _product("contract", backbone.intermediate_dim or 4 * width, width),
    ]
    norms = [_Part("attention_norm")], [_Part("feed_forward_norm")]
    pairs = zip((attention, feed_forward), norms, strict=True)
    block = [
        part
        for branch, norm in pairs
        for part in ([*norm, *branch] if backbone.norm_order == "pre" else [*branch, *norm])
    ]
    blocks = [
        _Part(f"block_{index}/{part.name}", part.flop, part.matrix and f"/block_{index}{part.matrix}")
        for index in range(backbone.num_layers)
        for part in block
    ]
    return [_Part("embedding"), *blocks, _Part("final_norm")]


def _product(name: str, width_in: int, width_out: int) -> _Part:
    return _Part(name, 2.0 * width_in * width_out, f"/{name}/kernel")


def _of_training(parts: Sequence[_Part], paths: list[str] | None, below: bool) -> tuple[float, bool]:
    """Operations of parts that follow each other, and whether anything learns in them or below them."""
    flop = 0.0
    for part in parts:
        weights = bool(part.matrix) and (paths is None or any(path.endswith(part.matrix) for path in paths))
        flop += part.flop * (1 + weights + below * (1 if part.matrix else 2))
        below = below or paths is None or any(f"/{part.name}/" in path for path in paths)
    return flop, below


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
