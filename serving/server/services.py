"""How do calls arrive over gRPC? Thin handlers over the core, and the server that carries them."""

from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any, NoReturn, TypeVar

import grpc
from grpc_health.v1 import health_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from serving.server.batching_cancellation import on_behalf_of
from serving.server.core import ServerCore
from serving.server.status import as_status
from serving.server.transport import Transport

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
        """Examples in, the results of several heads out."""
        return _answer(context, lambda: self._core.multi_inference(request, context.time_remaining()))


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """tensorflow.serving.ModelService."""

    def __init__(self, core: ServerCore) -> None:
        self._core = core

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The states of a model's versions."""
        return _answer(context, lambda: self._core.status(request))

    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Other models in place of those that are served."""
        return _answer(context, lambda: self._core.reload(request, context.is_active))


def start_server(
    core: ServerCore,
    host: str,
    port: int,
    max_threads: int,
    transport: Transport | None = None,
    interceptors: Sequence[grpc.ServerInterceptor] = (),
    services: Sequence[grpc.GenericRpcHandler] = (),
) -> tuple[grpc.Server, int]:
    """Opens the port (0: a free one) and returns the running server and the port's number; `services` are further ones.

    Raises:
      ServingError: the port is taken, or the host is not this machine's.
    """
    transport = transport or Transport()
    server = grpc.server(
        futures.ThreadPoolExecutor(max_threads), options=transport.options(), interceptors=interceptors
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(core), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(core), server)
    server.add_generic_rpc_handlers(services)
    if transport.health is not None:
        health_pb2_grpc.add_HealthServicer_to_server(transport.health, server)
    bound = transport.open(server, host, port)
    server.start()
    return server, bound


def _answer(context: grpc.ServicerContext, call: Callable[[], Response]) -> Response:
    try:
        with on_behalf_of(context):
            return call()
    except Exception as error:
        refuse(context, error)


def refuse(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    """Ends a call with the status of an error."""
    status = as_status(error)
    message = status.message
    if len(message.encode()) > MAX_MESSAGE_BYTES:
        message = message.encode()[:MAX_MESSAGE_BYTES].decode("utf-8", "ignore") + "...TRUNCATED"
    context.abort(grpc.StatusCode[status.code.name], message)
    raise AssertionError("abort raises")
