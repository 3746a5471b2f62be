"""Does the server's memory stay bounded however often versions change? A real process, asked while they do."""

import shutil
import sys
import time

import numpy as np
import pytest

from benchmarks.load.sides import Server
from serving.clients import PredictClient

MEGABYTES = 40  # of a version's weights
SWAPS = 50


def _write_version(directory):
    import tensorflow as tf

    module = tf.Module()
    module.weights = tf.Variable(tf.random.stateless_normal([MEGABYTES * 2**20 // 4], [1, 2]))
    function = tf.function(lambda x: {"y": x + tf.reduce_sum(module.weights[:2])})
    signature = function.get_concrete_function(x=tf.TensorSpec([None], tf.float32))
    tf.saved_model.save(module, str(directory), {"serving_default": signature})


@pytest.mark.slow
def test_fifty_swaps_leave_the_memory_bounded(tmp_path):
    base = tmp_path / "m"
    _write_version(base / "1")
    flags = ["--port=0", "--model_name=m", f"--model_base_path={base}", "--file_system_poll_wait_seconds=0.02"]
    with Server([sys.executable, "-m", "serving.server", *flags], tmp_path / "log") as server:
        memory = []
        with PredictClient(server.address(), "m", deadline_s=60) as client:
            for number in range(2, SWAPS + 2):
                (base / str(number)).symlink_to(base / "1")  # the same files at rest: nothing is waited for
                while [found.version for found in client.status() if found.state == "AVAILABLE"] != [number]:
                    client.predict({"x": np.float32([1])})
                    time.sleep(0.01)
                if number > 2:
                    (base / str(number - 1)).unlink()
                memory.append(server.resident_megabytes())
    shutil.rmtree(base)
    early, late = max(memory[5:15]), max(memory[-10:])
    assert late - early < MEGABYTES, f"MB after each swap: {[round(one) for one in memory]}"
