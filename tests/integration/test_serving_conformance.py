"""Does the embedded server answer as TensorFlow Serving does? [n]: number in the project's protocol checklist."""

import os
from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.integration.small_models import write_half_plus_two

VERSION = 123


def _write_echo(directory):
    """A version-2 model: one echo signature per data type, a long loop, and a matrix product."""
    import tensorflow as tf

    module, signatures = tf.Module(), {}
    for kind in ECHOED:
        function = tf.function(lambda x: {"y": tf.identity(x)})
        signatures[f"echo_{kind}"] = function.get_concrete_function(x=tf.TensorSpec([None], tf.as_dtype(kind)))

    def spin(x):
        matrix = tf.fill([200, 200], x[0])
        return {"y": tf.while_loop(lambda i, m: i < 10**7, lambda i, m: (i + 1, tf.tanh(m @ m)), [0, matrix])[1]}

    def describe(inputs):
        rows = tf.size(inputs)
        return {"classes": tf.fill([rows, 2], "yes"), "scores": tf.fill([rows, 2], 0.25)}

    signatures["spin"] = tf.function(spin).get_concrete_function(x=tf.TensorSpec([None], tf.float32))
    signatures["describe"] = tf.function(describe).get_concrete_function(inputs=tf.TensorSpec([None], tf.string))
    signatures["two"] = tf.function(lambda a, b: {"sum": a + b, "product": a * b}).get_concrete_function(
        a=tf.TensorSpec([None], tf.float32), b=tf.TensorSpec([None], tf.float32)
    )
    tf.saved_model.save(module, str(directory), signatures=signatures)
    _give_default(directory / "saved_model.pb", "two", "b", [4.0])


def _give_default(path, signature, name, value):
    """Writes a default of an input into a saved model, as converters do; tf.saved_model.save has no word for it."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    saved.meta_graphs[0].signature_def[signature].defaults[name].CopyFrom(tf.make_tensor_proto(value, tf.float32))
    path.write_bytes(saved.SerializeToString())


ECHOED = ["float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64"]
ECHOED += ["uint8", "uint16", "uint32", "uint64", "bool", "string", "complex64"]


def _stock_testdata():
    """The reference models of TensorFlow Serving, if this machine has them."""
    if "KERASLLM_TFS_TESTDATA" in os.environ:
        return Path(os.environ["KERASLLM_TFS_TESTDATA"])
    if "KERASLLM_DATA" in os.environ:
        return Path(os.environ["KERASLLM_DATA"]).absolute().parent / "tfs_testdata"
    return None


class Service:
    """A running server in this process and the stubs to call it."""

    def __init__(self, configs):
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        from serving.server.core import ServerCore
        from serving.server.services import start_server
        from serving.server.versions import ModelConfig, Models

        self.models = Models([ModelConfig(name, path) for name, path in configs])
        self.models.start(0)
        self.core = ServerCore(self.models)
        self.server, port = start_server(self.core, "127.0.0.1", 0, 4)
        unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=unlimited)
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def close(self):
        self.channel.close()
        self.server.stop(None).wait()
        self.models.close()


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    base = tmp_path_factory.mktemp("models")
    write_half_plus_two(base / "half" / "00000123")
    _write_echo(base / "echo" / "1")
    service = Service([("m", base / "half"), ("echo", base / "echo")])
    service.base = base
    yield service
    service.close()


@pytest.fixture(scope="module")
def stock():
    testdata = _stock_testdata()
    if testdata is None or not testdata.is_dir():
        pytest.skip("needs TensorFlow Serving's test models: set KERASLLM_TFS_TESTDATA to their folder")
    service = Service(
        [
            ("m", testdata / "saved_model_half_plus_two_cpu"),
            ("tf2", testdata / "saved_model_half_plus_two_tf2_cpu"),
            ("three", testdata / "saved_model_half_plus_three"),
        ]
    )
    yield service
    service.close()


@pytest.fixture(params=["own", "stock"])
def service(request):
    return request.getfixturevalue(request.param)


def _request(model="m", signature="", **inputs):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        if isinstance(value, tf.make_tensor_proto(0).__class__):
            request.inputs[name].CopyFrom(value)
        else:
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def _floats(values, shape):
    from tensorflow.core.framework import tensor_pb2

    proto = tensor_pb2.TensorProto(dtype=1, float_val=values)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_shape.SetInParent()
    return proto


def _refused(call, request, **arguments):
    """The code's name and the text of a call that has to fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, **arguments)
    return caught.value.code().name, caught.value.details()


