"""Does the REST API answer as TensorFlow Serving's does? [n]: number in the project's protocol checklist."""

import base64
import gzip
import http.client
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.small_models import write_half_plus_two

ROOT = Path(__file__).parents[2]


ECHOED = ["float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"]
ECHOED += ["string", "float16"]


def _write_echo(directory):
    """One echo signature for each data type, signatures with several inputs and outputs, and a long loop."""
    import tensorflow as tf

    def made(function, **inputs):
        return tf.function(function).get_concrete_function(
            **{name: tf.TensorSpec(shape, kind) for name, (shape, kind) in inputs.items()}
        )

    def spin(x):
        matrix = tf.fill([200, 200], x[0])
        return {"y": tf.while_loop(lambda i, m: i < 10**7, lambda i, m: (i + 1, tf.tanh(m @ m)), [0, matrix])[1]}

    signatures = {kind: made(lambda x: {"y": tf.identity(x)}, x=(None, tf.as_dtype(kind))) for kind in ECHOED}
    rows, numbers = ([None], tf.string), ([None, None], tf.float32)
    signatures["bytes"] = made(lambda x: {"y_bytes": tf.identity(x)}, x=rows)
    signatures["named"] = made(lambda a, b: {"a_bytes": tf.identity(a), "b": b + 1}, a=rows, b=numbers)
    signatures["scalar"] = made(lambda x: {"y": tf.reduce_sum(x)}, x=numbers)
    signatures["uneven"] = made(lambda x: {"y": x, "z": x[1:]}, x=numbers)
    signatures["spin"] = made(spin, x=([None], tf.float32))
    signatures["half"] = made(lambda x: {"y": tf.cast(x, tf.float16)}, x=([None], tf.float32))
    signatures["short"] = made(lambda x: {"y": tf.cast(x, tf.uint16)}, x=([None], tf.float32))
    signatures["labels"] = made(
        lambda inputs: {"classes": tf.fill([tf.size(inputs), 2], 'a"b'), "scores": tf.fill([tf.size(inputs), 2], 0.25)},
        inputs=rows,
    )
    tf.saved_model.save(tf.Module(), str(directory), signatures=signatures)


class Service:
    """A running REST server in this process."""

    def __init__(self, core, lists_models=False, metrics=None, **options):
        from serving.server.rest import RestApi
        from serving.server.rest_server import RestOptions, RestServer

        self.server = RestServer(RestApi(core, lists_models), "127.0.0.1", 0, RestOptions(**options), metrics)

    def ask(self, method, path, body=None, **headers):
        """Code, body and headers of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8", "surrogateescape"), dict(response.getheaders())
        finally:
            connection.close()

    def get(self, path):
        return self.ask("GET", path)[:2]

    def post(self, path, body):
        return self.ask("POST", path, body if isinstance(body, bytes | str) else json.dumps(body))[:2]

    def predict(self, body, model="m"):
        return self.post(f"/v1/models/{model}:predict", body)

    def send(self, content):
        """What comes back for bytes that need not be HTTP, until the server closes."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=60) as connection:
            connection.sendall(content)
            return b"".join(iter(lambda: connection.recv(4096), b""))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.close()


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    from serving.server.core import ServerCore
    from serving.server.versions import ModelConfig, Models

    base = tmp_path_factory.mktemp("models")
    write_half_plus_two(base / "half" / "00000123")
    _write_echo(base / "echo" / "1")
    models = Models([ModelConfig("m", base / "half"), ModelConfig("echo", base / "echo")])
    models.start(0)
    yield ServerCore(models)
    models.close()


@pytest.fixture(scope="module")
def service(core):
    with Service(core) as running:
        yield running


def _complaint(message):
    return 400, _error(message)


def _error(message):
    return '{\n    "error": ' + json.dumps(message) + "\n}"


# Predict


