"""How do the tensors of several requests become one, and the results several? Joining, padding and cutting rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.server.status import Code, StatusError, invalid

# A request's tensors stand in the order of the batch's tensor names.
MAX_PADDED_RANK = 6


def num_rows(arrays: Sequence[np.ndarray]) -> int:
    """The size of the first dimension, which all tensors of a request share.

    Raises:
      StatusError: INVALID_ARGUMENT with the stock server's text: no tensors, scalars, different sizes.
    """
    if not arrays:
        raise invalid("Batching Run() must have at least one input tensor")
    size: int | None = None
    for array in arrays:
        if not array.ndim:
            raise invalid("Batching Run() input tensors must have at least one dimension")
        if size is not None and array.shape[0] != size:
            raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
        size = array.shape[0]
    assert size is not None, "there is a tensor"
    return size


def join(names: Sequence[str], requests: Sequence[Sequence[np.ndarray]], size: int, pad: bool) -> list[np.ndarray]:
    """One tensor for each name: the requests' rows in turn, then the last request's first row until there are `size`.

    With `pad`, shorter tensors are filled up at the end of each further dimension with their own first element.

    Raises:
      StatusError: the shapes differ beyond the first dimension and may not, or cannot, be padded.
    """
    if pad and any(array.ndim > MAX_PADDED_RANK for request in requests for array in request):
        raise invalid(f"Only tensors with rank from 1 to {MAX_PADDED_RANK} can be padded.")
    if len(requests) == 1 and len(requests[0][0]) == size:
        return list(requests[0])
    joined = []
    for position, name in enumerate(names):
        arrays = [request[position] for request in requests]
        if any(array.shape[1:] != arrays[0].shape[1:] for array in arrays):
            if not pad:
                raise StatusError(
                    Code.FAILED_PRECONDITION,
                    f"Tensors with name '{name}' from different tasks have different shapes and padding is turned "
                    "off. Set pad_variable_length_inputs to true, or ensure that all tensors with the same name have "
                    "equal dimensions starting with the first dim.",
                )
            arrays = _padded(name, arrays)
        missing = size - sum(len(array) for array in arrays)
        if missing > 0:
            rows = [array[:1] for array in arrays if len(array)]
            arrays += rows[-1:] * missing
        joined.append(np.concatenate(arrays))
    return joined


def cut(values: Sequence[Any], sizes: Sequence[int], size: int) -> list[list[np.ndarray]]:
    """Each request's rows of each result, copied unless they are all of it.

    `sizes` are the requests' rows, `size` the rows that were run.

    Raises:
      StatusError: FAILED_PRECONDITION with the stock server's text, for a result that has no such rows.
    """
    for value in values:
        if not np.ndim(value):
            raise StatusError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
        if len(value) != size:
            raise StatusError(
                Code.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
                "tensors",
            )
    if len(sizes) == 1 and sizes[0] == size:
        return [list(values)]
    pieces, start = [], 0
    for rows in sizes:
        pieces.append([value[start : start + rows].copy() for value in values])  # a view would hold the whole batch
        start += rows
    return pieces


def _padded(name: str, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    ranks = {array.ndim for array in arrays}
    if len(ranks) > 1:
        raise invalid(f"Tensors with name '{name}' from different tasks have different ranks and cannot be padded.")
    longest = tuple(max(sizes) for sizes in zip(*(array.shape[1:] for array in arrays), strict=True))
    return [_padded_to(array, (len(array), *longest)) for array in arrays]


def _padded_to(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if array.shape == shape or not len(array):
        return array.reshape(shape)
    if not array.size:
        raise invalid("Got empty tensor in batch of non-empty tensors.")
    padded = np.full(shape, array.flat[0], array.dtype)
    padded[tuple(slice(size) for size in array.shape)] = array
    return padded
