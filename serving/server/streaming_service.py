"""How do streams go over gRPC? A service of our own beside PredictionService, with its messages: docs/streaming.md."""

import time
from collections.abc import Iterator
from typing import Any

import grpc
from tensorflow_serving.apis import predict_pb2

from serving.server.batching_cancellation import Wanted
from serving.server.metrics import Metrics
from serving.server.services import refuse
from serving.server.status import Code, StatusError
from serving.server.streams import Streams

SERVICE = "kerasllm.serving.StreamingService"
METHOD = "PredictStream"
_ENTRYPOINT = "GRPC"


def streaming_service(streams: Streams, metrics: Metrics) -> grpc.GenericRpcHandler:
    """The service, to be given to `start_server`: a PredictRequest in, PredictResponses out, each with all so far."""

    def answer(request: predict_pb2.PredictRequest, context: grpc.ServicerContext) -> Iterator[Any]:
        start, name, code, wanted = time.monotonic(), request.model_spec.name, Code.CANCELLED, Wanted()
        if not context.add_callback(wanted.end):
            return
        parts = streams.parts(request, context.time_remaining, wanted)
        try:
            with metrics.in_flight(_ENTRYPOINT):
                for part in parts:
                    yield part.response(name)
                    if wanted.is_ended:
                        return
            code = Code.OK
        except Exception as error:
            code = error.code if isinstance(error, StatusError) else Code.INTERNAL
            refuse(context, error)
        finally:
            parts.close()
            metrics.answered(_ENTRYPOINT, name, METHOD, code, start)

    handler = grpc.unary_stream_rpc_method_handler(
        answer,
        request_deserializer=predict_pb2.PredictRequest.FromString,
        response_serializer=predict_pb2.PredictResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler})
