"""Which kinds of operations does a computation spend its time in? By TensorFlow's profiler."""

import collections
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHOWN = 16  # kinds that take longest


def print_profile(compute: Callable[[], Any], repeats: int) -> float:
    """Runs `compute` so many times and prints the kinds of operations that take longest.

    Returns: seconds of one run that were spent in operations.
    """
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(repeats):
                compute()
        (path,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    seconds: collections.Counter[str] = collections.Counter()
    counts: collections.Counter[str] = collections.Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name, _, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
                if name and kind and "/" in name:  # operations are called name:Type
                    seconds[kind] += event.duration_ps / 1e12 / repeats
                    counts[kind] += 1
    total = sum(seconds.values())
    for kind, spent in seconds.most_common(SHOWN):
        print(f"{kind:<40}{counts[kind] / repeats:>8,.0f} times{spent * 1e3:>9.1f} ms{spent / total:>8.1%}")
    return total
