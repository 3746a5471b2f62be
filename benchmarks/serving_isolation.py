"""What does a process of its own cost a version, and what does it give back?

    python -m benchmarks.serving_isolation

Starts `python -m serving.server` with and without --isolate_versions on a model of --megabytes of weights that computes
next to nothing. By turns, round after round: --calls Predict calls one after another, of one number and of a megabyte
of them, then a new version takes over. Prints the latency of a call, and the memory of each server with all of its
processes, in which what several of them share is counted once.
"""

import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from absl import flags

from apps.flags import run_program
from benchmarks.load.sides import Server
from serving.clients import PredictClient

FLAGS = flags.FLAGS
SIDES = {"in the server's process": [], "in processes of their own": ["--isolate_versions"]}
SIZES = {"one number": 1, "a megabyte": 2**18}


def define_flags() -> None:
    """Says on what and how often."""
    flags.DEFINE_integer("megabytes", 100, "Weights of a version.", lower_bound=1)
    flags.DEFINE_integer("calls", 300, "Calls of a kind in a round.", lower_bound=1)
    flags.DEFINE_integer("rounds", 5, "Rounds, each of which ends with a swap.", lower_bound=1)


class Side:
    """A server on versions of its own, and what was measured on it.

    Attributes:
      latencies_ms: median of each round, by size of the input.
      megabytes: of memory, at the start and after each swap.
    """

    def __init__(self, server: Server, base: Path) -> None:
        self.latencies_ms: dict[str, list[float]] = {name: [] for name in SIZES}
        self._server, self._base, self._number = server, base, 1
        self.client = PredictClient(server.address(), "m", deadline_s=60)
        self.ask(next(iter(SIZES)), 1)
        self.megabytes = [server.proportional_megabytes()]

    def ask(self, size: str, calls: int) -> float:
        """Median milliseconds of a call."""
        numbers, latencies = np.ones(SIZES[size], np.float32), []
        for _ in range(calls):
            start = time.perf_counter()
            self.client.predict({"x": numbers})
            latencies.append(time.perf_counter() - start)
        return 1000 * statistics.median(latencies)

    def swap(self) -> None:
        """Has the next version take over, and waits until the last one has ended."""
        self._number += 1
        (self._base / str(self._number)).symlink_to(self._base.parent / "version")
        while [(one.version, one.state) for one in self.client.status() if one.state != "END"] != [
            (self._number, "AVAILABLE")
        ]:
            time.sleep(0.02)
        (self._base / str(self._number - 1)).unlink()
        self.megabytes.append(self._server.proportional_megabytes())


def main() -> None:
    """Measures both sides by turns."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        write_version(folder / "version", FLAGS.megabytes)
        time.sleep(1.1)  # files that have just changed are waited for
        sides = {label: start(stack, folder / str(number), label) for number, label in enumerate(SIDES)}
        for number in range(FLAGS.rounds):
            for side in sides.values() if number % 2 == 0 else reversed(sides.values()):
                for size, latencies in side.latencies_ms.items():
                    latencies.append(side.ask(size, FLAGS.calls))
                side.swap()
        for side in sides.values():
            side.client.close()
    for label, side in sides.items():
        print(f"{label}: {report(side)}")
    print(difference(*sides.values()))


def start(stack: ExitStack, base: Path, label: str) -> Side:
    """A server on one version, until the stack is left."""
    base.mkdir()
    (base / "1").symlink_to(base.parent / "version")
    given = ["--port=0", "--model_name=m", f"--model_base_path={base}", "--file_system_poll_wait_seconds=0.1"]
    command = [sys.executable, "-m", "serving.server", *given, *SIDES[label]]
    return Side(stack.enter_context(Server(command, base.with_suffix(".log"))), base)


def write_version(directory: Path, megabytes: int) -> None:
    """A SavedModel with so many weights, y = x + two of them."""
    import tensorflow as tf

    module = tf.Module()
    module.weights = tf.Variable(tf.random.stateless_normal([megabytes * 2**18], [1, 2]))
    function = tf.function(lambda x: {"y": x + tf.reduce_sum(module.weights[:2])})
    signature = function.get_concrete_function(x=tf.TensorSpec([None], tf.float32))
    tf.saved_model.save(module, str(directory), {"serving_default": signature})


def report(side: Side) -> str:
    """The latencies and the memory of a side."""
    calls = [f"{size} {spread(latencies)} ms" for size, latencies in side.latencies_ms.items()]
    memory = ", ".join(f"{one:.0f}" for one in side.megabytes)
    return f"a call of {'; of '.join(calls)}; MB at the start and after each swap: {memory}"


def difference(one: Side, own: Side) -> str:
    """What a call costs more in a process of its own, of figures of one round each."""
    listed = []
    for size, latencies in own.latencies_ms.items():
        pairs = zip(latencies, one.latencies_ms[size], strict=True)
        listed.append(f"of {size} {spread([ours - theirs for ours, theirs in pairs])} ms")
    return f"a call costs more: {'; '.join(listed)}"


def spread(values: list[float]) -> str:
    """Median, lowest and highest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    define_flags()
    run_program(main)
