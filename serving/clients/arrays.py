"""How do numpy arrays become TensorProto messages and back, without TensorFlow?"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerasllm.errors import InvalidRequest
from serving.clients.messages import TensorProto

DT_STRING = 7
DT_BFLOAT16 = 14  # numpy has no such type: it is read as float32
# Number of tensorflow.DataType, numpy type, name, the field with typed values.
_TYPES: tuple[tuple[int, Any, str, str], ...] = (
    (1, np.float32, "float", "float_val"),
    (2, np.float64, "double", "double_val"),
    (3, np.int32, "int32", "int_val"),
    (4, np.uint8, "uint8", "int_val"),
    (5, np.int16, "int16", "int_val"),
    (6, np.int8, "int8", "int_val"),
    (DT_STRING, np.object_, "string", "string_val"),
    (8, np.complex64, "complex64", "scomplex_val"),
    (9, np.int64, "int64", "int64_val"),
    (10, np.bool_, "bool", "bool_val"),
    (DT_BFLOAT16, np.float32, "bfloat16", "half_val"),
    (17, np.uint16, "uint16", "int_val"),
    (18, np.complex128, "complex128", "dcomplex_val"),
    (19, np.float16, "half", "half_val"),
    (22, np.uint32, "uint32", "uint32_val"),
    (23, np.uint64, "uint64", "uint64_val"),
)
_BY_NUMBER = {number: (kind, field) for number, kind, _, field in _TYPES}
_NUMBERS = {np.dtype(kind): number for number, kind, _, _ in _TYPES if number != DT_BFLOAT16}
TYPE_NAMES = {number: name for number, _, name, _ in _TYPES}
_BY_NAME = {name: kind for _, kind, name, _ in _TYPES}


def to_proto(value: np.ndarray | Sequence[Any]) -> Any:
    """A message for an array, or for a list of texts (str as UTF-8, or bytes) or numbers (float32 or int32).

    Raises:
      InvalidRequest: no tensor type holds such values.
    """
    array = np.asarray(value)
    if not isinstance(value, np.ndarray):  # as TensorFlow takes lists; numpy's strings lose closing null bytes
        kinds = {"U": np.object_, "S": np.object_, "f": np.float32, "i": np.int32}
        array = np.array(value, kinds.get(array.dtype.kind, array.dtype))
    elif array.dtype.kind in "US":
        array = array.astype(np.object_)
    if array.dtype not in _NUMBERS:
        raise InvalidRequest(f"values of type {array.dtype} cannot be sent; convert them to numbers or text.")
    proto = TensorProto(dtype=_NUMBERS[array.dtype])
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if proto.dtype == DT_STRING:
        proto.string_val.extend(_to_bytes(item) for item in array.reshape(-1))
    else:
        little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
        proto.tensor_content = np.ascontiguousarray(little_endian).tobytes()
    return proto


def typed(value: Sequence[Any], type_name: str) -> np.ndarray | Sequence[Any]:
    """A list as an array of the type with a name of TYPE_NAMES; as it is where it has fractions and may have none.

    Raises:
      InvalidRequest: the type holds no such values, or the lists in it differ in length.
    """
    kind = _BY_NAME.get(type_name)
    try:
        has_fractions = np.asarray(value).dtype.kind == "f" and bool(np.size(value))
        if kind is None or (has_fractions and np.dtype(kind).kind in "iub"):
            return value
        return np.array(value, kind)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidRequest(f"{value!r} cannot be sent as {type_name}: {error}.") from None


def to_array(proto: Any) -> np.ndarray:
    """The array of a server's answer, with either encoding; strings as an object array of bytes.

    Raises:
      InvalidRequest: a data type that this client does not read.
    """
    if proto.dtype not in _BY_NUMBER:
        raise InvalidRequest(f"the server answered with data type {proto.dtype}, which this client does not read.")
    kind, field = _BY_NUMBER[proto.dtype]
    shape = [dim.size for dim in proto.tensor_shape.dim]
    values = _values(proto, kind, field)
    missing = math.prod(shape) - len(values)  # a last value may stand for all that follow
    if missing > 0:
        last = values[-1:] if len(values) else np.zeros(1, kind)
        values = np.concatenate([values, np.repeat(last, missing)])
    return values.reshape(shape)


def to_python(array: np.ndarray) -> Any:
    """Nested lists of Python's own values; strings come as bytes and are decoded."""
    if array.dtype != object:
        return array.tolist()
    return np.vectorize(lambda value: value.decode("utf-8", "replace"), otypes=[object])(array).tolist()


def _values(proto: Any, kind: Any, field: str) -> np.ndarray:
    if proto.dtype == DT_STRING:
        return np.array(list(proto.string_val), np.object_)
    if proto.dtype == DT_BFLOAT16:  # the upper half of a float32
        content = proto.tensor_content
        halves = np.frombuffer(content, "<u2") if content else np.array(proto.half_val, np.uint16)
        return (halves.astype(np.uint32) << 16).view(np.float32)
    if proto.tensor_content:
        return np.frombuffer(proto.tensor_content, np.dtype(kind).newbyteorder("<")).astype(kind)
    if field == "half_val":
        return np.array(proto.half_val, np.uint16).view(kind)
    if field in ("scomplex_val", "dcomplex_val"):
        return np.array(getattr(proto, field), np.float32 if field == "scomplex_val" else np.float64).view(kind)
    return np.array(getattr(proto, field), kind)


def _to_bytes(item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode("utf-8")
    raise InvalidRequest(f"{item!r} is neither text nor bytes.")