def _example(x):
    import tensorflow as tf

    feature = tf.train.Feature(float_list=tf.train.FloatList(value=[x]))
    return tf.train.Example(features=tf.train.Features(feature={"x": feature}))


# Predict: which model


def test_a_request_without_model_spec_is_refused(service):  # [1]
    from tensorflow_serving.apis import predict_pb2

    refused = _refused(service.prediction.Predict, predict_pb2.PredictRequest())
    assert refused == ("INVALID_ARGUMENT", "Missing ModelSpec")


def test_a_model_spec_without_name_is_refused(service):  # [2]
    request = _request(model="", x=[2.0])
    refused = _refused(service.prediction.Predict, request)
    assert refused == ("INVALID_ARGUMENT", "ModelSpec has no name specified.")


def test_an_unknown_model_is_not_found(service):  # [3]
    refused = _refused(service.prediction.Predict, _request(model="x"))
    assert refused == ("NOT_FOUND", "Servable not found for request: Latest(x)")


def test_an_unknown_version_is_not_found(service):  # [4]
    request = _request(x=[2.0])
    request.model_spec.version.value = 7
    refused = _refused(service.prediction.Predict, request)
    assert refused == ("NOT_FOUND", "Servable not found for request: Specific(m, 7)")


def test_an_unknown_label_is_refused(service):  # [5]
    request = _request(x=[2.0])
    request.model_spec.version_label = "l"
    refused = _refused(service.prediction.Predict, request)
    assert refused == ("INVALID_ARGUMENT", "Unrecognized servable version label: l")


def test_the_servable_is_looked_for_before_the_signature_and_the_inputs(service):
    assert _refused(service.prediction.Predict, _request(model="x", signature="s"))[0] == "NOT_FOUND"
    assert _refused(service.prediction.Predict, _request(signature="s"))[0] == "FAILED_PRECONDITION"


# Predict: which signature and which tensors


def test_an_unknown_signature_is_a_failed_precondition(service):  # [7]
    refused = _refused(service.prediction.Predict, _request(signature="s", x=[2.0]))
    assert refused == ("FAILED_PRECONDITION", 'Serving signature key "s" not found.')


def test_no_inputs_are_refused(service):  # [8]
    refused = _refused(service.prediction.Predict, _request())
    assert refused == (
        "INVALID_ARGUMENT",
        "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
    )


def test_an_extra_input_is_refused(service):  # [9]
    refused = _refused(service.prediction.Predict, _request(z=[1.0], x=[2.0]))
    assert refused == (
        "INVALID_ARGUMENT",
        "input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent extra: {z}. Missing but required: {}.",
    )


def test_a_wrongly_named_input_is_refused(service):  # [10]
    refused = _refused(service.prediction.Predict, _request(z=[1.0]))
    assert refused == (
        "INVALID_ARGUMENT",
        "Signature input alias: x(feed name: x:0) not found in request and no default value provided. "
        "Inputs expected to be in the request {z}, or default input alias set: ",
    )


def test_a_wrong_type_is_refused_with_the_sessions_text(service):  # [11]
    refused = _refused(service.prediction.Predict, _request(x=[1]))
    assert refused == ("INVALID_ARGUMENT", "Expects arg[0] to be float but int32 is provided")


@pytest.mark.parametrize("shape", [[], [2], [1, 1, 1], [0], [3, 1]])
def test_shapes_other_than_the_signatures_are_computed(service, shape):  # [12]
    output = service.prediction.Predict(_request(x=np.full(shape, 1.0, np.float32))).outputs["y"]
    assert [dim.size for dim in output.tensor_shape.dim] == shape
    assert list(output.float_val) == [2.5] * int(np.prod(shape))


