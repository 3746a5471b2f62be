"""How does the server say no? One error that carries a canonical status code and the text for the client."""

from enum import IntEnum

from absl import logging

from kerasllm.errors import ServingError


class Code(IntEnum):
    """The canonical codes that TensorFlow and gRPC share."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class StatusError(ServingError):
    """A request, or the load of a model, that ends in a status other than OK."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message


def invalid(message: str) -> StatusError:
    """The status of a request that can never succeed as it is."""
    return StatusError(Code.INVALID_ARGUMENT, message)


def timed_out() -> StatusError:
    """The status of a run that its deadline has overtaken, in TensorFlow's words."""
    return StatusError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")


def as_status(error: Exception) -> StatusError:
    """The status that a client is told of an error; what is no StatusError is told to the log alone."""
    if isinstance(error, StatusError):
        return error
    logging.error("A request failed for a reason that the server does not know.", exc_info=error)
    return StatusError(Code.INTERNAL, "The server failed on this request; its log says why.")
