"""What does each REST path answer? Method, path and body to a code and a body; the transport is in rest_server."""

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.server import json_examples, json_tensor, rest_answers
from serving.server.core import ServerCore
from serving.server.events import HEADERS, Events, Last, event
from serving.server.rest_json import parse
from serving.server.rest_json_reader import encoded
from serving.server.status import Code, StatusError, as_status, invalid
from serving.server.streams import Part, Streams

_VERSION = r"(?:(?:/versions/(?P<version>[0-9]+))|(?:/labels/(?P<label>[^/:]+)))?"
_CALL = re.compile(rf"/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<method>classify|regress|predict|stream)", re.IGNORECASE)
_LOOK = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?:/(?P<part>metadata))?", re.IGNORECASE)
_LONGEST_VERSION = 2**63 - 1

Write = Callable[[Mapping[str, tensor_pb2.TensorProto]], str]
_HTTP_CODES = {
    Code.OK: 200,
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.ABORTED: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INTERNAL: 500,
    Code.DATA_LOSS: 500,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}


@dataclass(frozen=True)
class RestAnswer:
    """What goes back, and what the metrics want to know of the request."""

    code: Code
    body: bytes
    model_name: str = ""
    method: str = ""
    num_examples: int = 0
    events: Events | None = None  # follow the body
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})

    @property
    def http_code(self) -> int:
        """The HTTP status that stands for the code."""
        return _HTTP_CODES[self.code]


def refusal(error: StatusError, model_name: str = "", method: str = "") -> RestAnswer:
    """The answer that tells an error."""
    return RestAnswer(error.code, encoded(rest_answers.error(error.message)), model_name, method)


class Paths(Protocol):
    """Paths of another protocol under /v1."""

    def answers(self, http_method: str, path: str) -> bool:
        """Whether a path is one of them."""

    def answer(
        self, http_method: str, path: str, body: Callable[[], bytes], timeout_s: Callable[[], float | None]
    ) -> RestAnswer:
        """As RestApi.answer."""


