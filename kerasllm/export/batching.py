"""How large should a server's batches be? Measured on the export itself, and written as batching_params.pbtxt."""

import statistics
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kerasllm.export.fresh_process import Wanted, run_in_fresh_process

BATCHING_FILE = "batching_params.pbtxt"  # of a version's folder; read with --enable_per_model_batching_parameters
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
REPEATS = 7  # of each batch; the median counts
LARGEST_REQUEST = 1024  # rows; what is larger than a batch is split, what is larger than this refused


def measure_latency(directory: Path, signature: str, row: Mapping[str, np.ndarray]) -> dict[int, float]:
    """Seconds of a run by batch size, in a version-1 Session of a fresh process.

    Args:
      directory: of the export.
      signature: to run.
      row: its inputs, [1, ...] each, which are repeated.
    """
    wanted = [
        Wanted(signature, [{name: np.repeat(array, size, axis=0) for name, array in row.items()}], REPEATS)
        for size in BATCH_SIZES
    ]
    answers = run_in_fresh_process(directory, wanted)
    return {size: statistics.median(answer.seconds) for size, answer in zip(BATCH_SIZES, answers, strict=True)}


def best_batch(seconds: Mapping[int, float]) -> int:
    """The largest batch up to which the latency of a row falls with every doubling."""
    sizes = sorted(seconds)
    best = sizes[0]
    for size in sizes[1:]:
        if seconds[size] / size >= seconds[best] / best:
            break
        best = size
    return best


def batching_params(seconds: Mapping[int, float]) -> str:
    """The text of BatchingParameters for a measured curve.

    A batch leaves as soon as a thread is free (no waiting), there are as many threads as the server has processors
    (the default), and a larger request is split rather than refused.
    """
    best = best_batch(seconds)
    curve = "".join(f"#   {size:>3} rows: {1000 * each / size:9.3f} ms a row\n" for size, each in seconds.items())
    return (
        "# Largest batch up to which the latency of a row fell when this model was exported:\n"
        f"{curve}"
        f"max_batch_size {{ value: {max(best, LARGEST_REQUEST)} }}\n"
        "enable_large_batch_splitting { value: true }\n"
        f"max_execution_batch_size {{ value: {best} }}\n"
        "batch_timeout_micros { value: 0 }\n"
    )
