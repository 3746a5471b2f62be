"""Does the gRPC server live through what clients, models and disks do to it, and go on for all the others?"""

import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.small_models import write_half_plus_two

ROOT = Path(__file__).parents[2]
PREDICTION = "/tensorflow.serving.PredictionService/"
METHODS = [f"{PREDICTION}{name}" for name in ("Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata")]
METHODS += ["/tensorflow.serving.ModelService/GetModelStatus"]
OUR_FAULT = "The server failed on this request"  # what a refusal never says


class Service:
    """A server in this process with a sound model `m` (x / 2 + 2) and one that throws and hangs, `faulty`."""

    def __init__(self, base):
        from benchmarks.load.faults import FAULTY, write_faulty
        from serving.server.core import ServerCore
        from serving.server.services import start_server
        from serving.server.versions import LoadPolicy, ModelConfig, Models

        write_half_plus_two(base / "m" / "1")
        write_faulty(base / FAULTY / "1")
        self.base = base
        configs = [ModelConfig(name, base / name) for name in ("m", FAULTY)]
        self.models = Models(configs, policy=LoadPolicy(max_retries=0, rest_seconds=0))
        self.models.start(0)
        self.server, self.port = start_server(ServerCore(self.models), "127.0.0.1", 0, 4)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")

    def ask(self, method, content, timeout=60):
        """Code and text of the answer to bytes that need not be a message."""
        try:
            self.channel.unary_unary(method)(content, timeout=timeout)
        except grpc.RpcError as error:
            return error.code().name, error.details()
        return "OK", ""

    def is_sound(self):
        request = _request("m", x=[2.0])
        answer = self.channel.unary_unary(f"{PREDICTION}Predict")(request, timeout=60)
        from tensorflow_serving.apis import predict_pb2

        return list(predict_pb2.PredictResponse.FromString(answer).outputs["y"].float_val) == [3.0]

    def close(self):
        self.channel.close()
        self.server.stop(None).wait()
        self.models.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    running = Service(tmp_path_factory.mktemp("models"))
    yield running
    running.close()


def _request(model, signature="", **inputs):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(np.array(values, np.float32)))
    return request.SerializeToString()


# Bytes

_EXAMPLE = b"\x0a\x03\x0a\x01m\x12\x0c\x0a\x01x\x12\x07\x08\x01\x12\x00\x2a\x01\x00"


@settings(max_examples=300, deadline=None)
@given(
    method=st.sampled_from(METHODS),
    content=st.binary(max_size=60)
    | st.tuples(st.binary(max_size=8), st.integers(0, len(_EXAMPLE)), st.integers(0, len(_EXAMPLE))).map(
        lambda drawn: _EXAMPLE[: drawn[1]] + drawn[0] + _EXAMPLE[drawn[2] :]
    ),
)
def test_no_bytes_make_the_server_fail(service, method, content):
    code, text = service.ask(method, content)
    assert code != "UNKNOWN"
    assert OUR_FAULT not in text


_SIZES = st.sampled_from([-1, 0, 1, 2, 3, 2**31, 2**40, 2**62])
_FIELDS = {
    "float_val": st.floats(width=32),
    "double_val": st.floats(),
    "half_val": st.integers(-(2**31), 2**31 - 1),
    "int_val": st.integers(-(2**31), 2**31 - 1),
    "int64_val": st.integers(-(2**63), 2**63 - 1),
    "bool_val": st.booleans(),
    "string_val": st.binary(max_size=4),
}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    names=st.tuples(st.sampled_from(["m", "faulty", ""]), st.sampled_from(["", "classify_x_to_y", "s", "\x00"])),
    version=st.none() | st.sampled_from([-1, 0, 1, 2**62]),
    tensors=st.dictionaries(
        st.sampled_from(["x", "y", "inputs", ""]),
        st.tuples(
            st.integers(0, 30) | st.just(1),
            st.lists(_SIZES, max_size=3),
            st.sampled_from(sorted(_FIELDS)).flatmap(
                lambda field: st.tuples(st.just(field), st.lists(_FIELDS[field], max_size=3))
            ),
            st.binary(max_size=8) | st.just(b""),
        ),
        max_size=2,
    ),
    wanted=st.lists(st.sampled_from(["y", "x", ""]), max_size=2),
)
def test_no_message_makes_the_server_fail(service, names, version, tensors, wanted):
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest(output_filter=wanted)
    request.model_spec.name, request.model_spec.signature_name = names
    if version is not None:
        request.model_spec.version.value = version
    for name, (kind, shape, (field, values), content) in tensors.items():
        tensor = request.inputs[name]
        tensor.dtype, tensor.tensor_content = kind, content
        getattr(tensor, field).extend(values)
        for size in shape:
            tensor.tensor_shape.dim.add(size=size)
    code, text = service.ask(f"{PREDICTION}Predict", request.SerializeToString())
    assert code in ("OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"), text
    assert OUR_FAULT not in text


