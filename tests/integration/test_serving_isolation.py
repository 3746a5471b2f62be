"""Does a version in a process of its own answer as one in the server's process? Two real servers, asked alike."""

import http.client
import json
import sys

import grpc
import numpy as np
import pytest

from serving.clients import PredictClient
from tests.integration.small_models import write_half_plus_two, write_parrot

KINDS = ["float32", "float16", "bfloat16", "int8", "int64", "uint16", "bool", "string", "complex64"]
PREDICTION = "/tensorflow.serving.PredictionService/"


def _write_echo(directory):
    """One signature for each data type, and one of scalars."""
    import tensorflow as tf

    def echo(shape, kind):
        return tf.function(lambda x: {"y": tf.identity(x)}).get_concrete_function(x=tf.TensorSpec(shape, kind))

    signatures = {kind: echo([None], tf.as_dtype(kind)) for kind in KINDS} | {"scalar": echo([], tf.string)}
    tf.saved_model.save(tf.Module(), str(directory), signatures)


class Side:
    """A running server: its ports, and how it answers."""

    def __init__(self, server):
        self.address = server.address()
        self.rest_port = int(server.address().rpartition(":")[2])
        self._channel = grpc.insecure_channel(self.address, options=[("grpc.max_receive_message_length", -1)])

    def ask(self, method, request, kind, timeout=60):
        """Code and text, or the message of the answer."""
        try:
            answer = self._channel.unary_unary(method)(request.SerializeToString(), timeout=timeout)
        except grpc.RpcError as error:
            return error.code().name, error.details()
        return kind.FromString(answer)

    def post(self, path, document):
        connection = http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=60)
        connection.request("POST", path, json.dumps(document))
        response = connection.getresponse()
        found = response.status, response.headers["Content-Type"], response.read()
        connection.close()
        return found


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """A server with all versions in its process, and one with each in a process of its own."""
    from benchmarks.load.faults import write_faulty
    from benchmarks.load.sides import Server

    base = tmp_path_factory.mktemp("isolation")
    write_half_plus_two(base / "half" / "1")
    write_faulty(base / "faulty" / "1")
    _write_echo(base / "echo" / "1")
    write_parrot(base / "parrot" / "1")
    models = [
        f'config {{ name: "{name}" base_path: "{base / name}" model_platform: "tensorflow" }}'
        for name in ("half", "faulty", "echo", "parrot")
    ]
    (base / "models.config").write_text(f"model_config_list {{ {' '.join(models)} }}")
    command = [sys.executable, "-m", "serving.server", "--port=0", "--rest_api_port=-1", "--rest_api_stream"]
    command += ["--openai_api", f"--model_config_file={base / 'models.config'}"]
    with (
        Server(command, base / "one.log") as one,
        Server([*command, "--isolate_versions"], base / "own.log") as own,
    ):
        yield Side(one), Side(own)


