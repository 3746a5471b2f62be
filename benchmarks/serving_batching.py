"""What does batching in the server bring? Requests a second and their delay, from 1 to 32 threads, with and without.

    python -m benchmarks.serving_batching --seconds 5

Makes a small encoder with random weights, saves it, and calls `run` of the server's engine in this process: no gRPC,
so that the figures tell of batching alone. Each thread asks for one row at a time, as fast as it is answered. Modes:
`plain` without batching; `batch 0` joins what comes while the batch threads are busy; `batch N` also waits N
microseconds for company (--batch_timeout_micros).
"""

import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from apps.flags import run_program

if TYPE_CHECKING:
    from serving.server.engine import Engine

FLAGS = flags.FLAGS
VOCAB_SIZE = 1000
NUM_HEADS = 4
MOST_THREADS = 32


def define_flags() -> None:
    """Says how large the model is, how it is batched and how long each figure is measured."""
    flags.DEFINE_integer("num_layers", 2, "Layers of the encoder.", lower_bound=1)
    flags.DEFINE_integer("hidden_dim", 128, "Width of the encoder; a multiple of 4.", lower_bound=4)
    flags.DEFINE_integer("num_tokens", 64, "Tokens of a request.", lower_bound=1)
    flags.DEFINE_float("seconds", 5.0, "Time for which each figure is measured.", lower_bound=0)
    flags.DEFINE_integer("max_batch_size", 32, "Rows of a batch.", lower_bound=1)
    flags.DEFINE_integer("batch_timeout_micros", 2000, "Wait for company.", lower_bound=0)
    flags.DEFINE_integer("num_batch_threads", 0, "Batches that run at a time; 0: one for each core.", lower_bound=0)


def main() -> None:
    """Measures every mode with every number of threads."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "1"
        write_encoder(directory, FLAGS.num_layers, FLAGS.hidden_dim, FLAGS.num_tokens)
        print(f"{'mode':>12} {'threads':>8} {'requests/s':>11} {'p50 ms':>8} {'p99 ms':>8}")
        for timeout_micros in (None, 0, FLAGS.batch_timeout_micros):
            measure_mode(directory, timeout_micros)


def measure_mode(directory: Path, timeout_micros: int | None) -> None:
    """Prints a line for each number of threads; without a timeout there is no batching."""
    from serving.server.batching import Batching
    from serving.server.batching_parameters import BatchingParameters
    from serving.server.engine import Engine

    if timeout_micros is None:
        batching, engine = None, Engine(directory)
    else:
        given = {"num_batch_threads": FLAGS.num_batch_threads} if FLAGS.num_batch_threads else {}
        batching = Batching(BatchingParameters(FLAGS.max_batch_size, timeout_micros, MOST_THREADS, **given))
        engine = batching.load(directory)
    name = "plain" if timeout_micros is None else f"batch {timeout_micros}"
    num_threads = 1
    while num_threads <= MOST_THREADS:
        rate, delays = measure(engine, num_threads, FLAGS.num_tokens, FLAGS.seconds)
        p50, p99 = np.percentile(delays, [50, 99]) * 1000
        print(f"{name:>12} {num_threads:8d} {rate:11.1f} {p50:8.2f} {p99:8.2f}", flush=True)
        num_threads *= 2
    engine.close()
    if batching:
        batching.close()


def measure(engine: "Engine", num_threads: int, num_tokens: int, seconds: float) -> tuple[float, list[float]]:
    """Requests a second, and the seconds that each of them took; each thread asks at least once."""
    signature = engine.signatures["serving_default"]
    feed, fetch = signature.inputs["token_ids"].name, signature.outputs["scores"].name
    rows = np.random.default_rng(0).integers(0, VOCAB_SIZE, [num_threads, 1, num_tokens], np.int32)
    engine.run([(feed, rows[0])], [fetch])  # the session plans the graph at its first run
    delays: list[list[float]] = [[] for _ in range(num_threads)]
    start = threading.Barrier(num_threads + 1)
    ends: list[float] = []

    def ask(number: int) -> None:
        start.wait()
        end = time.perf_counter() + seconds
        before = 0.0
        while before < end:
            before = time.perf_counter()
            engine.run([(feed, rows[number])], [fetch])
            delays[number].append(time.perf_counter() - before)
        ends.append(time.perf_counter())

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(num_threads)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    every_delay = [delay for one in delays for delay in one]
    return len(every_delay) / (max(ends) - began), every_delay


def write_encoder(directory: Path, num_layers: int, hidden_dim: int, num_tokens: int) -> None:
    """A SavedModel of a pre-norm transformer encoder: token_ids [B, T] to scores [B, 2]."""
    import tensorflow as tf

    head_dim = hidden_dim // NUM_HEADS
    generator = np.random.default_rng(0)
    module = tf.Module()
    module.weights = []

    def weight(*shape: int) -> tf.Variable:
        module.weights.append(tf.Variable(generator.normal(0, 0.05, shape), dtype=tf.float32))
        return module.weights[-1]

    def normalized(x: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(x, -1, keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + 1e-6)

    layers = [
        (weight(3, hidden_dim, NUM_HEADS, head_dim), weight(NUM_HEADS, head_dim, hidden_dim))
        + (weight(hidden_dim, 4 * hidden_dim), weight(4 * hidden_dim, hidden_dim))
        for _ in range(num_layers)
    ]
    embedding, scores = weight(VOCAB_SIZE, hidden_dim), weight(hidden_dim, 2)

    def encode(token_ids: tf.Tensor) -> dict[str, tf.Tensor]:
        x = tf.gather(embedding, token_ids)
        for in_projection, out_projection, up, down in layers:
            query, key, value = tf.unstack(tf.einsum("bth,phnd->pbntd", normalized(x), in_projection))
            weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) / head_dim**0.5)
            x += tf.einsum("bntd,ndh->bth", tf.matmul(weights, value), out_projection)
            x += tf.matmul(tf.nn.gelu(tf.matmul(normalized(x), up)), down)
        return {"scores": tf.matmul(tf.reduce_mean(normalized(x), 1), scores)}

    function = tf.function(encode).get_concrete_function(token_ids=tf.TensorSpec([None, num_tokens], tf.int32))
    tf.saved_model.save(module, str(directory), {"serving_default": function})


if __name__ == "__main__":
    define_flags()
    run_program(main)