def test_a_few_bytes_cannot_ask_for_more_memory_than_there_is(service):
    from tensorflow_serving.apis import predict_pb2

    for kind, field, value in ((1, "float_val", 1.0), (7, "string_val", b"a")):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "m"
        request.inputs["x"].dtype = kind
        getattr(request.inputs["x"], field).append(value)  # stands for all 2 ** 40
        request.inputs["x"].tensor_shape.dim.add(size=2**40)
        refused = service.ask(f"{PREDICTION}Predict", request.SerializeToString())
        assert refused == ("INVALID_ARGUMENT", "tensor parsing error: x")
    assert service.is_sound()


# Clients and models


def test_clients_that_begin_and_send_no_more_hold_up_nobody(service):
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    begun = [b"", preface[:10], preface, preface + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\x00\x10\x00\x01\x04"]
    connections = [socket.create_connection(("127.0.0.1", service.port), timeout=60) for _ in range(20)]
    try:
        for connection, content in zip(connections, begun * 5, strict=True):
            connection.sendall(content)
        assert service.is_sound()
    finally:
        for connection in connections:
            connection.close()


def test_a_model_that_throws_is_a_refusal_with_its_own_words(service):
    code, text = service.ask(f"{PREDICTION}Predict", _request("faulty", x=[-1.0]))
    assert code == "INVALID_ARGUMENT"
    assert "x has to be positive" in text
    assert service.ask(f"{PREDICTION}Predict", _request("faulty", x=[4.0])) == ("OK", "")


def test_while_a_model_hangs_until_its_deadline_the_others_are_served(service):
    hung = service.channel.unary_unary(f"{PREDICTION}Predict").future(
        _request("faulty", "endless", x=[-1.0]), timeout=2
    )
    assert service.is_sound()
    assert hung.code().name == "DEADLINE_EXCEEDED"
    assert service.is_sound()


# Disks


def test_a_base_path_that_vanishes_and_returns_is_looked_at_again(service):
    from serving.server.versions import State

    base, gone = service.base / "m", service.base / "gone"
    base.rename(gone)
    service.models.poll()
    assert service.is_sound()
    shutil.copytree(gone / "1", gone / "2")
    gone.rename(base)
    service.models.poll()
    states = [(version.number, version.state) for version in service.models.versions("m")]
    assert states == [(2, State.AVAILABLE), (1, State.END)]
    assert service.is_sound()


@pytest.mark.slow
def test_after_sigkill_a_new_server_takes_the_port_and_clients_go_on(service):
    command = [sys.executable, "-m", "serving.server", "--model_name=m", f"--model_base_path={service.base / 'm'}"]

    def start(port):
        process = subprocess.Popen([*command, f"--port={port}"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        return process, int(process.stdout.readline().split()[4].rpartition(":")[2])

    first, port = start(0)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary(f"{PREDICTION}Predict")
        assert ask(_request("m", x=[2.0]), timeout=60)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        with pytest.raises(grpc.RpcError) as caught:
            ask(_request("m", x=[2.0]), timeout=60)
        assert caught.value.code().name == "UNAVAILABLE"
        second, same_port = start(port)
        try:
            assert same_port == port
            assert ask(_request("m", x=[2.0]), timeout=60, wait_for_ready=True)
        finally:
            second.kill()
            second.communicate()
