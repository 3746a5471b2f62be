"""What does a JSON request ask for? Instances and inputs to tensors; examples are in json_examples.

The rules and the texts of complaints are those of the stock server's json_tensor.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

from serving.server import tensors
from serving.server.rest_json import value_text
from serving.server.rest_json_reader import encoded
from serving.server.status import Code, StatusError, invalid

_MAX_RANK = 254  # of a TensorShape
_INT32 = (-(2**31), 2**31 - 1)
_INT64 = (-(2**63), 2**63 - 1)
# Data type -> numpy type and the integers that JSON may give for it; 8 and 16 bits wrap around, as in the stock server.
_INTEGERS: dict[int, tuple[Any, tuple[int, int]]] = {
    types_pb2.DT_INT8: (np.int8, _INT32),
    types_pb2.DT_INT16: (np.int16, _INT32),
    types_pb2.DT_INT32: (np.int32, _INT32),
    types_pb2.DT_UINT8: (np.uint8, _INT32),
    types_pb2.DT_INT64: (np.int64, _INT64),
    types_pb2.DT_UINT32: (np.uint32, (0, 2**32 - 1)),
    types_pb2.DT_UINT64: (np.uint64, (0, 2**64 - 1)),
}
# Data type -> numpy type and the largest integer below which none is lost.
_DECIMALS: dict[int, tuple[Any, int]] = {
    types_pb2.DT_FLOAT: (np.float32, 2**24 - 1),
    types_pb2.DT_DOUBLE: (np.float64, 2**53 - 1),
}
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")


def signature_name(document: Mapping[str, Any]) -> str:
    """The signature that a request names; empty for the default one."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {value_text(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return encoded(name).decode("utf-8", "replace")


def is_row_format(document: Mapping[str, Any]) -> bool:
    """Whether the request lists `instances` (True) or holds `inputs` (False).

    Raises:
      StatusError: it has both, neither, or no list of instances.
    """
    if "instances" not in document:
        if "inputs" not in document:
            raise invalid("Missing 'inputs' or 'instances' key")
        return False
    fault = ""
    if "inputs" in document:
        fault = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
    elif not isinstance(document["instances"], list):
        fault = "Excepting 'instances' to be an list/array"
    elif not document["instances"]:
        fault = "No values in 'instances' array"
    if fault:
        raise invalid(f"JSON Value: {value_text(document)} {fault}")
    return True


def fill_instances(instances: list[Any], infos: Mapping[str, Any], request: predict_pb2.PredictRequest) -> None:
    """Batches instances, plain values or objects with a value for each input, into one tensor for each input."""
    if not isinstance(instances[0], dict) and len(infos) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    are_objects = is_named_values(instances[0])
    columns: dict[str, _Column] = {}
    if are_objects and all(isinstance(row, dict) and row.keys() == infos.keys() for row in instances):
        columns = {name: _Column.at_once(info, [row[name] for row in instances]) for name, info in infos.items()}
    elif not are_objects:
        columns = {name: _Column.at_once(info, instances) for name, info in infos.items()}
    if not columns or any(column.values is None for column in columns.values()):
        columns = {name: _Column(info) for name, info in infos.items()}
        for number, row in enumerate(instances):
            _add_row(row, number, are_objects, columns)
    for name, column in columns.items():
        _write(column, [len(instances), *column.shape], request.inputs[name])


def fill_inputs(inputs: Any, infos: Mapping[str, Any], request: predict_pb2.PredictRequest) -> None:
    """Makes a tensor of each value of an object, or of the one value of a signature with one input."""
    if not is_named_values(inputs):
        if len(infos) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        inputs = dict.fromkeys(infos, inputs)
    for name in sorted(infos):
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        shape = _shape(inputs[name])
        column = _Column(infos[name])
        column.values = _quick(inputs[name], shape, column.dtype)
        if column.values is None:
            column.values = []
            _fill(inputs[name], 0, shape, column.dtype, column.values)
        _write(column, shape, request.inputs[name])