def test_rows_come_back_as_rows_in_the_stock_layout(service):  # [47]
    assert service.predict('{"instances": [1.0, 2, 5]}') == (200, '{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}')
    text = '{\n    "predictions": [[2.5, 3.0], [3.5, 4.0]\n    ]\n}'
    assert service.predict('{"instances": [[1, 2], [3, 4]]}') == (200, text)
    assert service.predict('{"instances": [{"x": 1.0}, {"x": 2.0}]}')[1] == '{\n    "predictions": [2.5, 3.0\n    ]\n}'


def test_columns_come_back_as_columns_in_the_stock_layout(service):  # [47]
    text = (
        '{\n    "outputs": [\n        [\n            2.5\n        ],\n        [\n            3.0\n        ]\n    ]\n}'
    )
    assert service.predict('{"inputs": [[1], [2]]}') == (200, text)
    assert service.predict('{"inputs": {"x": [[1], [2]]}}') == (200, text)
    assert service.predict('{"inputs": 1}') == (200, '{\n    "outputs": 2.5\n}')
    assert service.predict('{"inputs": [[], []]}') == (200, '{\n    "outputs": [\n        [],\n        []\n    ]\n}')


def test_several_outputs_come_back_as_objects(service):  # [47]
    rows = {"signature_name": "named", "instances": [{"a": "x", "b": [1]}, {"a": {"b64": "/w"}, "b": [2]}]}
    text = (
        '{\n    "predictions": [\n        {\n            "a_bytes": {\n                "b64": "eA=="\n            },\n'
        '            "b": [2.0]\n        },\n        {\n            "a_bytes": {\n                "b64": "/w=="\n'
        '            },\n            "b": [3.0]\n        }\n    ]\n}'
    )
    assert service.predict(rows, "echo") == (200, text)
    columns = {"signature_name": "named", "inputs": {"a": ["x"], "b": [[1]]}}
    text = (
        '{\n    "outputs": {\n        "a_bytes": [\n            {\n                "b64": "eA=="\n            }\n'
        '        ],\n        "b": [\n            [\n                2.0\n            ]\n        ]\n    }\n}'
    )
    assert service.predict(columns, "echo") == (200, text)


def test_binary_strings_travel_as_base64(service):  # [47]
    content = bytes(range(256))
    for text in (base64.b64encode(content).decode(), base64.b64encode(content).decode().rstrip("=")):
        body = {"signature_name": "bytes", "instances": [{"b64": text}]}
        code, answer = service.predict(body, "echo")
        assert (code, base64.b64decode(json.loads(answer)["predictions"][0]["b64"])) == (200, content)
    body = {"signature_name": "bytes", "instances": [{"b64": "A"}]}
    wrapped = "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: Unable to base64 decode"
    assert service.predict(body, "echo") == _complaint(wrapped)


def test_strings_come_back_as_they_were_sent(service):
    texts = ["", 'quote " and \\', "tab\tline\n\x01\x1f\x7f", "净利润 😀", "/"]
    for ascii_only in (True, False):
        body = json.dumps({"signature_name": "string", "instances": texts}, ensure_ascii=ascii_only).encode()
        assert json.loads(service.predict(body, "echo")[1])["predictions"] == texts
    raw = b'{"signature_name": "string", "instances": ["\xff\x80"]}'  # not UTF-8: passes through unchanged
    assert service.predict(raw, "echo")[1] == '{\n    "predictions": ["\udcff\udc80"\n    ]\n}'


def test_numbers_that_are_not_finite_are_taken_and_given(service):  # [47]
    answer = service.predict('{"instances": [NaN, Infinity, -Infinity, Inf, -Inf, -NaN]}')
    assert answer == (200, '{\n    "predictions": [NaN, Infinity, -Infinity, Infinity, -Infinity, NaN\n    ]\n}')


