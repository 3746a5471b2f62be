"""How are gRPC calls counted? By an interceptor around every handler."""

import time
from collections.abc import Callable
from typing import Any

import grpc

from serving.server.metrics import Metrics
from serving.server.status import Code

_COUNTED = ("Predict", "Classify", "Regress")  # the calls that the stock server counts
_ENTRYPOINT = "GRPC"


class MetricsInterceptor(grpc.ServerInterceptor):
    """Tells the metrics of calls; what they answer stays as it is."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """The handler of a call, with the counting around it."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method.rpartition("/")[2]
        if handler is None or handler.unary_unary is None or method not in _COUNTED:
            return handler

        def behave(request: Any, context: grpc.ServicerContext) -> Any:
            start, code = time.monotonic(), Code.OK
            with self._metrics.in_flight(_ENTRYPOINT):
                try:
                    return handler.unary_unary(request, context)
                except Exception:  # how a call is aborted
                    code = _code(context)
                    raise
                finally:
                    num_examples = 0 if method == "Predict" else _num_examples(request.input)
                    self._metrics.answered(_ENTRYPOINT, request.model_spec.name, method, code, start, num_examples)

        return grpc.unary_unary_rpc_method_handler(behave, handler.request_deserializer, handler.response_serializer)


def _code(context: Any) -> Code:
    status = context.code()
    return Code[status.name] if status else Code.UNKNOWN


def _num_examples(request_input: Any) -> int:
    kind = request_input.WhichOneof("kind")
    return len(getattr(request_input, kind).examples) if kind else 0
