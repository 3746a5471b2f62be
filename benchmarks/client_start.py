"""What does one answer cost a program that starts for it? Time from its start to the answer, and its memory.

    python -m benchmarks.client_start --rounds 7

A server with a small model runs in this process. In each round three programs start one after another and ask it once:
`ours` with serving.clients; `stock` with the messages and stubs of tensorflow-serving-api, which import TensorFlow; and
`floor`, which imports grpc and numpy and sends the bytes of a request that was made before: less is not possible with
these libraries. The bar for ours is 0.3 s and 60 MB. On Linux alone, whose /proc tells the memory.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags

from apps.flags import run_program

FLAGS = flags.FLAGS
MOST_SECONDS, MOST_MEGABYTES = 0.3, 60
UNITS = ("s", "CPU s", "MB")
# VmHWM is the peak since the program began; getrusage would tell of the process that started it, if that was larger.
TOLD = """
import re, time
peak = re.search(r"VmHWM:\\s*([0-9]+)", open("/proc/self/status").read())[1]
print(time.time(), time.process_time(), peak)
"""
OURS = """
from serving.clients import PredictClient
with PredictClient("{address}", "m") as client:
    assert client.predict({{"x": [2.0]}})["y"].tolist() == [4.0]
"""
STOCK = """
import grpc
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
request = predict_pb2.PredictRequest()
request.model_spec.name = "m"
shape = tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=1)])
request.inputs["x"].CopyFrom(tensor_pb2.TensorProto(dtype=1, tensor_shape=shape, float_val=[2.0]))
with grpc.insecure_channel("{address}") as channel:
    answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
assert list(answer.outputs["y"].float_val) == [4.0]
"""
FLOOR = """
import grpc, numpy
with grpc.insecure_channel("{address}") as channel:
    assert channel.unary_unary("/tensorflow.serving.PredictionService/Predict")({request!r}, timeout=60)
"""


class Start(NamedTuple):
    """What one start of a program took until it had its answer."""

    wall_s: float
    cpu_s: float
    megabytes: float


def define_flags() -> None:
    """Says how often it is measured."""
    flags.DEFINE_integer("rounds", 7, "Starts of each program.", lower_bound=1)


def main() -> None:
    """Serves, starts the programs in turns, and prints medians with lowest and highest."""
    from serving.server.core import ServerCore
    from serving.server.services import start_server
    from serving.server.versions import LoadPolicy, ModelConfig, Models

    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder) / "1")
        models = Models([ModelConfig("m", Path(folder))], policy=LoadPolicy(rest_seconds=0))
        models.start(0)
        server, port = start_server(ServerCore(models), "127.0.0.1", 0, 2)
        address = f"127.0.0.1:{port}"
        programs = {"ours": OURS, "stock": STOCK, "floor": FLOOR}
        request = request_bytes()
        codes = {name: code.format(address=address, request=request) + TOLD for name, code in programs.items()}
        measured = measure(codes, FLAGS.rounds)
        server.stop(None).wait()
        models.close()
    print_table(measured)


def measure(codes: Mapping[str, str], rounds: int) -> dict[str, list[Start]]:
    """Every start by program; one more comes first and is not counted, since it reads the libraries from disk."""
    measured: dict[str, list[Start]] = {name: [] for name in codes}
    for number in range(rounds + 1):
        for name, code in codes.items():
            began = time.time()
            told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
            end, cpu_s, kilobytes = map(float, told.split())
            if number:
                measured[name].append(Start(end - began, cpu_s, kilobytes / 1024))
    return measured


def print_table(measured: Mapping[str, Sequence[Start]]) -> None:
    """Prints medians with lowest and highest for each program, ratios to ours, and whether ours is under the bar."""
    print(f"{'program':>8} {'':>8} {'median':>8} {'lowest':>8} {'highest':>8} {'x ours':>7}")
    ours = Start(*map(statistics.median, zip(*measured["ours"], strict=True)))
    for name, starts in measured.items():
        for what, unit, column, base in zip(Start._fields, UNITS, zip(*starts, strict=True), ours, strict=True):
            median = statistics.median(column)
            print(
                f"{name if what == 'wall_s' else '':>8} {unit:>8} {median:8.3f} {min(column):8.3f} {max(column):8.3f} "
                f"{median / base:7.2f}"
            )
    for unit, value, most in (("s", ours.wall_s, MOST_SECONDS), ("MB", ours.megabytes, MOST_MEGABYTES)):
        print(f"bar: {value:.3g} {unit} of at most {most} {unit}: {'held' if value <= most else 'MISSED'}")


def request_bytes() -> bytes:
    """A Predict request, made ahead."""
    from serving.clients import arrays, messages

    request = messages.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(arrays.to_proto([2.0]))
    serialized: bytes = request.SerializeToString()
    return serialized


def write_model(directory: Path) -> None:
    """A SavedModel that doubles x."""
    import tensorflow as tf

    double = tf.function(lambda x: {"y": 2 * x}).get_concrete_function(x=tf.TensorSpec([None], tf.float32))
    tf.saved_model.save(tf.Module(), str(directory), {"serving_default": double})


if __name__ == "__main__":
    define_flags()
    run_program(main)