def test_floats_are_printed_with_six_digits_or_all(service):  # [47]
    body = '{"signature_name": "%s", "instances": [0.1, 1e7, 0.00003, 3, 1.1234567, -0.0, 16777215]}'
    answers = {
        "float32": "[0.1, 1e+07, 3e-05, 3.0, 1.12345672, -0.0, 16777215.0",
        "float64": "[0.1, 1e+07, 3e-05, 3.0, 1.1234567, -0.0, 16777215.0",
    }
    for kind, printed in answers.items():
        code, text = service.predict(body % kind, "echo")
        assert (code, json.loads(text)["predictions"][:4]) == (200, [0.1, 1e7, 3e-05, 3.0])
        assert text.split(": ")[1].split("\n")[0].startswith(printed[:40])


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("int8", [-128, 127]),
        ("int16", [-32768, 32767]),
        ("int32", [-(2**31), 2**31 - 1]),
        ("int64", [-(2**63), 2**63 - 1]),
        ("uint8", [0, 255]),
        ("uint32", [0, 2**32 - 1]),
        ("uint64", [0, 2**64 - 1]),
        ("bool", [True, False]),
        ("float64", [2.5, 1.7976931348623157e308]),
        ("float32", [2.5, 3.4028234663852886e38]),
    ],
)
def test_every_type_goes_in_and_comes_out(service, kind, values):
    code, answer = service.predict({"signature_name": kind, "instances": values}, "echo")
    assert code == 200
    found = json.loads(answer)["predictions"]
    assert found == values if kind != "float32" else np.float32(found).tolist() == np.float32(values).tolist()


def test_half_precision_can_be_given_but_not_taken(service):
    assert service.predict({"signature_name": "half", "instances": [0.1]}, "echo")[1].split()[2] == "[0.0999755859"
    body = {"signature_name": "float16", "inputs": [0.5]}
    assert service.predict(body, "echo") == (501, _error("Conversion of JSON Value: 0.5 to type: half"))
    body = {"signature_name": "short", "instances": [1.0]}
    assert service.predict(body, "echo") == _complaint("Failed to write JSON value for tensor type: uint16")


def test_rows_need_outputs_with_a_batch(service):  # [47]
    body = {"signature_name": "scalar", "instances": [[1.0]]}
    assert service.predict(body, "echo") == _complaint("Tensor name: y has no shape information ")
    body = {"signature_name": "uneven", "instances": [[1.0], [2.0]]}
    assert service.predict(body, "echo") == _complaint("Tensor name: z has inconsistent batch size: 1 expecting: 2")