def test_broken_tensors_are_refused(service):  # [13]
    negative = _floats([1.0], [-1])
    cut = _floats([], [2])
    cut.tensor_content = b"\0\0\0"
    unknown = _floats([1.0], [])
    unknown.tensor_shape.unknown_rank = True
    for proto in (negative, cut, unknown):
        refused = _refused(service.prediction.Predict, _request(x=proto))
        assert refused == ("INVALID_ARGUMENT", "tensor parsing error: x")


@pytest.mark.parametrize(
    ("values", "computed"), [([2, 4, 6, 8], [3, 4]), ([2], [3, 3]), ([], [2, 2])], ids=["surplus", "short", "none"]
)
def test_value_lists_of_other_lengths_are_cut_repeated_or_zeros(service, values, computed):  # [13]
    response = service.prediction.Predict(_request(x=_floats(values, [2])))
    assert list(response.outputs["y"].float_val) == computed


def test_an_output_filter_chooses_outputs(own):  # [14]
    request = _request("echo", "two", a=[3.0], b=[4.0])
    assert set(own.prediction.Predict(request).outputs) == {"sum", "product"}
    request.output_filter.append("product")
    response = own.prediction.Predict(request)
    assert set(response.outputs) == {"product"}
    assert list(response.outputs["product"].float_val) == [12.0]


def test_an_output_filter_with_unknown_or_repeated_names_is_refused(service):  # [14]
    request = _request(x=[1.0])
    request.output_filter.append("q")
    refused = _refused(service.prediction.Predict, request)
    message = "output tensor alias not found in signature: q Outputs expected to be in the set {y}."
    assert refused == ("INVALID_ARGUMENT", message)
    request.output_filter[:] = ["y", "y"]
    refused = _refused(service.prediction.Predict, request)
    assert refused == ("INVALID_ARGUMENT", "duplicate output tensor alias: y")


def test_the_answer_names_model_version_and_resolved_signature(service):  # [15]
    spec = service.prediction.Predict(_request(x=[2.0])).model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("m", VERSION, "serving_default")
    assert not spec.HasField("version_label")


@pytest.mark.parametrize("kind", ECHOED)
def test_every_data_type_comes_back_in_typed_fields(own, kind):  # [16]
    import tensorflow as tf

    dtype = tf.as_dtype(kind)
    values = np.array([b"\xff", b"", b"abc"] if kind == "string" else [1, 0, 1], dtype.as_numpy_dtype)
    for proto in (tf.make_tensor_proto(values), _typed(values)):
        output = own.prediction.Predict(_request("echo", f"echo_{kind}", x=proto)).outputs["y"]
        assert output.tensor_content == b""
        assert output.dtype == dtype.as_datatype_enum
        np.testing.assert_array_equal(tf.make_ndarray(output), values)


def _typed(values):
    from tensorflow.core.framework import tensor_pb2

    from serving.server import tensors

    proto = tensor_pb2.TensorProto()
    tensors.encode(values, proto)
    return proto


def test_strings_may_come_as_tensor_content(own):  # [16]
    from tensorflow.core.framework import tensor_pb2

    proto = tensor_pb2.TensorProto(dtype=7, tensor_content=b"\x02\x00\x03abcde")  # lengths 2, 0, 3, then the bytes
    proto.tensor_shape.dim.add(size=3)
    output = own.prediction.Predict(_request("echo", "echo_string", x=proto)).outputs["y"]
    assert list(output.string_val) == [b"ab", b"", b"cde"]
    proto.tensor_content = b"\x02\x00\x04abcde"
    assert _refused(own.prediction.Predict, _request("echo", "echo_string", x=proto))[1] == "tensor parsing error: x"


def test_messages_above_four_megabytes_pass_both_ways(service):  # [17]
    output = service.prediction.Predict(_request(x=np.full([2_000_000], 2.0, np.float32))).outputs["y"]
    assert len(output.float_val) == 2_000_000
    assert output.float_val[-1] == 3.0


def test_long_error_texts_are_cut(service):  # [18]
    _, text = _refused(service.prediction.Predict, _request(signature="s" * 3000, x=[2.0]))
    assert len(text) == 1024 + len("...TRUNCATED")
    assert text.endswith("s...TRUNCATED")


