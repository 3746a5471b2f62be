"""How does a program ask a model server? One client over gRPC, for the embedded and the stock server alike."""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np

from kerasllm.errors import DeadlineExceeded, InvalidRequest, ModelNotFound, ServerUnavailable, ServingError
from serving.clients import arrays, messages
from serving.clients.channel import Retries, Tls, open_channel

_PREDICTION = "/tensorflow.serving.PredictionService/"
_MODEL = "/tensorflow.serving.ModelService/"
_STREAMING = "/kerasllm.serving.StreamingService/"
_STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}
_ERRORS: dict[grpc.StatusCode, type[ServingError]] = {
    grpc.StatusCode.UNAVAILABLE: ServerUnavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ServerUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: ModelNotFound,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.UNIMPLEMENTED: InvalidRequest,
}


class StreamingNotOffered(ServingError):
    """The server speaks TensorFlow Serving's protocol and no more, or the model declares no streaming."""


@dataclass(frozen=True)
class VersionStatus:
    """What the server says of one version of the model."""

    version: int
    state: str  # START, LOADING, AVAILABLE, UNLOADING or END
    error: str = ""


class PredictClient:
    """Calls one model on one server; threads may share it.

        with PredictClient("127.0.0.1:8500", "sentiment") as client:
            client.classify(["Profit rose."])  # [{"label": "positive", "probabilities": [0.98, 0.01, 0.01]}]

    Args:
      address: HOST:PORT.
      model_name: as the server knows it.
      deadline_s: seconds that a call may take, with all its attempts.
      version: of the model; None asks for the newest that the server has.
      tls: what to trust and to show; None: no TLS.
      retries: of calls that find the server unavailable; None: the usual ones.

    Each call raises:
      ServerUnavailable: nobody listens there, or the server is overloaded.
      DeadlineExceeded: no answer within `deadline_s`.
      ModelNotFound: the server has no such model or version.
      InvalidRequest: the server refused names, types or shapes; its own text is kept.
      ServingError: any other failure.
    """

    def __init__(
        self,
        address: str,
        model_name: str,
        deadline_s: float = 10.0,
        version: int | None = None,
        tls: Tls | None = None,
        retries: Retries | None = None,
    ) -> None:
        self.address, self.model_name, self.deadline_s, self.version = address, model_name, deadline_s, version
        self.retries = retries or Retries()
        self._channel = open_channel(address, tls)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def predict(
        self, inputs: Mapping[str, np.ndarray | Sequence[Any]], signature: str = "serving_default"
    ) -> dict[str, np.ndarray]:
        """Runs a signature: arrays or lists by input name in, arrays by output name out (strings as bytes)."""
        request = self._predict_request(inputs, signature)
        return _arrays(self._call(_PREDICTION + "Predict", request, messages.PredictResponse))

    def predict_stream(self, inputs: Mapping[str, np.ndarray | Sequence[Any]]) -> Generator[dict[str, np.ndarray]]:
        """The outputs so far, again and again until they are whole; the embedded server alone offers it.

        Who closes the iterator ends the computing. `deadline_s` is the time for all of it.

        Raises:
          StreamingNotOffered: by a stock server, or for a model that does not declare how it is streamed.
        """
        method = self._channel.unary_stream(
            _STREAMING + "PredictStream",
            request_serializer=messages.PredictRequest.SerializeToString,
            response_deserializer=messages.PredictResponse.FromString,
        )
        call = method(self._predict_request(inputs), timeout=self.deadline_s)
        try:
            for response in call:
                yield _arrays(response)
        except grpc.RpcError as error:
            if call.code() == grpc.StatusCode.UNIMPLEMENTED:
                raise StreamingNotOffered(f"{self.address}: UNIMPLEMENTED: {call.details()}") from error
            raise self._explained(error) from error
        finally:
            call.cancel()

    def classify(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """For each text its label and the probabilities of all classes, in the model's order.

        Of a model with several heads each name begins with its head, such as `topic_label`.
        """
        if not texts:
            return []
        outputs = self.predict({"text": list(texts)})
        heads = [name.removesuffix("label") for name in sorted(outputs) if name.endswith("label")]
        if not heads or not all(f"{head}probabilities" in outputs for head in heads):
            raise InvalidRequest(
                f"model {self.model_name!r} is not a text classifier: it answers with {', '.join(sorted(outputs))}, "
                "not label and probabilities. Call predict() with its own inputs."
            )
        answers: list[dict[str, Any]] = [{} for _ in texts]
        for head in heads:
            for answer, label, shares in zip(
                answers, outputs[f"{head}label"], outputs[f"{head}probabilities"], strict=True
            ):
                answer |= {f"{head}label": label.decode("utf-8", "replace"), f"{head}probabilities": shares.tolist()}
        return answers

    def metadata(self) -> dict[str, dict[str, dict[str, str]]]:
        """The signatures: name -> {"inputs", "outputs"} -> tensor name -> a text such as `float [-1, 3]`."""
        request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._fill(request.model_spec)
        response = self._call(_PREDICTION + "GetModelMetadata", request, messages.GetModelMetadataResponse)
        signatures = messages.SignatureDefMap.FromString(response.metadata["signature_def"].value).signature_def
        return {
            name: {"inputs": _described(signatures[name].inputs), "outputs": _described(signatures[name].outputs)}
            for name in sorted(signatures)
            if not name.startswith("__")
        }

    def status(self) -> list[VersionStatus]:
        """The state of each version that the server has seen, newest first."""
        request = messages.GetModelStatusRequest()
        self._fill(request.model_spec)
        response = self._call(_MODEL + "GetModelStatus", request, messages.GetModelStatusResponse)
        return [
            VersionStatus(found.version, _STATES.get(found.state, str(found.state)), error=found.status.error_message)
            for found in response.model_version_status
        ]

    def _predict_request(self, inputs: Mapping[str, np.ndarray | Sequence[Any]], signature: str = "") -> Any:
        request = messages.PredictRequest()
        self._fill(request.model_spec)
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(arrays.to_proto(value))
        return request

    def _fill(self, spec: Any) -> None:
        spec.name = self.model_name
        if self.version is not None:
            spec.version.value = self.version

    def _call(self, method: str, request: Any, response: Any) -> Any:
        serialize: Callable[[Any], bytes] = type(request).SerializeToString
        call = self._channel.unary_unary(
            method, request_serializer=serialize, response_deserializer=response.FromString
        )
        end, pauses = time.monotonic() + self.deadline_s, self.retries.pauses()
        while True:
            try:
                return call(request, timeout=end - time.monotonic())
            except grpc.RpcError as error:
                pause = next(pauses, None) if error.code() == grpc.StatusCode.UNAVAILABLE else None
                if pause is None or time.monotonic() + pause >= end:
                    raise self._explained(error) from error
            time.sleep(pause)

    def _explained(self, error: Any) -> ServingError:
        code, text = error.code(), error.details()
        kind = _ERRORS.get(code, ServingError)
        hint = ""
        if code == grpc.StatusCode.UNAVAILABLE:
            hint = " Is the server running there?"
        elif kind is DeadlineExceeded:
            hint = f" No answer within {self.deadline_s} s; give a longer deadline."
        return kind(f"{self.address}: {code.name}: {(text or '').rstrip('.')}.{hint}")


def _arrays(response: Any) -> dict[str, np.ndarray]:
    return {name: arrays.to_array(proto) for name, proto in response.outputs.items()}


def _described(tensors: Any) -> dict[str, str]:
    return {
        name: f"{arrays.TYPE_NAMES.get(info.dtype, info.dtype)} {[dim.size for dim in info.tensor_shape.dim]}"
        for name, info in sorted(tensors.items())
    }