_ROW = "Failed to process element: {} of 'instances' list. Error: INVALID_ARGUMENT: {}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "JSON Parse error: The document is empty"),
        (" ", "JSON Parse error: The document is empty. at offset: 1"),
        ("[]", "JSON Value: [] Is not object"),
        ("{", "JSON Parse error: Missing a name for object member. at offset: 1"),
        ('{"a": tru}', "JSON Parse error: Invalid value. at offset: 9"),
        ("{}", "Missing 'inputs' or 'instances' key"),
        ('{"instances": 1}', "JSON Value: {\n    \"instances\": 1\n} Excepting 'instances' to be an list/array"),
        ('{"instances": []}', "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
        (
            '{"inputs": 1, "instances": [1]}',
            'JSON Value: {\n    "inputs": 1,\n    "instances": [\n        1\n    ]\n} Not formatted correctly '
            "expecting only one of 'inputs' or 'instances' keys to exist ",
        ),
        (
            '{"signature_name": 1, "instances": [1]}',
            'JSON Value: {\n    "signature_name": 1,\n    "instances": [\n        1\n    ]\n} not formatted correctly. '
            "'signature_name' key must be a string value.",
        ),
        ('{"signature_name": "s"}', 'Serving signature name: "s" not found in signature def'),
        ('{"instances": ["a"]}', _ROW.format(0, 'JSON Value: "a" Type: String is not of expected type: float')),
        ('{"instances": [1, null]}', _ROW.format(1, "JSON Value: null Type: Null is not of expected type: float")),
        ('{"instances": [1, true]}', _ROW.format(1, "JSON Value: true Type: True is not of expected type: float")),
        ('{"instances": [[1], [1, 2]]}', _ROW.format(1, "Expecting tensor size: 1 but got: 2")),
        ('{"instances": [[1], 1]}', _ROW.format(1, "Expecting shape [1] but got: []")),
        (
            '{"instances": [[[1], 1]]}',
            _ROW.format(0, "JSON Value: 1 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ),
        ('{"instances": [[1, [1]]]}', _ROW.format(0, "Encountered list at unexpected level: 1 expected < 1")),
        (
            '{"instances": [16777216]}',
            _ROW.format(0, "Cannot convert JSON value: 16777216 to float without loss of precision."),
        ),
        (
            '{"instances": [1e39]}',
            _ROW.format(0, "Cannot convert JSON value: 1e+39 to float without loss of precision."),
        ),
        (
            '{"instances": [{"z": 1}]}',
            "Failed to process element: 0 key: z of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON object: does not have named input: z",
        ),
        (
            '{"instances": [{"x": 1}, {}]}',
            "Failed to process element: 1 of 'instances' list. JSON object: {} keys must be equal to: x",
        ),
        ('{"instances": [{"x": 1}, 1]}', "Expecting object but got list at item 1 of input list"),
        ('{"instances": [1, {"x": 1}]}', "Expecting value/list but got object at item 1 of input list"),
        ('{"inputs": {"z": 1}}', "Missing named input: x in 'inputs' object."),
        ('{"inputs": [[1, 2, 3], [1, 2]]}', "Encountered list at unexpected size: 2 at level: 1 expected size: 3"),
        ('{"inputs": "a"}', 'JSON Value: "a" Type: String is not of expected type: float'),
        ('{"inputs": {"x": {"y": 1}}}', 'JSON Value: {\n    "y": 1\n} Type: Object is not of expected type: float'),
    ],
)
def test_mistakes_in_a_request_get_the_stock_text(service, body, message):  # [47]
    assert service.predict(body) == _complaint(message)


def test_signatures_with_several_inputs_want_names(service):
    tail = "as multiple input tensors required as per tensorinfo_map"
    refused = service.predict({"signature_name": "named", "instances": [1]}, "echo")
    assert refused == _complaint(f"instances is a plain list, but expecting list of objects {tail}")
    refused = service.predict({"signature_name": "named", "inputs": [1]}, "echo")
    assert refused == _complaint(f"inputs is a plain value/list, but expecting an object {tail}")
    refused = service.predict({"signature_name": "named", "instances": [{"a": "x"}]}, "echo")
    row = '{\n    "a": "x"\n}'
    message = f"Failed to process element: 0 of 'instances' list. JSON object: {row} keys must be equal to: a,b"
    assert refused == _complaint(message)


def test_strings_that_are_neither_text_nor_base64_are_refused(service):
    refused = service.predict({"signature_name": "string", "inputs": [{"b65": "x"}]}, "echo")
    assert refused == _complaint('JSON Value: {\n    "b65": "x"\n} not formatted correctly for base64 data')


def test_the_models_own_complaints_come_through(service):
    code, text = service.predict({"signature_name": "spin", "instances": [[]]}, "echo")
    assert code == 400
    assert "{{node" in json.loads(text)["error"]


# Classify and Regress


def test_classify_answers_pairs_of_label_and_score(service):  # [47]
    body = {"signature_name": "classify_x_to_y", "examples": [{"x": 2.0}, {"x": [20.0]}]}
    assert service.post("/v1/models/m:classify", body) == (
        200,
        '{\n    "results": [[["", 3.0]], [["", 12.0]]\n    ]\n}',
    )
    body = {"signature_name": "labels", "examples": [{}]}
    text = '{\n    "results": [[["a\\"b", 0.25], ["a\\"b", 0.25]]\n    ]\n}'
    assert service.post("/v1/models/echo:classify", body) == (200, text)


def test_regress_answers_numbers_and_examples_share_a_context(service):  # [47]
    body = {"signature_name": "regress_x_to_y", "context": {"x": 2.0}, "examples": [{}, {"x": 20.0}]}
    assert service.post("/v1/models/m:regress", body) == (200, '{\n    "results": [3.0, 12.0]\n}')


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{}", "JSON Value: {} When method is classify, key 'examples' is expected and was not found"),
        ('{"examples": 1}', "JSON Value: {\n    \"examples\": 1\n} Expecting 'examples' value to be an list/array"),
        ('{"examples": []}', "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array"),
        ('{"examples": [1]}', "Example must be JSON object but got JSON Number"),
        ('{"examples": [{"x": null}]}', "Feature: x has element with unexpected JSON type: Null"),
        ('{"examples": [{"x": [[1]]}]}', "Feature: x has element with unexpected JSON type: Array"),
        ('{"examples": [{"x": {"y": 1}}]}', "Feature: x has element with unexpected JSON type: Object"),
        ('{"examples": [{"x": [1, 1.5]}]}', "Unexpected element type in feature: x expecting type: int64"),
        ('{"examples": [{"x": ["a", 1]}]}', "Unexpected element type in feature: x expecting type: bytes"),
        ('{"examples": [{"x": [1.5, true]}]}', "Unexpected element type in feature: x expecting type: float"),
        ('{"examples": [{"x": 18446744073709551615}]}', "Feature: x has uint64 element. Only int64 is supported."),
        ('{"examples": [{"x": 1e39}]}', "Cannot convert JSON value: 1e+39 to float without loss of precision."),
        ('{"examples": [{}], "signature_name": "s"}', "No signature was found with the name: s"),
    ],
)
def test_mistakes_in_examples_get_the_stock_text(service, body, message):  # [47]
    assert service.post("/v1/models/m:classify", body) == _complaint(message)
    assert service.post("/v1/models/m:regress", body) == _complaint(message)