def _predict(model, signature="", outputs=(), **inputs):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def _floats(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize(
    ("model", "signature", "inputs"),
    [
        ("half", "", {"x": _floats(3)}),
        ("half", "", {"x": _floats()}),
        ("half", "", {"x": _floats(2, 0)}),
        ("half", "", {"x": _floats(3_000_000)}),
        ("half", "", {"x": np.array([1])}),
        ("half", "", {}),
        ("half", "", {"z": _floats(3)}),
        ("half", "nothing", {"x": _floats(3)}),
        ("half", "classify_x_to_y", {"inputs": [b"no example"]}),
        ("faulty", "", {"x": _floats(3)}),
        ("nobody", "", {"x": _floats(3)}),
        ("echo", "scalar", {"x": b"\xff\x00 one string"}),
    ],
)
def test_predict_has_the_same_answers_and_refusals(sides, model, signature, inputs):
    from tensorflow_serving.apis import predict_pb2

    request = _predict(model, signature, **inputs)
    one, own = (side.ask(f"{PREDICTION}Predict", request, predict_pb2.PredictResponse) for side in sides)
    assert one == own


@pytest.mark.parametrize("kind", KINDS)
def test_every_data_type_crosses_both_ways(sides, kind):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    values = [b"\xff", b"", b"abc"] if kind == "string" else [1, 0, 1]
    request = _predict("echo", kind, x=np.array(values, tf.as_dtype(kind).as_numpy_dtype))
    one, own = (side.ask(f"{PREDICTION}Predict", request, predict_pb2.PredictResponse) for side in sides)
    assert own.outputs["y"].dtype == tf.as_dtype(kind).as_datatype_enum
    assert one == own


def test_the_other_calls_have_the_same_answers(sides):
    import tensorflow as tf
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        regression_pb2,
    )

    feature = tf.train.Feature(float_list=tf.train.FloatList(value=[2.0]))
    example = tf.train.Example(features=tf.train.Features(feature={"x": feature}))
    classify = classification_pb2.ClassificationRequest()
    classify.model_spec.name, classify.model_spec.signature_name = "half", "classify_x_to_y"
    classify.input.example_list.examples.append(example)
    regress = regression_pb2.RegressionRequest()
    regress.model_spec.name, regress.model_spec.signature_name = "half", "regress_x_to_y"
    regress.input.example_list.examples.append(example)
    several = inference_pb2.MultiInferenceRequest()
    several.input.example_list.examples.append(example)
    for key, method in (("regress_x_to_y", "regress"), ("classify_x_to_y", "classify")):
        task = several.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = "half", key
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "half"
    calls = [
        (f"{PREDICTION}Classify", classify, classification_pb2.ClassificationResponse),
        (f"{PREDICTION}Regress", regress, regression_pb2.RegressionResponse),
        (f"{PREDICTION}MultiInference", several, inference_pb2.MultiInferenceResponse),
        ("/tensorflow.serving.ModelService/GetModelStatus", status, get_model_status_pb2.GetModelStatusResponse),
    ]
    for method, request, kind in calls:
        one, own = (side.ask(method, request, kind) for side in sides)
        assert isinstance(own, kind), own
        assert one == own
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = "half"
    one, own = (
        _signatures(
            side.ask(f"{PREDICTION}GetModelMetadata", metadata, get_model_metadata_pb2.GetModelMetadataResponse)
        )
        for side in sides
    )
    assert one == own


def _signatures(response):
    from tensorflow_serving.apis import get_model_metadata_pb2

    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    return signatures


def test_a_run_past_its_deadline_ends_with_the_same_refusal(sides):
    from tensorflow_serving.apis import predict_pb2

    request = _predict("faulty", "endless", x=_floats(1))
    one, own = (side.ask(f"{PREDICTION}Predict", request, predict_pb2.PredictResponse, timeout=0.5) for side in sides)
    assert one[0] == own[0] == "DEADLINE_EXCEEDED"
    for side in sides:
        status, _, body = side.post("/v1/models/half:predict", {"instances": [2.0]})
        assert (status, json.loads(body)) == (200, {"predictions": [3.0]})


def test_streams_over_grpc_have_the_same_parts(sides):
    inputs = {"prompt": [b"polly", "你好".encode()], "max_new_tokens": np.array([9, 3], np.int32)}
    parts = []
    for side in sides:
        with PredictClient(side.address, "parrot", deadline_s=60) as client:
            parts.append([part["text"].tolist() for part in client.predict_stream(inputs)])
    assert parts[0] == parts[1]
    assert parts[1] == [[b"polly" * n, "你好".encode() * min(n, 3)] for n in (1, 5, 9)]


def test_streams_over_http_have_the_same_events(sides):
    rows = {"instances": [{"prompt": "今天", "max_new_tokens": 12}]}
    one, own = (side.post("/v1/models/parrot:stream", rows) for side in sides)
    assert own[:2] == (200, "text/event-stream; charset=utf-8")
    assert one == own
    refused = [side.post("/v1/models/half:stream", {"instances": [1.0]}) for side in sides]
    assert refused[0] == refused[1]
    assert refused[1][0] == 501


@pytest.mark.parametrize("is_streamed", [False, True])
def test_the_openai_protocol_has_the_same_texts(sides, is_streamed):
    order = {"model": "parrot", "prompt": "polly ", "max_tokens": 6, "stream": is_streamed}
    for side in sides:
        status, _, body = side.post("/v1/completions", order)
        assert status == 200, body
        lines = body.decode().split("data: ")[1:-1] if is_streamed else [body.decode()]
        texts = [choice["text"] for line in lines for choice in json.loads(line)["choices"]]
        assert "".join(texts) == "polly " * 6
        assert len(texts) == (3 if is_streamed else 1)  # 1 word, 4, and the last
