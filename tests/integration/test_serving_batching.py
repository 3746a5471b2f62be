"""Does a server with batching answer as TensorFlow Serving does? [n]: number in the project's protocol checklist."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
HOUR = 3_600_000_000  # microseconds: such a batch runs when it is full, and not before
WAIT_S = 60.0


def _write_model(directory):
    """Y = x / 2 + 2 of a matrix, with the number of rows that ran together; y alone for tf.train.Examples."""
    import tensorflow as tf

    def half_plus_two(x):
        return {"y": x / 2 + 2, "rows": tf.fill([tf.shape(x)[0]], tf.shape(x)[0])}

    def regress(inputs):
        parsed = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        return {"outputs": parsed["x"] / 2 + 2}

    matrix = tf.function(half_plus_two).get_concrete_function(x=tf.TensorSpec([None, None], tf.float32))
    examples = tf.function(regress).get_concrete_function(inputs=tf.TensorSpec([None], tf.string))
    tf.saved_model.save(tf.Module(), str(directory), {"serving_default": matrix, "regress": examples})


@pytest.fixture(scope="module")
def models_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batched")
    _write_model(folder / "1")
    return folder


class Service:
    """A running server with batching in this process, and the stub to call it."""

    def __init__(self, folder, **parameters):
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        from serving.server.batching import Batching
        from serving.server.batching_parameters import BatchingParameters
        from serving.server.core import ServerCore
        from serving.server.metrics import Metrics
        from serving.server.services import start_server
        from serving.server.versions import ModelConfig, Models

        self.metrics = Metrics()
        parameters = BatchingParameters(num_batch_threads=1, **parameters)
        self.batching = Batching(parameters, on_batch=self.metrics.batch_ran)
        self.models = Models([ModelConfig("m", folder)], load=self.batching.load)
        self.models.start(0)
        self.server, port = start_server(ServerCore(self.models), "127.0.0.1", 0, 8)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    def predict_together(self, *matrices):
        """The answers, or the code's name and text of the refusals."""
        calls = [self.prediction.Predict.future(_request(matrix), timeout=WAIT_S) for matrix in matrices]
        return [_answer(call) for call in calls]

    def close(self):
        self.channel.close()
        self.server.stop(None).wait()
        self.models.close()
        self.batching.close()


@pytest.fixture(scope="module")
def pairs(models_folder):
    """Runs two rows at a time, and waits for the second."""
    service = Service(models_folder, max_batch_size=2, batch_timeout_micros=HOUR, max_enqueued_batches=1)
    yield service
    service.close()


@pytest.fixture(scope="module")
def padding(models_folder):
    """Runs four rows at a time, of any length."""
    service = Service(models_folder, max_batch_size=4, batch_timeout_micros=HOUR, pad_variable_length_inputs=True)
    yield service
    service.close()


def _request(matrix):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array(matrix, np.float32)))
    return request


def _answer(call):
    try:
        outputs = call.result().outputs
        return list(outputs["y"].float_val), list(outputs["rows"].int_val)
    except grpc.RpcError as error:
        return error.code().name, error.details()


def test_two_requests_at_a_time_run_as_one_batch(pairs):  # [40]
    assert pairs.predict_together([[2.0]], [[4.0]]) == [([3.0], [2]), ([4.0], [2])]
    page = pairs.metrics.page().decode()
    fill = next(line for line in page.splitlines() if "batch_fill" in line and "_sum" in line)
    assert float(fill.split()[-1]) >= 1.0, page


def test_regressions_are_joined_too(pairs):  # [40]
    import tensorflow as tf
    from tensorflow_serving.apis import regression_pb2

    calls = []
    for x in (2.0, 4.0):
        request = regression_pb2.RegressionRequest()
        request.model_spec.name, request.model_spec.signature_name = "m", "regress"
        feature = tf.train.Feature(float_list=tf.train.FloatList(value=[x]))
        request.input.example_list.examples.add(features=tf.train.Features(feature={"x": feature}))
        calls.append(pairs.prediction.Regress.future(request, timeout=WAIT_S))
    assert [call.result().result.regressions[0].value for call in calls] == [3.0, 4.0]


def test_more_rows_than_a_batch_holds_are_refused(pairs):  # [41]
    assert pairs.predict_together([[1.0]] * 3) == [
        ("INVALID_ARGUMENT", "Task size 3 is larger than maximum input batch size 2")
    ]


def test_rows_of_other_lengths_fail_the_batch(pairs):  # [43]
    for code, message in pairs.predict_together([[1.0]], [[1.0, 2.0]]):
        assert code == "FAILED_PRECONDITION"
        assert "from different tasks have different shapes and padding is turned off. Set pad_variable" in message


