"""How do tensors travel? TensorProto to numpy and back, as lax and as strict as TensorFlow's C++ is."""

import math
from typing import Any

import ml_dtypes
import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2

_MAX_REPEATED_BYTES = 2**30  # of a tensor that a few values stand for: a short request cannot ask for all memory

# Data type -> numpy type, the repeated field that holds it, and the type of its items where they are bits or parts.
_TYPES: dict[int, tuple[Any, str, Any]] = {
    types_pb2.DT_FLOAT: (np.float32, "float_val", None),
    types_pb2.DT_DOUBLE: (np.float64, "double_val", None),
    types_pb2.DT_HALF: (np.float16, "half_val", np.uint16),
    types_pb2.DT_BFLOAT16: (ml_dtypes.bfloat16, "half_val", np.uint16),
    types_pb2.DT_INT8: (np.int8, "int_val", None),
    types_pb2.DT_INT16: (np.int16, "int_val", None),
    types_pb2.DT_INT32: (np.int32, "int_val", None),
    types_pb2.DT_INT64: (np.int64, "int64_val", None),
    types_pb2.DT_UINT8: (np.uint8, "int_val", None),
    types_pb2.DT_UINT16: (np.uint16, "int_val", None),
    types_pb2.DT_UINT32: (np.uint32, "uint32_val", None),
    types_pb2.DT_UINT64: (np.uint64, "uint64_val", None),
    types_pb2.DT_BOOL: (np.bool_, "bool_val", None),
    types_pb2.DT_COMPLEX64: (np.complex64, "scomplex_val", np.float32),
    types_pb2.DT_COMPLEX128: (np.complex128, "dcomplex_val", np.float64),
    types_pb2.DT_STRING: (np.object_, "string_val", None),
}
_DATA_TYPES: dict[Any, int] = {np.dtype(kind): number for number, (kind, _, _) in _TYPES.items()}


def decode(proto: tensor_pb2.TensorProto) -> np.ndarray:
    """The array that C++ `Tensor::FromProto` makes: surplus values are cut, missing ones repeat the last.

    Raises:
      ValueError: a negative or unknown dimension, content of another size than the shape's, an unknown type, too few
        values for a shape of more than a gigabyte.
    """
    if proto.dtype not in _TYPES:
        raise ValueError(f"data type {proto.dtype} cannot be sent to a model")
    kind, field, stored = _TYPES[proto.dtype]
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise ValueError(f"shape {shape} is not a full one")
    count = math.prod(shape)
    if not count:
        return np.zeros(shape, kind)
    if not proto.tensor_content:
        return _fill(_from_values(getattr(proto, field), kind, stored), count, kind).reshape(shape)
    if kind is np.object_:
        return _from_string_list(proto.tensor_content, count).reshape(shape)
    if len(proto.tensor_content) != count * np.dtype(kind).itemsize:
        raise ValueError(f"{len(proto.tensor_content)} bytes of content for {count} elements")
    return np.frombuffer(proto.tensor_content, kind).reshape(shape)


def encode(value: Any, proto: tensor_pb2.TensorProto, is_content: bool = False) -> None:
    """Writes an array in typed fields, all elements, as the stock server answers; as `tensor_content` when asked to."""
    array = np.asarray(value, np.object_) if isinstance(value, bytes) else np.asarray(value)
    proto.dtype = _DATA_TYPES[array.dtype]
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    kind, field, stored = _TYPES[proto.dtype]
    flat = np.ascontiguousarray(array).reshape(-1)
    if is_content:
        proto.tensor_content = _to_string_list(flat) if kind is np.object_ else flat.tobytes()
        return
    getattr(proto, field).extend((flat if stored is None else flat.view(stored)).tolist())


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape as TensorFlow prints it: `[2,3]`."""
    return "[" + ",".join(map(str, shape)) + "]"


def _from_values(values: Any, kind: Any, stored: Any) -> np.ndarray:
    if kind is np.object_:
        return np.array(list(values), np.object_)
    if stored is not None:
        return np.array(values, np.int64 if stored is np.uint16 else stored).astype(stored).view(kind)
    return np.array(values).astype(kind)  # wraps as C++ does where int_val holds more than the type


def _fill(values: np.ndarray, count: int, kind: Any) -> np.ndarray:
    if len(values) >= count:
        return values[:count]
    if count * np.dtype(kind).itemsize > _MAX_REPEATED_BYTES:
        raise ValueError(f"{len(values)} values for {count} elements")
    missing = values[-1] if len(values) else (b"" if kind is np.object_ else np.zeros((), kind))
    return np.concatenate([values, np.full(count - len(values), missing, kind)])


def _to_string_list(strings: np.ndarray) -> bytes:
    """Strings as TensorFlow packs them: all lengths as varints, then all bytes."""
    packed = bytearray()
    for string in strings:
        size = len(string)
        while size > 0x7F:
            packed.append(0x80 | size & 0x7F)
            size >>= 7
        packed.append(size)
    return bytes(packed) + b"".join(strings)


def _from_string_list(content: bytes, count: int) -> np.ndarray:
    """The reverse."""
    position, sizes = 0, []
    for _ in range(count):
        size = shift = 0
        while True:
            if position == len(content) or shift > 28:
                raise ValueError("the lengths of the strings are cut off")
            byte = content[position]
            position += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        sizes.append(size)
    if position + sum(sizes) != len(content):
        raise ValueError("the strings are not as long as their lengths say")
    strings = np.empty(count, np.object_)
    for index, size in enumerate(sizes):
        strings[index] = content[position : position + size]
        position += size
    return strings