class RestApi:
    """The paths under /v1; every answer, also to nonsense, is the stock server's.

    `lists_models` answers GET /v1/models with the names of all models, which the stock server refuses; with `streams`,
    POST .../NAME:stream answers as :predict does, in parts. `others` go before all of it.
    """

    def __init__(
        self,
        core: ServerCore,
        lists_models: bool = False,
        streams: Streams | None = None,
        others: Sequence[Paths] = (),
    ) -> None:
        self._core = core
        self._others = others
        self._streams = streams
        self._lists_models = lists_models
        self._calls = {"predict": self._predict, "classify": self._classify, "regress": self._regress}

    def answer(
        self, http_method: str, path: str, body: Callable[[], bytes], timeout_s: Callable[[], float | None]
    ) -> RestAnswer:
        """Answers a request; `body` may raise StatusError, `timeout_s` tells the seconds left when the model runs."""
        other = self._other(http_method, path)
        if other is not None:
            return other.answer(http_method, path, body, timeout_s)
        found = {"POST": _CALL, "GET": _LOOK}.get(http_method, re.compile("(?!)")).fullmatch(path)
        groups = found.groupdict() if found else {}
        if groups.get("method") == "stream" and self._streams is None:
            found, groups = None, {}
        if len(groups.get("version") or "") > 19 or int(groups.get("version") or 0) > _LONGEST_VERSION:
            return RestAnswer(Code.INVALID_ARGUMENT, b"")  # the stock server gives no reason here
        spec = _spec(groups)
        method = groups.get("method") or ""
        try:
            if not found or method != method.lower():
                raise invalid(f"Malformed request: {http_method} {path}")
            if not method:
                return RestAnswer(Code.OK, encoded(self._look(spec, groups["part"])), spec.name)
            if method == "stream":
                return RestAnswer(
                    Code.OK, b"", spec.name, method, events=self._stream(spec, body(), timeout_s), headers=HEADERS
                )
            text, num_examples = self._calls[method](spec, body(), timeout_s)
            return RestAnswer(Code.OK, encoded(text), spec.name, method, num_examples)
        except RecursionError:  # by reading the document, or by telling what is wrong with it
            message = "JSON Parse error: lists or objects are nested too deeply for this server"
            return refusal(invalid(message), spec.name, method)
        except Exception as error:
            return refusal(as_status(error), spec.name, method)

    def is_another_protocol(self, path: str) -> bool:
        """Whether a path is none of TensorFlow Serving's."""
        return any(self._other(method, path) for method in ("GET", "POST"))

    def _other(self, http_method: str, path: str) -> Paths | None:
        return next((other for other in self._others if other.answers(http_method, path)), None)

    def unready_models(self) -> list[str]:
        """The models of which no version is available."""
        return [name for name in self._core.model_names() if not self._is_available(name)]

    def _is_available(self, name: str) -> bool:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=model_pb2.ModelSpec(name=name))
        try:
            found = self._core.status(request).model_version_status
        except StatusError:  # no version has been seen yet
            return False
        return any(version.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE for version in found)

    def _predict(
        self, spec: model_pb2.ModelSpec, body: bytes, timeout_s: Callable[[], float | None]
    ) -> tuple[str, int]:
        document = parse(body)
        request = _request(spec, document)
        infos = self._core.signature_inputs(request.model_spec)
        if not infos:
            raise invalid(f"Failed to get input map for signature: {request.model_spec.signature_name or 'DEFAULT'}")
        write = _fill(request, document, infos)
        response = self._core.predict(request, timeout_s())
        return write(response.outputs), 0

    def _stream(self, spec: model_pb2.ModelSpec, body: bytes, timeout_s: Callable[[], float | None]) -> Events:
        """The events of a stream whose first part is computed, so that a refusal still has a code of its own."""
        assert self._streams is not None, "the path is not known otherwise"
        document = parse(body)
        request = _request(spec, document)
        rows = document["instances"][:1] if json_tensor.is_row_format(document) else [document["inputs"]]
        sent = rows[0] if json_tensor.is_named_values(rows[0]) else {}
        write = _fill(request, document, self._streams.inputs(spec, sent))
        limit = timeout_s()  # for each part
        parts = self._streams.parts(request, lambda: limit)
        return Events(_told(next(parts), parts, write))

    def _classify(
        self, spec: model_pb2.ModelSpec, body: bytes, timeout_s: Callable[[], float | None]
    ) -> tuple[str, int]:
        request = classification_pb2.ClassificationRequest(model_spec=spec)
        document = parse(body)
        request.model_spec.signature_name = json_tensor.signature_name(document)
        json_examples.fill_examples(document, request)
        result = self._core.classify(request, timeout_s()).result
        return rest_answers.classifications(result), len(result.classifications)

    def _regress(
        self, spec: model_pb2.ModelSpec, body: bytes, timeout_s: Callable[[], float | None]
    ) -> tuple[str, int]:
        request = regression_pb2.RegressionRequest(model_spec=spec)
        document = parse(body)
        request.model_spec.signature_name = json_tensor.signature_name(document)
        json_examples.fill_examples(document, request)
        result = self._core.regress(request, timeout_s()).result
        return rest_answers.regressions(result), len(result.regressions)

    def _look(self, spec: model_pb2.ModelSpec, part: str | None) -> str:
        if not spec.name:
            if self._lists_models and not part:
                return rest_answers.model_names(self._core.model_names())
            raise invalid("Missing model name in request.")
        if part == "metadata":
            request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
            return rest_answers.metadata(self._core.metadata(request))
        return rest_answers.model_status(self._core.status(get_model_status_pb2.GetModelStatusRequest(model_spec=spec)))


def _request(spec: model_pb2.ModelSpec, document: Mapping[str, Any]) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest(model_spec=spec)
    request.model_spec.signature_name = json_tensor.signature_name(document)
    return request


def _fill(request: predict_pb2.PredictRequest, document: Mapping[str, Any], infos: Mapping[str, Any]) -> Write:
    """Writes what a document holds into the request, and returns how answers to it are laid out."""
    if json_tensor.is_row_format(document):
        json_tensor.fill_instances(document["instances"], infos, request)
        return rest_answers.predictions
    json_tensor.fill_inputs(document["inputs"], infos, request)
    return rest_answers.outputs


def _told(first: Part, others: Generator[Part], write: Write) -> Generator[bytes | Last]:
    """An event for each part; an error that comes between them is one too, and the last."""
    with closing(others):
        try:
            yield event(write(first.response("").outputs))
            for part in others:
                yield event(write(part.response("").outputs))
        except Exception as error:
            status = as_status(error)
            yield Last(event(rest_answers.error(status.message), "error"), status.code)


def _spec(groups: Mapping[str, str | None]) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=_decoded(groups.get("name")))
    if groups.get("version"):
        spec.version.value = int(groups["version"] or 0)
    elif groups.get("label"):
        spec.version_label = _decoded(groups["label"])
    return spec


def _decoded(text: str | None) -> str:
    return unquote_to_bytes(encoded(text or "")).decode("utf-8", "replace")