def test_a_missing_input_has_the_default_of_its_signature(own):  # [19]
    outputs = own.prediction.Predict(_request("echo", "two", a=[3.0])).outputs
    assert list(outputs["product"].float_val) == [12.0]
    outputs = own.prediction.Predict(_request("echo", "two", a=[3.0], b=[5.0])).outputs
    assert list(outputs["product"].float_val) == [15.0]


def test_a_reference_model_whose_inputs_all_have_defaults_answers_an_empty_request(stock):  # [19]
    assert list(stock.prediction.Predict(_request("tf2")).outputs["y"].float_val) == [2.0]


def test_with_defaults_a_wrong_name_among_few_inputs_is_named(stock):
    assert "Inputs contains invalid name" in _refused(stock.prediction.Predict, _request("tf2", z=[1.0]))[1]


def test_a_run_longer_than_the_deadline_ends_on_the_server_too(own):  # [20]
    from serving.server.status import Code, StatusError

    with pytest.raises(StatusError) as caught:
        own.core.predict(_request("echo", "spin", x=[0.001]), timeout_s=0.3)
    assert caught.value.code == Code.DEADLINE_EXCEEDED
    assert caught.value.message == "Timed out waiting for notification"
    refused = _refused(own.prediction.Predict, _request("echo", "spin", x=[0.001]), timeout=0.3)
    assert refused[0] == "DEADLINE_EXCEEDED"
    assert list(own.prediction.Predict(_request(x=[2.0])).outputs["y"].float_val) == [3.0]


def test_models_that_only_the_version_1_loader_reads_are_served(stock):
    assert list(stock.prediction.Predict(_request("three", x=[2.0])).outputs["y"].float_val) == [4.0]


# Classify and Regress


def _classification(model="m", signature="classify_x_to_y", values=(2.0,)):
    from tensorflow_serving.apis import classification_pb2

    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    request.input.example_list.examples.extend(_example(value) for value in values)
    return request


def _regression(values=(2.0,), signature="regress_x_to_y"):
    from tensorflow_serving.apis import regression_pb2

    request = regression_pb2.RegressionRequest()
    request.model_spec.name, request.model_spec.signature_name = "m", signature
    request.input.example_list.examples.extend(_example(value) for value in values)
    return request


def test_classify_answers_one_list_of_classes_per_example(service):
    response = service.prediction.Classify(_classification(values=(2.0, 20.0)))
    assert [[c.score for c in row.classes] for row in response.result.classifications] == [[3.0], [12.0]]
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("m", VERSION, "classify_x_to_y")


def test_classify_puts_labels_beside_scores(own):
    response = own.prediction.Classify(_classification("echo", "describe"))
    classes = response.result.classifications[0].classes
    assert [(c.label, c.score) for c in classes] == [("yes", 0.25)] * 2


def test_regress_answers_one_number_per_example(service):
    response = service.prediction.Regress(_regression((2.0, 20.0)))
    assert [r.value for r in response.result.regressions] == [3.0, 12.0]


def test_a_context_is_shared_by_all_examples(service):
    import tensorflow as tf

    request = _regression(())
    listed = request.input.example_list_with_context
    listed.context.CopyFrom(_example(2.0))
    listed.examples.extend([tf.train.Example(), _example(20.0)])
    response = service.prediction.Regress(request)
    assert [r.value for r in response.result.regressions] == [3.0, 12.0]


def test_classify_and_regress_refuse_unknown_signatures(service):  # [22]
    refused = ("INVALID_ARGUMENT", "No signature was found with the name: s")
    assert _refused(service.prediction.Classify, _classification(signature="s")) == refused
    assert _refused(service.prediction.Regress, _regression(signature="s")) == refused


def test_classify_and_regress_refuse_no_examples(service):  # [23]
    assert _refused(service.prediction.Classify, _classification(values=())) == ("INVALID_ARGUMENT", "Input is empty.")
    assert _refused(service.prediction.Regress, _regression(())) == ("INVALID_ARGUMENT", "Input is empty.")


def test_a_signature_that_does_not_take_examples_is_refused(service):
    code, text = _refused(service.prediction.Classify, _classification(signature="serving_default"))
    assert code == "INVALID_ARGUMENT"
    assert text.startswith("No classification inputs found in SignatureDef: ")