class _Column:
    """The values of one input over all instances, which must agree in shape."""

    def __init__(self, info: Any) -> None:
        self.dtype: int = info.dtype
        self.shape: list[int] = []
        self.values: Any = None  # a list, or an array where all were read at once

    @classmethod
    def at_once(cls, info: Any, items: list[Any]) -> "_Column":
        """The column with all its values, or without any where something needs a closer look."""
        column = cls(info)
        column.shape = _shape(items[0])
        column.values = _quick(items, [len(items), *column.shape], column.dtype)
        return column

    def add(self, item: Any) -> None:
        shape = _shape(item)
        values: list[Any] = []
        _fill(item, 0, shape, self.dtype, values)
        if self.values is None:
            self.shape, self.values = shape, values
            self._size = len(values)
            return
        if len(values) != self._size:
            raise invalid(f"Expecting tensor size: {self._size} but got: {len(values)}")
        if shape != self.shape:
            expected, got = tensors.shape_text(tuple(self.shape)), tensors.shape_text(tuple(shape))
            raise invalid(f"Expecting shape {expected} but got: {got}")
        self.values.extend(values)


def _add_row(row: Any, number: int, are_objects: bool, columns: Mapping[str, _Column]) -> None:
    if are_objects != is_named_values(row):
        expected = "object but got list" if are_objects else "value/list but got object"
        raise invalid(f"Expecting {expected} at item {number} of input list")
    for name, item in row.items() if are_objects else [(next(iter(columns)), row)]:
        try:
            if name not in columns:
                raise invalid(f"JSON object: does not have named input: {name}")
            columns[name].add(item)
        except StatusError as error:
            key = f" key: {name}" if are_objects else ""
            raise invalid(f"Failed to process element: {number}{key} of 'instances' list. Error: {error}") from error
    if are_objects and row.keys() != columns.keys():
        raise invalid(
            f"Failed to process element: {number} of 'instances' list. JSON object: {value_text(row)} "
            f"keys must be equal to: {','.join(sorted(columns))}"
        )


def is_named_values(value: Any) -> bool:
    """Whether a value is an object of values by name, and not a string in base64."""
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value: dict[str, Any]) -> bool:
    return len(value) == 1 and isinstance(value.get("b64"), str)


def _shape(value: Any) -> list[int]:
    """The shape that a value has if all its lists are as long as the first ones."""
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        if len(shape) > _MAX_RANK:
            raise invalid(f"Encountered list at unexpected level: {_MAX_RANK} expected < {_MAX_RANK}")
        if not value:
            break
        value = value[0]
    return shape


def _quick(value: Any, shape: Sequence[int], dtype: int) -> Any:
    """All values of a nested list in order, or None where one of them, or a list's length, needs a closer look."""
    items = [value]
    for size in shape:
        if set(map(type, items)) - {list} or set(map(len, items)) - {size}:
            return None
        items = list(chain.from_iterable(items))
    kinds = set(map(type, items))
    if dtype == types_pb2.DT_STRING:
        return [encoded(item) for item in items] if kinds <= {str} else None
    if dtype == types_pb2.DT_BOOL:
        return items if kinds <= {bool} else None
    if dtype in _INTEGERS and kinds == {int}:
        low, high = _INTEGERS[dtype][1]
        return items if min(items) >= low and max(items) <= high else None
    if dtype in _DECIMALS and kinds <= {int, float}:
        kind, limit = _DECIMALS[dtype]
        if int in kinds and not all(-limit <= item <= limit for item in items if type(item) is int):
            return None
        numbers = np.array(items, np.float64)
        fits = (np.abs(numbers) <= float(np.finfo(kind).max)) | ~np.isfinite(numbers)
        return numbers if fits.all() else None
    return None


