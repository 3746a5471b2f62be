"""Which examples does a JSON request hold? Features by name to tf.train.Examples, for Classify and Regress."""

from collections.abc import Mapping
from typing import Any

from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import classification_pb2, regression_pb2

from serving.server.json_tensor import check_decimal, from_base64, is_named_values, json_type
from serving.server.rest_json import value_text
from serving.server.rest_json_reader import encoded
from serving.server.status import invalid


def fill_examples(
    document: Mapping[str, Any], request: classification_pb2.ClassificationRequest | regression_pb2.RegressionRequest
) -> None:
    """Reads `examples`, objects of features, and the `context` that they share."""
    has_context = "context" in document
    if has_context:
        _fill_example(document["context"], request.input.example_list_with_context.context)
    examples = document.get("examples")
    fault = ""
    if "examples" not in document:
        fault = "When method is classify, key 'examples' is expected and was not found"
    elif not isinstance(examples, list):
        fault = "Expecting 'examples' value to be an list/array"
    elif not examples:
        fault = "'examples' value is an empty array"
    if fault:
        raise invalid(f"JSON Value: {value_text(document)} {fault}")
    assert isinstance(examples, list), "anything else is a fault"
    listed = request.input.example_list_with_context if has_context else request.input.example_list
    for example in examples:
        _fill_example(example, listed.examples.add())


def _fill_example(value: Any, example: example_pb2.Example) -> None:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {json_type(value)}")
    example.SetInParent()
    for name, content in value.items():
        feature = feature_pb2.Feature()
        for item in content if isinstance(content, list) else [content]:
            _add_to_feature(item, name, feature)
        key = encoded(name).decode("utf-8", "replace")
        example.features.feature[key].CopyFrom(feature)


def _add_to_feature(value: Any, name: str, feature: feature_pb2.Feature) -> None:
    if value is None or isinstance(value, list) or is_named_values(value):
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {json_type(value)}")
    if isinstance(value, bool):
        _check_kind(name, feature, "int64_list")
        feature.int64_list.value.append(int(value))
    elif isinstance(value, dict):
        _check_kind(name, feature, "bytes_list")
        feature.bytes_list.value.append(from_base64(value["b64"]))
    elif isinstance(value, str):
        _check_kind(name, feature, "bytes_list")
        feature.bytes_list.value.append(encoded(value))
    elif isinstance(value, int) and -(2**63) <= value < 2**64:
        _check_kind(name, feature, "int64_list")
        if value >= 2**63:
            raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
        feature.int64_list.value.append(value)
    else:
        _check_kind(name, feature, "float_list")
        check_decimal(value, types_pb2.DT_FLOAT)
        feature.float_list.value.append(value)


def _check_kind(name: str, feature: feature_pb2.Feature, kind: str) -> None:
    found = feature.WhichOneof("kind")
    if found not in (None, kind):
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {str(found).removesuffix('_list')}")