def test_an_example_without_the_feature_is_refused(service):
    import tensorflow as tf

    request = _regression(())
    request.input.example_list.examples.append(tf.train.Example())
    code, text = _refused(service.prediction.Regress, request)
    assert code == "INVALID_ARGUMENT"
    assert "Feature: x (data type: float) is required but could not be found." in text


# GetModelMetadata and GetModelStatus


def _metadata(model="m", fields=("signature_def",)):
    from tensorflow_serving.apis import get_model_metadata_pb2

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = model
    return request


def test_metadata_wants_a_known_field_before_it_looks_for_the_model(service):  # [25]
    refused = _refused(service.prediction.GetModelMetadata, _metadata("x", ()))
    assert refused == ("INVALID_ARGUMENT", "GetModelMetadataRequest must specify at least one metadata_field")
    refused = _refused(service.prediction.GetModelMetadata, _metadata("x", ("f",)))
    assert refused == ("INVALID_ARGUMENT", "Metadata field f is not supported")
    assert _refused(service.prediction.GetModelMetadata, _metadata("x"))[0] == "NOT_FOUND"


def test_metadata_tells_all_signatures(service):  # [25]
    from tensorflow_serving.apis import get_model_metadata_pb2

    response = service.prediction.GetModelMetadata(_metadata())
    assert response.metadata["signature_def"].type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["serving_default"].inputs["x"].name == "x:0"
    assert {"classify_x_to_y", "regress_x_to_y"} <= set(signatures.signature_def)
    assert (response.model_spec.version.value, response.model_spec.signature_name) == (VERSION, "")


def test_metadata_of_version_2_models_lists_the_initialiser(own):  # [25]
    from tensorflow_serving.apis import get_model_metadata_pb2

    signatures = get_model_metadata_pb2.SignatureDefMap()
    own.prediction.GetModelMetadata(_metadata("echo")).metadata["signature_def"].Unpack(signatures)
    assert "__saved_model_init_op" in signatures.signature_def


def _status(model="m", version=None, label=""):
    from tensorflow_serving.apis import get_model_status_pb2

    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = model
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    return request


def test_status_tells_the_versions_and_ignores_a_label(service):  # [26]
    for request in (_status(), _status(version=VERSION), _status(label="l")):
        found = service.model.GetModelStatus(request).model_version_status
        assert [(f.version, f.state, f.status.error_code) for f in found] == [(VERSION, 30, 0)]
        assert found[0].HasField("status")


def test_status_of_what_is_not_there_is_not_found(service):  # [26]
    from tensorflow_serving.apis import get_model_status_pb2

    call = service.model.GetModelStatus
    assert _refused(call, _status("x")) == ("NOT_FOUND", "Could not find any versions of model x")
    assert _refused(call, _status(version=7)) == ("NOT_FOUND", "Could not find version 7 of model m")
    empty = get_model_status_pb2.GetModelStatusRequest()
    assert _refused(call, empty) == ("INVALID_ARGUMENT", "Missing ModelSpec")


def test_status_of_a_failed_load_has_its_error_once_it_is_given_up(own, tmp_path):  # [26]
    from serving.server.core import ServerCore
    from serving.server.versions import LoadPolicy, ModelConfig, Models

    (tmp_path / "1").symlink_to(own.base / "half" / "00000123")
    (tmp_path / "2").mkdir()
    for max_retries, state, code in ((5, 20, 0), (0, 50, 5)):  # LOADING while attempts are left, then END
        policy = LoadPolicy(max_retries=max_retries, rest_seconds=0)
        models = Models([ModelConfig("m", tmp_path, latest=2)], policy=policy)
        models.poll()
        found = ServerCore(models).status(_status()).model_version_status
        assert [(f.version, f.state, f.status.error_code) for f in found] == [(2, state, code), (1, 30, 0)]
        assert found[0].status.error_message.startswith("Could not find SavedModel .pb") == bool(code)
        models.close()


# MultiInference


CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def _inference(*tasks, values=(2.0,)):
    """A request of (model, signature, method) tasks."""
    from tensorflow_serving.apis import inference_pb2

    request = inference_pb2.MultiInferenceRequest()
    for model, signature, method in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = model, signature
    request.input.example_list.examples.extend(_example(value) for value in values)
    return request