def _fill(value: Any, level: int, shape: Sequence[int], dtype: int, values: list[Any]) -> None:
    """Appends all values of a nested list in order; says which one has the wrong place, length or type."""
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {value_text(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        values.append(_leaf(value, dtype))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        _fill(item, level + 1, shape, dtype, values)


def _leaf(value: Any, dtype: int) -> Any:
    if isinstance(value, dict):
        if dtype != types_pb2.DT_STRING:
            raise _type_error(value, dtype)
        if not _is_base64(value):
            raise invalid(f"JSON Value: {value_text(value)} not formatted correctly for base64 data")
        return from_base64(value["b64"])
    if dtype == types_pb2.DT_STRING and isinstance(value, str):
        return encoded(value)
    if dtype == types_pb2.DT_BOOL and isinstance(value, bool):
        return value
    if dtype in _INTEGERS and type(value) is int:
        low, high = _INTEGERS[dtype][1]
        if low <= value <= high:
            return value
    if dtype in _DECIMALS and type(value) in (int, float):
        check_decimal(value, dtype)
        return float(value)
    if dtype in (types_pb2.DT_STRING, types_pb2.DT_BOOL) or dtype in _INTEGERS or dtype in _DECIMALS:
        raise _type_error(value, dtype)
    raise StatusError(
        Code.UNIMPLEMENTED, f"Conversion of JSON Value: {value_text(value)} to type: {data_type_text(dtype)}"
    )


def check_decimal(value: int | float, dtype: int) -> None:
    """Refuses a number that is too large for a float or double, or an integer that would lose digits in it."""
    kind, limit = _DECIMALS[dtype]
    if type(value) is int and _INT64[0] <= value < 2**64:
        is_lossless = abs(value) <= limit
    else:
        is_lossless = not np.isfinite(float(value)) or abs(float(value)) <= float(np.finfo(kind).max)
    if not is_lossless:
        raise invalid(
            f"Cannot convert JSON value: {value_text(value)} to {data_type_text(dtype)} without loss of precision."
        )


def from_base64(text: str) -> bytes:
    """The bytes of a {"b64": ...} object; padding may be left out."""
    packed = "".join(text.split())
    content = packed.rstrip("=")
    has_padding = content != packed
    if not _BASE64.fullmatch(packed) or len(content) % 4 == 1 or (has_padding and len(packed) % 4):
        raise invalid("Unable to base64 decode")
    try:
        return base64.b64decode(content + "=" * (-len(content) % 4))
    except binascii.Error as error:
        raise invalid("Unable to base64 decode") from error


def data_type_text(dtype: int) -> str:
    """A data type as TensorFlow prints it: `int32`."""
    return types_pb2.DataType.Name(dtype).removeprefix("DT_").lower()


def json_type(value: Any) -> str:
    """A value's type as RapidJSON calls it."""
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    names: dict[type, str] = {dict: "Object", list: "Array", str: "String"}
    return names.get(type(value), "Number")


def _type_error(value: Any, dtype: int) -> StatusError:
    return invalid(
        f"JSON Value: {value_text(value)} Type: {json_type(value)} is not of expected type: {data_type_text(dtype)}"
    )


def _write(column: _Column, shape: Sequence[int], proto: tensor_pb2.TensorProto) -> None:
    values = [] if column.values is None else column.values
    proto.dtype = column.dtype
    proto.tensor_shape.SetInParent()
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    if column.dtype == types_pb2.DT_STRING:
        proto.string_val.extend(values)
    elif column.dtype == types_pb2.DT_BOOL:
        proto.tensor_content = np.array(values, np.bool_).tobytes()
    elif column.dtype in _INTEGERS:
        kind, (low, _) = _INTEGERS[column.dtype]
        proto.tensor_content = np.array(values, np.int64 if low else np.uint64).astype(kind).tobytes()
    elif column.dtype in _DECIMALS:
        proto.tensor_content = np.array(values, np.float64).astype(_DECIMALS[column.dtype][0]).tobytes()