# Which model, and what it is


def test_versions_and_labels_are_part_of_the_path(service):  # [4] [5] [47]
    body = {"instances": [2.0]}
    assert service.post("/v1/models/m/versions/123:predict", body)[0] == 200
    assert service.post("/V1/Models/m/Versions/0123:predict", body)[0] == 200
    refused = service.post("/v1/models/m/versions/7:predict", body)
    assert refused == (404, _error("Servable not found for request: Specific(m, 7)"))
    refused = service.post("/v1/models/m/labels/l%20l:predict", body)
    assert refused == _complaint("Unrecognized servable version label: l l")
    assert service.post("/v1/models/x:predict", body) == (404, _error("Servable not found for request: Latest(x)"))
    assert service.post("/v1/models/%6d:predict", body)[0] == 200
    assert service.post("/v1/models/m/versions/99999999999999999999:predict", body) == (400, "")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/models/m"),
        ("POST", "/v1/models/m:explain"),
        ("POST", "/v1/models/m:PREDICT"),
        ("GET", "/v1/models/m:predict"),
        ("PUT", "/v1/models/m:predict"),
        ("GET", "/v1/models/m/versions/1/labels/l"),
        ("GET", "/v1/"),
        ("OPTIONS", "/v1/models/m:predict"),
    ],
)
def test_other_paths_are_malformed_requests(service, method, path):  # [47]
    assert service.ask(method, path, "{}")[:2] == _complaint(f"Malformed request: {method} {path}")


def test_paths_outside_the_api_are_not_found(service):
    code, text, headers = service.ask("GET", "/")
    assert (code, headers["Content-Type"]) == (404, "text/html")
    assert "<TITLE>404 Not Found</TITLE>" in text
    assert service.get("/readyz")[0] == 404


def test_status_tells_the_versions(service):  # [47]
    text = (
        '{\n "model_version_status": [\n  {\n   "version": "123",\n   "state": "AVAILABLE",\n   "status": {\n'
        '    "error_code": "OK",\n    "error_message": ""\n   }\n  }\n ]\n}\n'
    )
    for path in ("/v1/models/m", "/v1/models/m/versions/123", "/v1/models/m/labels/l"):
        assert service.get(path) == (200, text)
    assert service.get("/v1/models/m/versions/7") == (404, _error("Could not find version 7 of model m"))
    assert service.get("/v1/models/x") == (404, _error("Could not find any versions of model x"))
    assert service.get("/v1/models") == _complaint("Missing model name in request.")


