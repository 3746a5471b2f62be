"""How do calls arrive over gRPC? Thin handlers over the core, and the server that carries them."""

from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any, NoReturn, TypeVar

import grpc
from absl import logging
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from kerasllm.errors import ServingError
from serving.server.core import ServerCore
from serving.server.status import Code, StatusError

MAX_MESSAGE_BYTES = 1024  # of an error, as in the stock server
Response = TypeVar("Response")


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """tensorflow.serving.PredictionService."""

    def __init__(self, core: ServerCore) -> None:
        self._core = core

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Named tensors in, named tensors out."""
        return _answer(context, lambda: self._core.predict(request, context.time_remaining()))

    def Classify(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Examples in, classes with scores out."""
        return _answer(context, lambda: self._core.classify(request, context.time_remaining()))

    def Regress(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Examples in, numbers out."""
        return _answer(context, lambda: self._core.regress(request, context.time_remaining()))

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The signatures of a model."""
        return _answer(context, lambda: self._core.metadata(request))

    def MultiInference(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Refused: call Classify and Regress one by one."""
        _refuse(context, "MultiInference is not offered by this server; call Classify and Regress one by one.")


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """tensorflow.serving.ModelService."""

    def __init__(self, core: ServerCore) -> None:
        self._core = core

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The states of a model's versions."""
        return _answer(context, lambda: self._core.status(request))

    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Refused: start the server again with the new configuration."""
        _refuse(context, "HandleReloadConfigRequest is not offered by this server; start it anew with the new file.")


def start_server(
    core: ServerCore, host: str, port: int, max_threads: int, interceptors: Sequence[grpc.ServerInterceptor] = ()
) -> tuple[grpc.Server, int]:
    """Opens the port (0: a free one) and returns the running server and the port's number.

    Raises:
      ServingError: the port is taken, or the host is not this machine's.
    """
    options = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),  # otherwise two servers would share a busy port in silence
    ]
    server = grpc.server(futures.ThreadPoolExecutor(max_threads), options=options, interceptors=interceptors)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(core), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(core), server)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        bound = 0
    if not bound:
        raise ServingError(
            f"Cannot listen at {host}:{port}: the port is in use or may not be opened. Choose another --port."
        )
    server.start()
    return server, bound


def _answer(context: grpc.ServicerContext, call: Callable[[], Response]) -> Response:
    try:
        return call()
    except StatusError as error:
        _abort(context, error)
    except Exception:
        logging.exception("A request failed for a reason that the server does not know.")
        _abort(context, StatusError(Code.INTERNAL, "The server failed on this request; its log says why."))


def _refuse(context: grpc.ServicerContext, message: str) -> NoReturn:
    _abort(context, StatusError(Code.UNIMPLEMENTED, message))


def _abort(context: grpc.ServicerContext, error: StatusError) -> NoReturn:
    message = error.message
    if len(message.encode()) > MAX_MESSAGE_BYTES:
        message = message.encode()[:MAX_MESSAGE_BYTES].decode("utf-8", "ignore") + "...TRUNCATED"
    context.abort(grpc.StatusCode[error.code.name], message)
    raise AssertionError("abort raises")
