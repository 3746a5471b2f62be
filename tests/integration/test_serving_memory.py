"""Does the server's memory stay bounded however often versions change? A real process, asked while they do."""

import shutil
import sys
import time

import numpy as np
import pytest

from benchmarks.load.sides import Server
from serving.clients import PredictClient


def _write_version(directory, megabytes):
    import tensorflow as tf

    module = tf.Module()
    module.weights = tf.Variable(tf.random.stateless_normal([megabytes * 2**20 // 4], [1, 2]))
    function = tf.function(lambda x: {"y": x + tf.reduce_sum(module.weights[:2])})
    signature = function.get_concrete_function(x=tf.TensorSpec([None], tf.float32))
    tf.saved_model.save(module, str(directory), {"serving_default": signature})


def _memory_after_swaps(base, megabytes, count, *further_flags):
    """Megabytes of the server with its processes while the first version is served, and after each swap."""
    _write_version(base / "1", megabytes)
    time.sleep(1.1)  # files that have just changed are waited for
    flags = ["--port=0", "--model_name=m", f"--model_base_path={base}", "--file_system_poll_wait_seconds=0.02"]
    command = [sys.executable, "-m", "serving.server", *flags, *further_flags]
    memory = []
    with (
        Server(command, base.with_suffix(".log")) as server,
        PredictClient(server.address(), "m", deadline_s=60) as client,
    ):
        for number in range(1, count + 2):
            if number > 1:
                (base / str(number)).symlink_to(base / "1")  # the same files at rest: nothing is waited for
            while not _has_taken_over(client, number):
                client.predict({"x": np.float32([1])})
                time.sleep(0.01)
            if number > 2:
                (base / str(number - 1)).unlink()
            memory.append(server.resident_megabytes())
    shutil.rmtree(base)
    return memory


def _has_taken_over(client, number):
    return [found.version for found in client.status() if found.state in ("AVAILABLE", "UNLOADING")] == [number]


@pytest.mark.slow
def test_fifty_swaps_leave_the_memory_bounded(tmp_path):
    memory = _memory_after_swaps(tmp_path / "m", 40, 50)
    early, late = max(memory[6:16]), max(memory[-10:])
    assert late - early < 40, f"MB after each swap: {[round(one) for one in memory]}"


@pytest.mark.slow
def test_with_processes_of_their_own_the_memory_of_each_version_comes_back(tmp_path):
    # In one process the second version alone would leave 100 MB, which its allocator keeps.
    memory = _memory_after_swaps(tmp_path / "m", 100, 5, "--isolate_versions")
    assert max(memory) - memory[0] < 30, f"MB at the start and after each swap: {[round(one) for one in memory]}"
