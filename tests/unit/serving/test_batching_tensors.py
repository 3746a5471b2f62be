"""Are the rows of several requests joined, padded and given back as the stock server does?"""

import ml_dtypes
import numpy as np
import pytest

from serving.server.batching_tensors import cut, join, num_rows
from serving.server.status import Code, StatusError


def _joined(*arrays, size, pad=False):
    return join(["x:0"], [[np.array(array)] for array in arrays], size, pad)[0]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([], "Batching Run() must have at least one input tensor"),
        ([[2], []], "Batching Run() input tensors must have at least one dimension"),
        ([[1, 3], [2, 5]], "Batching Run() input tensors must have equal 0th-dimension size"),
    ],
)
def test_requests_that_have_no_number_of_rows_are_refused(shapes, message):  # [44]
    with pytest.raises(StatusError) as caught:
        num_rows([np.zeros(shape) for shape in shapes])
    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, message)


def test_rows_stand_in_the_order_of_the_requests():
    assert _joined([[1.0], [2.0]], [[3.0]], size=3).tolist() == [[1.0], [2.0], [3.0]]


def test_each_tensor_is_joined_with_its_namesakes():
    requests = [[np.array([1]), np.array([b"a"], np.object_)], [np.array([2]), np.array([b"b"], np.object_)]]
    numbers, strings = join(["n:0", "s:0"], requests, 2, pad=False)
    assert numbers.tolist() == [1, 2]
    assert strings.tolist() == [b"a", b"b"]


def test_missing_rows_repeat_the_last_requests_first_row():  # [45]
    assert _joined([1, 2], [3, 4], size=8).tolist() == [1, 2, 3, 4, 3, 3, 3, 3]


def test_an_empty_last_request_leaves_the_repeating_to_the_one_before():
    assert _joined([7, 8], np.zeros([0], int), size=4).tolist() == [7, 8, 7, 7]


def test_different_lengths_are_refused_with_padding_off():  # [43]
    with pytest.raises(StatusError) as caught:
        _joined([[1, 2]], [[1, 2, 3]], size=2)
    assert caught.value.code == Code.FAILED_PRECONDITION
    assert caught.value.message == (
        "Tensors with name 'x:0' from different tasks have different shapes and padding is turned off. Set "
        "pad_variable_length_inputs to true, or ensure that all tensors with the same name have equal dimensions "
        "starting with the first dim."
    )


def test_shorter_rows_are_padded_with_their_own_first_element():  # [43]
    # A token id as the stock server pads it: with the id of the text's first token, not with 0.
    assert _joined([[101, 7]], [[102, 8, 9, 3]], size=2, pad=True).tolist() == [[101, 7, 101, 101], [102, 8, 9, 3]]


def test_every_dimension_but_the_first_is_padded():
    padded = _joined([[[1], [2]]], [[[3, 4]]], size=2, pad=True)
    assert padded.tolist() == [[[1, 1], [2, 1]], [[3, 4], [3, 3]]]


def test_strings_are_padded_with_strings():
    requests = [[np.array([[b"a"]], np.object_)], [np.array([[b"b", b"c"]], np.object_)]]
    assert join(["x:0"], requests, 2, pad=True)[0].tolist() == [[b"a", b"a"], [b"b", b"c"]]


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16, np.bool_, np.uint64, np.complex64])
def test_every_type_is_joined_and_padded_without_a_change_of_type(kind):
    short, long = np.ones([1, 1], kind), np.zeros([1, 2], kind)
    joined = join(["x:0"], [[short], [long]], 3, pad=True)[0]
    assert joined.dtype == kind
    assert joined.tolist() == [[1, 1], [0, 0], [0, 0]]


def test_rows_without_any_element_cannot_be_padded():
    with pytest.raises(StatusError, match="Got empty tensor in batch of non-empty tensors."):
        _joined(np.zeros([1, 0]), [[1.0]], size=2, pad=True)


def test_tensors_of_many_dimensions_cannot_be_padded_and_need_not_be():
    with pytest.raises(StatusError, match="Only tensors with rank from 1 to 6 can be padded."):
        _joined(np.zeros([1] * 7), size=1, pad=True)
    assert _joined(np.zeros([1] * 7), size=1).shape == (1,) * 7


def test_tensors_of_different_ranks_cannot_be_padded():
    with pytest.raises(StatusError, match="have different ranks and cannot be padded"):
        _joined([[1]], [[[1]]], size=2, pad=True)


def test_each_request_gets_its_rows_and_the_repeated_ones_are_dropped():
    first, second = cut([np.arange(4), np.arange(8).reshape(4, 2)], [1, 2], 4)
    assert all(piece.base is None for piece in (*first, *second)), "a view holds the whole batch"
    assert [piece.tolist() for piece in first] == [[0], [[0, 1]]]
    assert [piece.tolist() for piece in second] == [[1, 2], [[2, 3], [4, 5]]]


@pytest.mark.parametrize("scalar", [np.float32(1), b"text"])
def test_a_result_without_rows_is_refused(scalar):
    with pytest.raises(StatusError) as caught:
        cut([scalar], [1], 1)
    assert caught.value.code == Code.FAILED_PRECONDITION
    assert caught.value.message == "Batched output tensor has 0 dimensions"


def test_a_result_with_another_number_of_rows_is_refused():
    with pytest.raises(StatusError) as caught:
        cut([np.zeros([3])], [1, 1], 2)
    assert caught.value.code == Code.FAILED_PRECONDITION
    assert caught.value.message == (
        "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input tensors"
    )
