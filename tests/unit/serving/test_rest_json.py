"""Is JSON read and printed by RapidJSON's rules?"""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.server.rest_json import decimal_texts, parse, quoted, value_text
from serving.server.rest_json_reader import Reader, encoded
from serving.server.status import Code, StatusError


def _complaint(body):
    with pytest.raises(StatusError) as caught:
        parse(body)
    assert caught.value.code == Code.INVALID_ARGUMENT
    return caught.value.message.removeprefix("JSON Parse error: ")


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"{1}", "Missing a name for object member. at offset: 1"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a": 1 "b"}', "Missing a comma or } after an object member. at offset: 8"),
        (b'{"a": [1 2]}', "Missing a comma or ] after an array element. at offset: 9"),
        (b'{"a": [1,]}', "Invalid value. at offset: 9"),
        (b'{"a": 01}', "Missing a comma or } after an object member. at offset: 7"),
        (b'{"a": 1.}', "Miss fraction part in number. at offset: 8"),
        (b'{"a": 1e+}', "Miss exponent in number. at offset: 9"),
        (b'{"a": nul}', "Invalid value. at offset: 9"),
        (b'{"a": Infinit}', "Invalid value. at offset: 13"),
        (b"{} 1", "The document root must not be followed by other values. at offset: 3"),
        (b'{"a', "Missing a closing quotation mark in string. at offset: 3"),
        (b'{"a\n": 1}', "Invalid encoding in string. at offset: 3"),
        (b'{"a\\x": 1}', "Invalid escape character in string. at offset: 3"),
        (b'{"a\\u12g4": 1}', "Incorrect hex digit after \\u escape in string. at offset: 3"),
        (b'{"\\ud800": 1}', "The surrogate pair in string is invalid. at offset: 2"),
        (b'{"\\ud800\\u0041": 1}', "The surrogate pair in string is invalid. at offset: 2"),
        (b'{"\\udc00": 1}', "The surrogate pair in string is invalid. at offset: 2"),
        ('{"净": x}'.encode(), "Invalid value. at offset: 8"),
        (b"\xef\xbb\xbf{x}", "Missing a name for object member. at offset: 4"),
    ],
)
def test_complaints_name_the_mistake_and_the_byte(body, complaint):
    assert _complaint(body) == complaint


def test_escapes_and_surrogate_pairs_are_read():
    assert parse(b'{"a": "\\ud83d\\ude00 \\u00e9\\n\\/\\\\"}') == {"a": "😀 é\n/\\"}
    assert parse(b'{"a": "\\\\ud800"}') == {"a": "\\ud800"}  # a backslash, not an escape


def test_of_a_repeated_key_the_first_counts():
    assert parse(b'{"a": 1, "b": 2, "a": 3}') == {"a": 1, "b": 2}
    assert parse(b'{"a": 1, "b": 2, "a": Inf}') == {"a": 1, "b": 2}  # the careful reader


def test_a_byte_order_mark_and_a_zero_end_the_document_as_in_rapidjson():
    assert parse(b'\xef\xbb\xbf{"a": 1}\x00rest') == {"a": 1}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (1e30, "1e+30"),
        (1e300, "1e+300"),
        (math.nan, "NaN"),
        (2**70, "1.18059162e+21"),
        ([1e30, 1.5e-7], "[\n    1e30,\n    1.5e-7\n]"),
        ([0.00001234, 1e16], "[\n    0.00001234,\n    10000000000000000.0\n]"),
        ({"a": {}, "b": [None, True]}, '{\n    "a": {},\n    "b": [\n        null,\n        true\n    ]\n}'),
        ('a"\x01', '"a\\"\\u0001"'),
    ],
)
def test_values_are_printed_as_in_complaints(value, text):
    assert value_text(value) == text


def test_decimals_have_six_digits_where_these_are_enough():
    numbers = np.array([0.1, 1 / 3, 123456, 1234567, 1e7, 3e-5, -0.0, np.inf], np.float32)
    texts = ["0.1", "0.333333343", "123456.0", "1234567.0", "1e+07", "3e-05", "-0.0", "Infinity"]
    assert decimal_texts(numbers) == texts
    assert decimal_texts(np.array([1 / 3, 0.1])) == ["0.33333333333333331", "0.1"]
    assert decimal_texts(np.zeros([0, 2], np.float32)) == []


@settings(max_examples=300, deadline=None)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_printed_floats_read_back_as_the_same_number(number):
    assert np.float32(decimal_texts(np.array([number], np.float32))[0]) == np.float32(number)


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(), _values), st.booleans())
def test_both_readers_agree_with_python_on_sound_documents(document, ascii_only):
    text = json.dumps(document, ensure_ascii=ascii_only)
    assert parse(text.encode("utf-8")) == document
    assert Reader(text, 0).document() == document


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=60) | st.text('{}[]",:\\u0d8tfnrNaIi+-.eE1 \x00', max_size=40).map(str.encode))
def test_any_bytes_are_an_object_or_a_status(body):
    try:
        parsed = parse(body)
    except StatusError as error:
        quoted(error.message)
    else:
        assert isinstance(parsed, dict)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["instances", "inputs", "signature_name", "examples", "context"]), _values))
def test_any_document_becomes_a_request_or_a_status(document):
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow_serving.apis import predict_pb2, regression_pb2

    from serving.server import json_examples, json_tensor

    parsed = parse(json.dumps(document).encode())
    for dtype in (1, 3, 7, 19):  # float, int32, string, half
        infos = {"x": meta_graph_pb2.TensorInfo(dtype=dtype)}
        try:
            json_tensor.signature_name(parsed)
            if json_tensor.is_row_format(parsed):
                json_tensor.fill_instances(parsed["instances"], infos, predict_pb2.PredictRequest())
            else:
                json_tensor.fill_inputs(parsed["inputs"], infos, predict_pb2.PredictRequest())
        except StatusError as error:
            encoded(error.message)
    try:
        json_examples.fill_examples(parsed, regression_pb2.RegressionRequest())
    except StatusError as error:
        encoded(error.message)
