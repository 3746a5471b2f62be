"""Does the client without TensorFlow speak TensorFlow Serving's wire format?"""

import subprocess
import sys

import numpy as np
import pytest

from kerasllm.errors import InvalidRequest
from serving.clients import arrays, messages

ARRAYS = [
    np.array([[1.5, -2.0]], np.float32),
    np.array([1e300], np.float64),
    np.array([1, -1], np.float16),
    np.array(-3, np.int8),
    np.array([-300], np.int16),
    np.array([2**31 - 1], np.int32),
    np.array([-(2**62)], np.int64),
    np.array([255], np.uint8),
    np.array([65535], np.uint16),
    np.array([2**32 - 1], np.uint32),
    np.array([2**64 - 1], np.uint64),
    np.array([True, False]),
    np.array([1 + 2j], np.complex64),
    np.array([1 + 2j], np.complex128),
    np.zeros([0, 3], np.float32),
]


def _name(array):
    return str(array.dtype)


@pytest.mark.parametrize("array", ARRAYS, ids=_name)
def test_tensorflow_reads_the_arrays_that_the_client_writes(array):
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    proto = tensor_pb2.TensorProto.FromString(arrays.to_proto(array).SerializeToString())
    read = tf.make_ndarray(proto)
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("array", ARRAYS, ids=_name)
def test_the_client_reads_what_tensorflow_writes_as_content(array):
    import tensorflow as tf

    proto = messages.TensorProto.FromString(tf.make_tensor_proto(array).SerializeToString())
    np.testing.assert_array_equal(arrays.to_array(proto), array)


@pytest.mark.parametrize("array", ARRAYS, ids=_name)
def test_the_client_reads_the_typed_values_that_servers_write(array):
    from tensorflow.core.framework import tensor_pb2

    from serving.server import tensors

    proto = tensor_pb2.TensorProto()
    tensors.encode(array, proto)
    read = arrays.to_array(messages.TensorProto.FromString(proto.SerializeToString()))
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


def test_texts_travel_as_utf8_with_closing_null_bytes():
    proto = arrays.to_proto(["净利", "a\x00", ""])
    assert list(proto.string_val) == ["净利".encode(), b"a\x00", b""]
    assert arrays.to_array(proto).tolist() == ["净利".encode(), b"a\x00", b""]


def test_lists_of_numbers_are_float32_or_int32():
    assert arrays.to_array(arrays.to_proto([0.5])).dtype == np.float32
    assert arrays.to_array(arrays.to_proto([[1], [2]])).dtype == np.int32


def test_one_value_stands_for_all_that_follow():
    proto = messages.TensorProto(dtype=1, float_val=[2.5])
    proto.tensor_shape.dim.add(size=3)
    assert arrays.to_array(proto).tolist() == [2.5, 2.5, 2.5]


def test_bfloat16_is_read_as_float32():
    proto = messages.TensorProto(dtype=14, half_val=[0x3FC0])  # sign 0, exponent 127, fraction 1000000: 1.5
    proto.tensor_shape.dim.add(size=1)
    assert arrays.to_array(proto).tolist() == [1.5]


def test_values_that_no_tensor_holds_are_refused():
    with pytest.raises(InvalidRequest, match="datetime64"):
        arrays.to_proto(np.array(["2020-01-01"], "datetime64[D]"))
    with pytest.raises(InvalidRequest, match="neither text nor bytes"):
        arrays.to_proto([None])


def test_a_request_is_byte_for_byte_tensorflow_servings():
    from tensorflow_serving.apis import predict_pb2

    request = messages.PredictRequest()
    request.model_spec.name = "sentiment"
    request.model_spec.version.value = 3
    request.model_spec.signature_name = "serving_default"
    request.inputs["text"].CopyFrom(arrays.to_proto(["a"]))
    request.output_filter.append("label")
    theirs = predict_pb2.PredictRequest.FromString(request.SerializeToString())
    assert theirs.model_spec.name == "sentiment"
    assert theirs.model_spec.version.value == 3
    assert theirs.inputs["text"].string_val == [b"a"]
    assert theirs.SerializeToString(deterministic=True) == request.SerializeToString(deterministic=True)


def test_all_declared_fields_have_tensorflow_servings_names_and_numbers():
    from tensorflow.core.framework import tensor_pb2
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        predict_pb2,
    )

    for ours, theirs in [
        (messages.TensorProto, tensor_pb2.TensorProto),
        (messages.PredictRequest, predict_pb2.PredictRequest),
        (messages.PredictResponse, predict_pb2.PredictResponse),
        (messages.GetModelMetadataRequest, get_model_metadata_pb2.GetModelMetadataRequest),
        (messages.GetModelMetadataResponse, get_model_metadata_pb2.GetModelMetadataResponse),
        (messages.SignatureDefMap, get_model_metadata_pb2.SignatureDefMap),
        (messages.GetModelStatusRequest, get_model_status_pb2.GetModelStatusRequest),
        (messages.GetModelStatusResponse, get_model_status_pb2.GetModelStatusResponse),
    ]:
        _compare(ours.DESCRIPTOR, theirs.DESCRIPTOR)


def _compare(ours, theirs):
    numbers = {field.name: field.number for field in theirs.fields}
    for field in ours.fields:
        assert numbers[field.name] == field.number, f"{theirs.full_name}.{field.name}"
        their_field = theirs.fields_by_name[field.name]
        if field.message_type is not None and "google.protobuf" not in field.message_type.full_name:
            _compare(field.message_type, their_field.message_type)


def test_clients_never_import_tensorflow():
    code = (
        "import sys, serving.clients, serving.clients.cli; "
        "print([name for name in sys.modules if name.split('.')[0] in ('tensorflow', 'keras')])"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("value", "name", "dtype"),
    [([1], "int64", np.int64), ([1], "float", np.float32), (["a"], "string", object), ([[]], "string", object)],
)
def test_a_list_becomes_an_array_of_the_type_that_is_wanted(value, name, dtype):
    array = arrays.typed(value, name)
    assert array.dtype == dtype
    assert array.tolist() == value


def test_a_list_that_no_such_array_holds_is_refused_and_fractions_are_never_cut():
    assert arrays.typed([1.5], "int32") == [1.5]
    assert arrays.typed([1], "variant") == [1]
    for value, name in (([2**40], "int32"), ([[1], [1, 2]], "float"), (["a"], "int64")):
        with pytest.raises(InvalidRequest, match=f"cannot be sent as {name}"):
            arrays.typed(value, name)
