"""How do answers look as JSON? Responses of the calls, laid out as the stock server lays them out."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf import json_format
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    regression_pb2,
)

from serving.server import tensors
from serving.server.json_tensor import data_type_text
from serving.server.rest_json import block, decimal_texts, quoted
from serving.server.status import invalid

_DECIMALS = (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE, types_pb2.DT_HALF)
_INTEGERS = (
    types_pb2.DT_INT8,
    types_pb2.DT_INT16,
    types_pb2.DT_INT32,
    types_pb2.DT_INT64,
    types_pb2.DT_UINT8,
    types_pb2.DT_UINT32,
    types_pb2.DT_UINT64,
)


def error(message: str) -> str:
    """The body of a refusal."""
    return _object("error", quoted(message))


def predictions(outputs: Mapping[str, tensor_pb2.TensorProto]) -> str:
    """One value, or one object of named values, for each row of the batch.

    Raises:
      StatusError: an output has no rows, or another number of rows than the others.
    """
    batch_size = _batch_size(outputs)
    is_named = len(outputs) > 1
    columns = {}
    for name in sorted(outputs):
        shape = [dim.size for dim in outputs[name].tensor_shape.dim]
        columns[name] = _inline(_texts(name, outputs[name], len(shape) + 1 + is_named), shape[1:], batch_size)
    if is_named:
        rows = [
            block([f"{quoted(name)}: {column[row]}" for name, column in columns.items()], 3, "{}")
            for row in range(batch_size)
        ]
        return _object("predictions", block(rows, 2))
    return _object("predictions", _open_list(next(iter(columns.values()))))


def outputs(values: Mapping[str, tensor_pb2.TensorProto]) -> str:
    """The one output, or an object of all, each with all rows."""
    if not values:
        raise invalid("Cannot convert empty tensor map to JSON")
    depth = 1 if len(values) == 1 else 2
    texts = {name: _nested(name, values[name], depth) for name in sorted(values)}
    if len(values) == 1:
        return _object("outputs", next(iter(texts.values())))
    return _object("outputs", block([f"{quoted(name)}: {text}" for name, text in texts.items()], 2, "{}"))


def classifications(result: classification_pb2.ClassificationResult) -> str:
    """For each example a list of pairs of label and score."""
    if not result.classifications:
        raise invalid("Cannot convert empty ClassificationResults to JSON")
    rows = []
    for row in result.classifications:
        scores = decimal_texts(np.array([found.score for found in row.classes], np.float32))
        pairs = [f"[{quoted(found.label)}, {score}]" for found, score in zip(row.classes, scores, strict=True)]
        rows.append(f"[{', '.join(pairs)}]")
    return _object("results", _open_list(rows))


def regressions(result: regression_pb2.RegressionResult) -> str:
    """A number for each example."""
    if not result.regressions:
        raise invalid("Cannot convert empty RegressionResults to JSON")
    values = decimal_texts(np.array([found.value for found in result.regressions], np.float32))
    return _object("results", f"[{', '.join(values)}]")


def model_status(response: get_model_status_pb2.GetModelStatusResponse) -> str:
    """The states of a model's versions."""
    return _message(response)


def metadata(response: get_model_metadata_pb2.GetModelMetadataResponse) -> str:
    """The signatures of a model; the two parts are put together as the stock server does, with its line breaks."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    spec = response.model_spec
    return (
        f'{{\n"model_spec":{{\n "name": {quoted(spec.name)},\n "signature_name": {quoted(spec.signature_name)},\n'
        f' "version": "{spec.version.value}"\n}}\n,\n"metadata": {{"signature_def": {_message(signatures)}}}\n}}\n'
    )


def model_names(names: list[str]) -> str:
    """The names of all models."""
    return _object("models", block([block([f'"name": {quoted(name)}'], 3, "{}") for name in names], 2))


def _object(key: str, value: str) -> str:
    return block([f'"{key}": {value}'], 1, "{}")


def _open_list(items: list[str]) -> str:
    """A list on one line whose bracket closes on the next one: the stock server's layout of rows."""
    return f"[{', '.join(items)}\n    ]" if items else "[]"


def _message(message: Any) -> str:
    text = json_format.MessageToJson(
        message, always_print_fields_with_no_presence=True, preserving_proto_field_name=True, indent=1
    )
    return f"{text}\n"


def _batch_size(outputs: Mapping[str, tensor_pb2.TensorProto]) -> int:
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    batch_size = -1
    for name in sorted(outputs):
        dims = outputs[name].tensor_shape.dim
        if not dims:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if batch_size not in (-1, dims[0].size):
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {dims[0].size} expecting: {batch_size}")
        batch_size = dims[0].size
    return batch_size


def _texts(name: str, proto: tensor_pb2.TensorProto, depth: int) -> list[str]:
    """Every element; `depth` counts the lists and objects around one."""
    array = tensors.decode(proto)
    if proto.dtype in _DECIMALS:
        return decimal_texts(array)
    values = array.reshape(-1).tolist()
    if proto.dtype in _INTEGERS:
        return list(map(str, values))
    if proto.dtype == types_pb2.DT_BOOL:
        return ["true" if value else "false" for value in values]
    if proto.dtype == types_pb2.DT_STRING and name.endswith("_bytes"):
        return [block([f'"b64": "{base64.b64encode(value).decode()}"'], depth + 1, "{}") for value in values]
    if proto.dtype == types_pb2.DT_STRING:
        return [quoted(value.decode("utf-8", "surrogateescape")) for value in values]
    raise invalid(f"Failed to write JSON value for tensor type: {data_type_text(proto.dtype)}")


def _inline(texts: list[str], shape: list[int], count: int) -> list[str]:
    """Each of the `count` rows as nested lists on one line."""
    for axis in reversed(range(len(shape))):
        size, lists = shape[axis], count * int(np.prod(shape[:axis], dtype=np.int64))
        texts = [f"[{', '.join(texts[index * size : (index + 1) * size])}]" for index in range(lists)]
    return texts


def _nested(name: str, proto: tensor_pb2.TensorProto, depth: int) -> str:
    """A tensor as nested lists with one element on a line, inside `depth` lists or objects."""
    shape = [dim.size for dim in proto.tensor_shape.dim]
    texts = _texts(name, proto, depth + len(shape))
    for axis in reversed(range(len(shape))):
        size, lists = shape[axis], int(np.prod(shape[:axis], dtype=np.int64))
        texts = [block(texts[index * size : (index + 1) * size], depth + axis + 1) for index in range(lists)]
    return texts[0]