def test_scalars_are_refused(pairs):  # [44]
    assert pairs.predict_together(1.0) == [
        ("INVALID_ARGUMENT", "Batching Run() input tensors must have at least one dimension")
    ]


def test_a_full_queue_refuses_and_a_cancelled_call_makes_room(pairs):  # [42]
    # One row waits for its second; two rows would need another batch, and the queue may hold one.
    waiting = pairs.prediction.Predict.future(_request([[1.0]]), timeout=WAIT_S)
    full = "The batch scheduling queue to which this task was submitted is full; currently 1 batches enqueued and "
    pause = threading.Event()
    for _ in range(1000):
        refused = pairs.prediction.Predict.future(_request([[1.0], [2.0]]), timeout=WAIT_S)
        if _answer(refused)[0] == "UNAVAILABLE":
            break
        pause.wait(0.01)  # the first request had not been queued yet
    assert refused.details() == full + "max_enqueued_batches is 1"
    waiting.cancel()
    for _ in range(1000):
        answer = pairs.predict_together([[2.0], [4.0]])[0]
        if answer[0] != "UNAVAILABLE":
            break
        pause.wait(0.01)  # the server has not heard of the cancellation yet
    assert answer == ([3.0, 4.0], [2, 2])


def test_rows_of_other_lengths_are_filled_up_with_their_own_first_element(padding):  # [43]
    answers = padding.predict_together([[4.0]], [[6.0, 8.0], [2.0, 2.0], [0.0, 2.0]])
    assert answers == [([4.0, 4.0], [4]), ([5.0, 6.0, 3.0, 3.0, 2.0, 3.0], [4, 4, 4])]


def test_versions_are_switched_while_batches_run(models_folder, tmp_path):  # [31]
    for number in (1, 2):
        shutil.copytree(models_folder / "1", tmp_path / "unfinished" / str(number))
    base = tmp_path / "m"
    base.mkdir()
    (tmp_path / "unfinished" / "1").rename(base / "1")
    service = Service(base, max_batch_size=8, batch_timeout_micros=500, max_enqueued_batches=100)
    answers, versions, stop = set(), set(), threading.Event()

    def ask():
        while not stop.is_set():
            call = service.prediction.Predict.future(_request([[2.0]]), timeout=WAIT_S)
            answers.add(tuple(_answer(call)[0]))
            if call.code() == grpc.StatusCode.OK:
                versions.add(call.result().model_spec.version.value)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    (tmp_path / "unfinished" / "2").rename(base / "2")
    pause = threading.Event()
    while 1 not in versions:
        pause.wait(0.01)
    service.models.poll()
    while 2 not in versions:
        pause.wait(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    states = [version.state.name for version in service.models.versions("m")]
    service.close()
    assert answers == {(3.0,)}
    assert states == ["AVAILABLE", "END"]


def _run_server(*flags):
    command = [sys.executable, "-m", "serving.server", "--port=0", "--model_name=m", *flags]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_parameters_file_without_batching_ends_the_server(models_folder, tmp_path):  # [39]
    (tmp_path / "batching.txt").write_text("max_batch_size { value: 2 }")
    process = _run_server(f"--model_base_path={models_folder}", f"--batching_parameters_file={tmp_path}/batching.txt")
    _, log = process.communicate(timeout=WAIT_S)
    assert process.returncode == 255
    assert (
        "Failed to start server. Error: INVALID_ARGUMENT: server_options.batching_parameters_file is set without "
        "setting server_options.enable_batching to true." in log
    )


@pytest.mark.slow
@pytest.mark.parametrize("per_model", [False, True], ids=["of the server", "of the version"])
def test_a_server_takes_its_parameters_from_a_file(models_folder, tmp_path, per_model):  # [39] [46]
    from serving.clients import PredictClient

    shutil.copytree(models_folder, tmp_path / "m")
    (tmp_path / "batching.txt").write_text("max_batch_size { value: 4 }\nallowed_batch_sizes: 4\n")
    (tmp_path / "m" / "1" / "batching_params.pbtxt").write_text("max_batch_size { value: 8 }\nallowed_batch_sizes: 8\n")
    process = _run_server(
        f"--model_base_path={tmp_path}/m",
        "--enable_batching",
        f"--batching_parameters_file={tmp_path}/batching.txt",
        f"--enable_per_model_batching_parameters={per_model}",
        "--max_queue_delay_ms=60000",
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("Running gRPC ModelServer at "), line + process.stderr.read()
        with PredictClient(line.split()[4], "m") as client:
            rows = client.predict({"x": np.array([[2.0]], np.float32)})["rows"].tolist()
        assert rows == [8 if per_model else 4]
        process.terminate()
        assert process.wait(WAIT_S) == 0
    finally:
        process.kill()
        process.communicate()