def test_multi_inference_answers_each_head_in_the_order_of_the_tasks(service):  # [21]
    tasks = [("m", "regress_x_to_y", REGRESS), ("m", "classify_x_to_y", CLASSIFY)]
    results = service.prediction.MultiInference(_inference(*tasks, values=(2.0, 20.0))).results
    assert [r.value for r in results[0].regression_result.regressions] == [3.0, 12.0]
    assert [[c.score for c in row.classes] for row in results[1].classification_result.classifications] == [[3], [12]]
    specs = [(r.model_spec.name, r.model_spec.version.value, r.model_spec.signature_name) for r in results]
    assert specs == [("m", VERSION, "regress_x_to_y"), ("m", VERSION, "classify_x_to_y")]


@pytest.mark.parametrize(
    ("tasks", "code", "text"),
    [
        ([], "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        ([("x", "s", CLASSIFY)], "NOT_FOUND", "Servable not found for request: Latest(x)"),
        (
            [("m", "classify_x_to_y", CLASSIFY), ("", "regress_x_to_y", REGRESS)],
            "INVALID_ARGUMENT",
            "Found ModelSpec with an empty model name.",
        ),
        (
            [("m", "classify_x_to_y", CLASSIFY), ("echo", "regress_x_to_y", REGRESS)],
            "INVALID_ARGUMENT",
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ),
        (
            [("m", "classify_x_to_y", CLASSIFY)] * 2,
            "INVALID_ARGUMENT",
            "Duplicate evaluation of signature: classify_x_to_y",
        ),
        ([("m", "s", CLASSIFY)], "INVALID_ARGUMENT", "Requested signature not found in model graph: s"),
        (
            [("m", "classify_x_to_y", "tensorflow/serving/predict")],
            "UNIMPLEMENTED",
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
    ],
)
def test_multi_inference_refuses_tasks_that_do_not_go_together(service, tasks, code, text):  # [24]
    assert _refused(service.prediction.MultiInference, _inference(*tasks)) == (code, text)


def test_multi_inference_refuses_no_examples(service):  # [23]
    request = _inference(("m", "classify_x_to_y", CLASSIFY), values=())
    assert _refused(service.prediction.MultiInference, request) == ("INVALID_ARGUMENT", "Input is empty.")


# HandleReloadConfigRequest and version labels


def _reload(*models, metric_names=()):
    """A request for (name, folder, labels) models, all of their versions."""
    from tensorflow_serving.apis import model_management_pb2

    request = model_management_pb2.ReloadConfigRequest(metric_names=metric_names)
    request.config.model_config_list.SetInParent()
    for name, path, labels in models:
        config = request.config.model_config_list.config.add(name=name, base_path=str(path))
        config.model_platform = "tensorflow"
        config.model_version_policy.all.SetInParent()
        config.version_labels.update(labels)
    return request


@pytest.fixture
def reloaded(tmp_path, own):
    """A server of its own with one model; `own` for its models' folders."""
    (tmp_path / "m").mkdir()
    half = own.base / "half" / "00000123"
    for number in ("1", "2"):
        (tmp_path / "m" / number).symlink_to(half)
    service = Service([("m", tmp_path / "m")])
    yield service, tmp_path
    service.close()


def test_a_reload_replaces_the_models(reloaded):  # [27]
    service, base = reloaded
    other = base / "other"
    (base / "m").rename(other)
    wanted = "/tensorflow/cc/saved_model/load_attempt_count"
    request = _reload(("n", other, {}), metric_names=[wanted, "/unknown"])
    response = service.model.HandleReloadConfigRequest(request)
    assert response.HasField("status")
    assert response.status.error_code == 0
    assert [(m.name, m.int64_value_increase) for m in response.metric] == [(wanted, 2), ("/unknown", 0)]
    assert list(service.prediction.Predict(_request("n", x=[2.0])).outputs["y"].float_val) == [3.0]
    assert _refused(service.prediction.Predict, _request(x=[2.0]))[0] == "NOT_FOUND"
    assert [v.state for v in service.model.GetModelStatus(_status("m")).model_version_status] == [50]
    service.model.HandleReloadConfigRequest(_reload())
    assert _refused(service.prediction.Predict, _request("n", x=[2.0]))[0] == "NOT_FOUND"


def test_labels_come_with_a_reload(reloaded):  # [6] [27]
    service, base = reloaded
    service.model.HandleReloadConfigRequest(_reload(("m", base / "m", {})))
    while [v.state for v in service.models.versions("m")] != [30, 30]:
        service.models.poll()
    service.model.HandleReloadConfigRequest(_reload(("m", base / "m", {"stable": 1, "canary": 2})))
    for label, version in (("stable", 1), ("canary", 2)):
        request = _request(x=[2.0])
        request.model_spec.version_label = label
        spec = service.prediction.Predict(request).model_spec
        assert (spec.version.value, spec.HasField("version_label")) == (version, False)
    refused = _refused(service.model.HandleReloadConfigRequest, _reload(("m", base / "m", {"stable": 3})))
    text = "Request to assign label to version 3 of model m, which is not currently available for inference"
    assert refused == ("FAILED_PRECONDITION", text)


def test_a_reload_refuses_what_the_stock_server_refuses(own):  # [27]
    from tensorflow_serving.apis import model_management_pb2

    call = own.model.HandleReloadConfigRequest
    unset = "ServerModelConfig type not supported by HandleReloadConfigRequest. "
    unset += "Only ModelConfigList is currently supported"
    assert _refused(call, model_management_pb2.ReloadConfigRequest()) == ("INVALID_ARGUMENT", unset)
    listed = "Illegal to list model a multiple times in config list"
    assert _refused(call, _reload(("a", "/a", {}), ("a", "/a", {}))) == ("INVALID_ARGUMENT", listed)
    relative = "Expected model a to have an absolute path or URI; got base_path()=a"
    assert _refused(call, _reload(("a", "a", {}))) == ("INVALID_ARGUMENT", relative)
    request = _reload(("m", "/m", {}))
    request.config.model_config_list.config[0].model_platform = "jax"
    changed = "Illegal to change a model's platform. For model m platform was tensorflow and new platform requested "
    assert _refused(call, request) == ("INVALID_ARGUMENT", f"{changed}is jax")
    request.config.model_config_list.config[0].model_platform = ""
    assert _refused(call, request)[1].startswith("Illegal setting neither ModelServerConfig::model_type (deprecated)")
    logged = _reload(("m", "/m", {}))
    logged.config.model_config_list.config[0].logging_config.SetInParent()
    assert _refused(call, logged) == ("INVALID_ARGUMENT", "No request-logger-creator provided.")
    assert list(own.prediction.Predict(_request(x=[2.0])).outputs["y"].float_val) == [3.0]


def test_answers_can_be_packed_as_tensor_content(own):
    import tensorflow as tf

    from serving.server.core import ServerCore

    core = ServerCore(own.models, is_tensor_content=True)
    for kind in ECHOED:
        values = np.array(
            [b"\xff" * 300, b"", b"abc"] if kind == "string" else [1, 0, 1], tf.as_dtype(kind).as_numpy_dtype
        )
        output = core.predict(_request("echo", f"echo_{kind}", x=values), None).outputs["y"]
        assert output.tensor_content
        np.testing.assert_array_equal(tf.io.parse_tensor(output.SerializeToString(), kind).numpy(), values)


def test_method_names_are_checked_when_asked_to(own):
    from serving.server.core import ServerCore
    from serving.server.status import StatusError

    core = ServerCore(own.models, is_method_checked=True)
    core.predict(_request(x=[2.0]), None)
    with pytest.raises(StatusError, match="method_name to be tensorflow/serving/classify. Was: tensorflow/serving/pre"):
        core.classify(_classification(), None)
    with pytest.raises(StatusError, match="method_name to be tensorflow/serving/regress. Was: tensorflow/serving/pre"):
        core.regress(_regression(), None)


# What is not offered


def test_session_run_is_unimplemented(own):  # [28]
    from tensorflow_serving.apis import session_service_pb2

    session_run = own.channel.unary_unary(
        "/tensorflow.serving.SessionService/SessionRun",
        request_serializer=session_service_pb2.SessionRunRequest.SerializeToString,
        response_deserializer=session_service_pb2.SessionRunResponse.FromString,
    )
    assert _refused(session_run, session_service_pb2.SessionRunRequest())[0] == "UNIMPLEMENTED"