def test_metadata_tells_all_signatures(service):  # [47]
    code, text = service.get("/v1/models/m/metadata")
    assert code == 200
    head = (
        '{\n"model_spec":{\n "name": "m",\n "signature_name": "",\n "version": "123"\n}\n,\n'
        '"metadata": {"signature_def": {\n "signature_def": {\n'
    )
    assert text.startswith(head)
    signatures = json.loads(text)["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "classify_x_to_y", "regress_x_to_y"}
    dims = [{"size": "-1", "name": ""}, {"size": "1", "name": ""}]
    assert signatures["serving_default"] == {
        "inputs": {"x": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": dims, "unknown_rank": False}, "name": "x:0"}},
        "outputs": {"y": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": dims, "unknown_rank": False}, "name": "y:0"}},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
    assert service.get("/v1/models/x/metadata") == (404, _error("Servable not found for request: Latest(x)"))


# Transport


def test_bodies_may_be_packed(service):
    body = gzip.compress(b'{"instances": [2.0]}')
    assert service.ask("POST", "/v1/models/m:predict", body, Content_Encoding="gzip")[0] == 200
    for broken in (b"not gzip", body[:-9], b""):
        code, text, _ = service.ask("POST", "/v1/models/m:predict", broken, Content_Encoding="gzip")
        assert (code, "gzip" in text) == (400, True)


def test_answers_carry_the_stock_headers(service):
    _, text, headers = service.ask("POST", "/v1/models/m:predict", '{"instances": [2.0]}')
    assert set(headers) == {"Content-Type", "Content-Length", "Date"}
    assert (headers["Content-Type"], headers["Content-Length"]) == ("application/json", str(len(text)))


def test_pages_of_other_origins_are_let_in_only_by_the_flag(core, service):  # [47]
    assert "Access-Control-Allow-Origin" not in service.ask("GET", "/v1/models/m")[2]
    with Service(core, allows_cross_origin=True) as open_service:
        for method in ("OPTIONS", "GET"):
            code, _, headers = open_service.ask(method, "/v1/models/m", Origin="http://a.example")
            assert code == 200
            assert headers["Access-Control-Allow-Origin"] == "*"
            assert headers["Access-Control-Allow-Methods"] == "POST, GET"
            assert headers["Access-Control-Allow-Headers"] == "Content-Type"


def test_a_run_longer_than_the_timeout_is_ended(core):
    with Service(core, timeout_s=0.3) as impatient:
        code, text = impatient.predict({"signature_name": "spin", "instances": [0.001]}, "echo")
        assert (code, json.loads(text)["error"]) == (504, "Timed out waiting for notification")
        assert impatient.predict({"instances": [2.0]})[0] == 200


def test_models_are_listed_and_health_is_told_only_by_the_flags(core):
    with Service(core, lists_models=True, answers_health=True) as open_service:
        code, text = open_service.get("/v1/models")
        assert (code, json.loads(text)) == (200, {"models": [{"name": "echo"}, {"name": "m"}]})
        assert open_service.get("/healthz") == (200, "ok\n")
        assert open_service.get("/readyz") == (200, "ok\n")


def test_a_server_whose_model_has_no_version_is_alive_but_not_ready(tmp_path):
    from serving.server.core import ServerCore
    from serving.server.versions import ModelConfig, Models

    with Service(ServerCore(Models([ModelConfig("m", tmp_path)])), answers_health=True) as waiting:
        assert waiting.get("/healthz") == (200, "ok\n")
        assert waiting.get("/readyz") == (503, "no version available: m\n")


# Metrics


def test_calls_by_rest_and_grpc_are_counted_on_one_page(core):  # [47]
    import grpc
    from tensorflow_serving.apis import classification_pb2, prediction_service_pb2_grpc

    from serving.server.metrics import Metrics
    from serving.server.metrics_grpc import MetricsInterceptor
    from serving.server.services import start_server

    metrics = Metrics()
    server, port = start_server(core, "127.0.0.1", 0, 2, interceptors=[MetricsInterceptor(metrics)])
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "echo", "labels"
    for _ in range(3):
        request.input.example_list.examples.add()
    with Service(core, metrics=metrics, metrics_path="/metrics") as counted:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            classify = prediction_service_pb2_grpc.PredictionServiceStub(channel).Classify
            classify(request)
            request.model_spec.signature_name = "s"
            with pytest.raises(grpc.RpcError):
                classify(request)
        server.stop(None).wait()
        counted.predict({"instances": [2.0]})
        counted.predict({"instances": []})
        counted.post("/v1/models/m:regress", {"signature_name": "regress_x_to_y", "examples": [{"x": 2.0}, {"x": 3.0}]})
        counted.get("/v1/models/x")
        code, text, headers = counted.ask("GET", "/metrics")
    assert (code, headers["Content-Type"]) == (200, "text/plain")
    expected = [
        ':tensorflow:serving:request_count{model_name="echo",status="OK"} 1',
        ':tensorflow:serving:request_count{model_name="echo",status="INVALID_ARGUMENT"} 1',
        ':tensorflow:serving:request_count{model_name="m",status="OK"} 2',
        ':tensorflow:serving:request_count{model_name="m",status="INVALID_ARGUMENT"} 1',
        ':tensorflow:serving:request_count{model_name="x",status="NOT_FOUND"} 1',
        ':tensorflow:serving:request_latency_count{model_name="echo",API="Classify",entrypoint="GRPC"} 1',
        ':tensorflow:serving:request_latency_count{model_name="m",API="predict",entrypoint="REST"} 1',
        ':tensorflow:serving:request_example_count_total{model="echo"} 3',
        ':tensorflow:serving:request_example_count_total{model="m"} 2',
        ':kerasllm:serving:requests_in_flight{entrypoint="GRPC"} 0',
        ':kerasllm:serving:requests_queued{entrypoint="REST"} 0',
    ]
    assert [line for line in expected if line not in text.splitlines()] == []


def test_what_runs_and_what_waits_for_a_thread_is_told(core):
    with Service(core, timeout_s=None, num_threads=1, metrics_path="/metrics") as busy:
        free = threading.Event()
        busy.server._pool.submit(free.wait)
        client = threading.Thread(target=busy.predict, args=({"instances": [2.0]},))
        client.start()
        told = {f':kerasllm:serving:requests_{state}{{entrypoint="REST"}} 1' for state in ("in_flight", "queued")}
        while not told <= set(busy.get("/metrics")[1].splitlines()):
            pass
        free.set()
        client.join()
        told = {f':kerasllm:serving:requests_{state}{{entrypoint="REST"}} 0' for state in ("in_flight", "queued")}
        assert told <= set(busy.get("/metrics")[1].splitlines())


def test_without_a_configuration_there_is_no_page(service):
    assert service.get("/monitoring/prometheus/metrics")[0] == 404


def test_a_taken_port_is_told(service, core):
    from kerasllm.errors import ServingError
    from serving.server.rest import RestApi
    from serving.server.rest_server import RestOptions, RestServer

    with pytest.raises(ServingError, match=r"Choose another --rest_api_port\."):
        RestServer(RestApi(core), "127.0.0.1", service.server.port, RestOptions())


def test_closing_lets_running_requests_end(core):
    running, answers = Service(core, timeout_s=1.0), []
    body = {"signature_name": "spin", "instances": [0.001]}
    client = threading.Thread(target=lambda: answers.append(running.predict(body, "echo")[0]))
    client.start()
    while not core._models.versions("echo")[0].users:
        pass
    running.server.close()
    client.join()
    assert answers == [504]


# The process


@pytest.mark.slow
def test_the_flags_open_the_api_and_its_metrics_and_a_signal_ends_both(core, tmp_path):
    base = next(iter(core._models._models.values())).config.base_path
    config = tmp_path / "monitoring.config"
    config.write_text('prometheus_config: { enable: true, path: "/metrics" }')
    command = [sys.executable, "-m", "serving.server", "--port=0", "--rest_api_port=-1", "--model_name=m"]
    command += [f"--model_base_path={base}", f"--monitoring_config_file={config}", "--rest_api_list_models"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        lines = [process.stdout.readline() for _ in range(2)]
        assert lines[1].startswith("Exporting HTTP/REST API at:127.0.0.1:"), lines
        address = lines[1].split(":", 1)[1].split()[0]
        connection = http.client.HTTPConnection(address, timeout=60)
        for path, part in (
            ("/v1/models", b'"name": "m"'),
            ("/metrics", b':request_count{model_name="",status="OK"} 1'),
        ):
            connection.request("GET", path)
            assert part in connection.getresponse().read()
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


# Clients that do harm


def test_bodies_that_are_too_large_are_refused_packed_or_not(core):
    with Service(core, max_body_bytes=1000) as small:
        code, text = small.predict('{"instances": [1' + " " * 2000 + "]}")
        assert (code, "larger than 1000 bytes" in text) == (413, True)
        bomb = gzip.compress(b" " * 10**5)
        assert len(bomb) < 1000
        code, text, _ = small.ask("POST", "/v1/models/m:predict", bomb, Content_Encoding="gzip")
        assert (code, "larger than 1000 bytes" in text) == (400, True)
        assert small.predict({"instances": [2.0]})[0] == 200


def test_a_client_that_sends_too_slowly_is_let_go_and_holds_up_nobody(core):
    with Service(core, timeout_s=0.5, num_threads=1) as running:
        head = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{"
        with socket.create_connection(("127.0.0.1", running.server.port), timeout=60) as slow:
            slow.sendall(head)
            assert running.predict({"instances": [2.0]})[0] == 200
            assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "content",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"POST /v1/models/m:predict HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/models/m:predict HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"\r\n\r\n\r\n nonsense \x00\xff\r\n\r\n",
    ],
    ids=["tls", "negative-length", "bad-chunk", "long-path", "nonsense"],
)
def test_what_is_not_http_is_refused_and_the_server_goes_on(service, content):
    assert service.send(content).startswith(b"HTTP/1.")
    assert service.predict({"instances": [2.0]})[0] == 200


_PARTS = ["/v1/models", "/m", "/echo", "/versions/", "123", "/labels/", "l", ":predict", ":classify", "/metadata"]
_PARTS += ["%", "%ff", "%00", "..", "//", "?a=b", "9" * 20]
_BODIES = st.dictionaries(
    st.sampled_from(["instances", "inputs", "examples", "context", "signature_name"]),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | st.sampled_from(["named", "labels", "int8"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "a", "b64"]), inner),
        max_leaves=6,
    ),
)


@settings(max_examples=300, deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "POST", "POST", "PUT", "OPTIONS"]),
    path=st.lists(st.sampled_from(_PARTS), max_size=5).map(lambda parts: "/v1/models" + "".join(parts)),
    body=_BODIES.map(json.dumps).map(str.encode) | st.binary(max_size=50),
    is_sound_path=st.booleans(),
)
def test_no_path_and_no_body_make_the_server_fail(service, method, path, body, is_sound_path):
    if is_sound_path:
        method, path = "POST", "/v1/models/echo:predict"
    code, _, _ = service.ask(method, path, body)
    assert code in (200, 400, 404, 501)


@pytest.mark.parametrize("depth", [300, 600, 900, 5000, 200_000])
def test_deeply_nested_bodies_are_refused(service, depth):
    for opened, closed in (("[", "]"), ('{"a":', "}")):
        for body in (f'{{"instances": {opened * depth}1{closed * depth}}}', f'{{"instances": {opened * depth}'):
            code, text = service.predict(body)
            assert (code, list(json.loads(text))) == (400, ["error"])


@pytest.mark.parametrize("number", ["1" * 5000, "1e400", "-1e999999999", "0." + "0" * 5000 + "1", "1" * 400 + ".5"])
def test_huge_numbers_are_refused_or_computed(service, number):
    code, text = service.predict(f'{{"instances": [{number}]}}')
    message = "JSON Parse error: Number too big to be stored in double. at offset: 15"
    assert (code, text) == (_complaint(message) if number[1] != "." else (200, '{\n    "predictions": [2.0\n    ]\n}'))
