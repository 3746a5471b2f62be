"""Are tensors decoded as C++ decodes them, and encoded as the stock server does?"""

import numpy as np
import pytest
from tensorflow.core.framework import tensor_pb2

from serving.server import tensors


def _proto(shape, **fields):
    proto = tensor_pb2.TensorProto(**fields)
    proto.tensor_shape.SetInParent()
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def test_int_values_wrap_into_narrow_types_as_in_c():
    assert tensors.decode(_proto([2], dtype=6, int_val=[300, -1])).tolist() == [44, -1]  # DT_INT8: 300 - 256


def test_halves_are_read_from_their_bits():
    assert tensors.decode(_proto([1], dtype=19, half_val=[0x3E00])).tolist() == [1.5]  # 1.1b x 2^0


def test_complex_numbers_are_pairs():
    assert tensors.decode(_proto([1], dtype=8, scomplex_val=[1.0, 2.0])).tolist() == [1 + 2j]


@pytest.mark.parametrize(("count", "expected"), [(0, [b"", b""]), (1, [b"a", b"a"]), (3, [b"a", b"b"])])
def test_strings_are_filled_and_cut(count, expected):
    assert tensors.decode(_proto([2], dtype=7, string_val=[b"a", b"b", b"c"][:count])).tolist() == expected


@pytest.mark.parametrize(
    "content", [b"", b"\x05ab", b"\x80", b"\xff\xff\xff\xff\xff\xff"], ids=["empty", "short", "cut", "endless"]
)
def test_broken_string_content_is_refused(content):
    proto = _proto([1], dtype=7, tensor_content=content or b"\x01")
    with pytest.raises(ValueError, match="strings"):
        tensors.decode(proto)


@pytest.mark.parametrize("kind", [0, 20, 21, 101], ids=["invalid", "resource", "variant", "reference"])
def test_types_that_cannot_be_sent_are_refused(kind):
    with pytest.raises(ValueError, match="cannot be sent"):
        tensors.decode(_proto([1], dtype=kind))


def test_nothing_is_ever_written_as_content():
    proto = tensor_pb2.TensorProto()
    tensors.encode(np.arange(4, dtype=np.float32).reshape(2, 2), proto)
    assert proto.tensor_content == b""
    assert list(proto.float_val) == [0, 1, 2, 3]
    assert tensors.shape_text(tuple(dim.size for dim in proto.tensor_shape.dim)) == "[2,2]"


def test_a_single_string_is_a_scalar():
    proto = tensor_pb2.TensorProto()
    tensors.encode(b"a\x00", proto)
    assert list(proto.string_val) == [b"a\x00"]
    assert not proto.tensor_shape.dim
