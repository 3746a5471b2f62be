"""Where does a run of an export spend its time? By operation, from the tracer of a version-1 Session."""

import statistics
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

SHOWN = 12  # kinds of operations, longest first
RUNS = 30


def report_profile(directory: Path, signature: str, inputs: Mapping[str, np.ndarray], num_threads: int) -> None:
    """Prints the time of an untraced run, and of a traced one the number and time of each kind of operation.

    Tracing makes small operations look longer than they are; the shares tell, not the sum.
    """
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers its operations

    v1 = tf.compat.v1
    options = v1.RunOptions(trace_level=v1.RunOptions.FULL_TRACE)
    config = v1.ConfigProto(intra_op_parallelism_threads=num_threads)
    with tf.Graph().as_default(), v1.Session(config=config) as session:
        definition = v1.saved_model.load(session, ["serve"], str(directory)).signature_def[signature]
        feeds = {definition.inputs[name].name: array for name, array in inputs.items()}
        fetches = [info.name for info in definition.outputs.values()]
        times, traced = [], []
        for _ in range(RUNS):
            start = time.perf_counter()
            session.run(fetches, feeds)
            times.append(1000 * (time.perf_counter() - start))
            metadata = v1.RunMetadata()
            session.run(fetches, feeds, options, metadata)
            traced.append(_by_kind(metadata))
    print(f"a run takes {statistics.median(times):.2f} ms ({min(times):.2f} to {max(times):.2f}, {RUNS} runs)")
    medians = {kind: statistics.median(run[kind][1] for run in traced if kind in run) for kind in traced[-1]}
    total = sum(medians.values())
    for kind, spent in sorted(medians.items(), key=lambda item: -item[1])[:SHOWN]:
        print(f"{kind:<36}{traced[-1][kind][0]:>5} times{spent:>9.3f} ms{spent / total:>8.1%}")
    num_all = sum(count for count, _ in traced[-1].values())
    print(f"{'all':<36}{num_all:>5} times{total:>9.3f} ms  on {num_threads} threads")


def _by_kind(metadata: object) -> dict[str, tuple[int, float]]:
    """Number and milliseconds of each kind of operation in a traced run."""
    counts: dict[str, int] = defaultdict(int)
    spent: dict[str, float] = defaultdict(float)
    for device in metadata.step_stats.dev_stats:  # type: ignore[attr-defined]
        for node in device.node_stats:
            kind = node.timeline_label.partition(" = ")[2].partition("(")[0]
            counts[kind] += 1
            spent[kind] += (node.op_end_rel_micros - node.op_start_rel_micros) / 1000
    return {kind: (counts[kind], spent[kind]) for kind in counts}
