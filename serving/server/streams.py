"""How does an answer come in parts? A signature that begins it and one that goes on, run in turn in the server.

The model declares both (docs/streaming.md). What is carried from one part to the next stays here. Each part is a run
like any other, so the batching queue joins the parts of several streams, and between two parts nothing is computed.
"""

from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2

from serving.server import tensors
from serving.server.batching_cancellation import Call, on_behalf_of
from serving.server.declarations import ChatTemplate, StreamContract
from serving.server.engine import Engine
from serving.server.inference import Inference, checked_spec, predict_feeds, predict_outputs, set_spec
from serving.server.metrics import Metrics
from serving.server.status import Code, StatusError, invalid

MAX_ROWS = 1024  # of a stream: what a client leaves out is filled in for each of them
SecondsLeft = Callable[[], float | None]


@dataclass(frozen=True)
class Part:
    """What a version has answered so far: arrays by output name."""

    version: int
    signature: str
    outputs: Mapping[str, np.ndarray]

    def response(self, model_name: str) -> predict_pb2.PredictResponse:
        """The same as the answer of a Predict call."""
        response = predict_pb2.PredictResponse()
        set_spec(response.model_spec, model_name, self.version, self.signature)
        for name, value in self.outputs.items():
            tensors.encode(value, response.outputs[name])
        return response


@dataclass(frozen=True)
class Declared:
    """What the newest version of a model declares, and the names that its first signature knows."""

    inputs: frozenset[str]
    outputs: frozenset[str]
    chat: ChatTemplate


class Streams:
    """Answers of models that declare how they come in parts. Every refusal is a StatusError."""

    def __init__(self, core: Inference, metrics: Metrics | None = None) -> None:
        self._core = core
        self._metrics = metrics or Metrics()

    def declared(self, spec: model_pb2.ModelSpec) -> Declared:
        """What a version says of itself.

        Raises:
          StatusError: NOT_FOUND, or UNIMPLEMENTED: it cannot be streamed.
        """
        with self._core.lend(spec) as (_, engine):
            first = engine.signatures[engine.declared.contract().first]
            return Declared(frozenset(first.inputs), frozenset(first.outputs), engine.declared.chat)

    def inputs(self, spec: model_pb2.ModelSpec, sent: Collection[str]) -> dict[str, meta_graph_pb2.TensorInfo]:
        """The inputs of a stream by alias, which REST needs to read JSON by, without what may be left out and is.

        Errors are those of `declared`.
        """
        with self._core.lend(spec) as (_, engine):
            contract = engine.declared.contract()
            chunk = {contract.chunk: engine.signatures[contract.next].inputs[contract.chunk]}
            known = {**engine.signatures[contract.first].inputs, **chunk}
            optional = {*contract.defaults, contract.chunk}
            return {name: info for name, info in known.items() if name in sent or name not in optional}

    def whole(self, request: predict_pb2.PredictRequest, timeout_s: float | None) -> Part:
        """The answer at once; inputs with a default may be left out."""
        with self._core.lend(checked_spec(request)) as (number, engine):
            contract = engine.declared.contract()
            signature = engine.signatures[contract.whole]
            names = predict_outputs(signature, request.output_filter)
            feeds = _feeds(signature, _completed(request, contract, signature))
            self._core.log(engine, request.model_spec.name, contract.whole, feeds)
            return Part(number, contract.whole, _run(engine, signature, feeds, names, timeout_s))

    def parts(
        self, request: predict_pb2.PredictRequest, seconds_left: SecondsLeft, call: Call | None = None
    ) -> Generator[Part]:
        """The answer so far, again and again until it is whole.

        The version is lent until the iterator ends or is closed.

        Args:
          request: inputs of the first signature, of which those with a default may be left out; also how many steps a
            part goes.
          seconds_left: asked before each part.
          call: for whom it is computed; what waits in a batching queue leaves it when the call ends.
        """
        spec = checked_spec(request)
        with self._core.lend(spec) as (number, engine), self._metrics.streaming(spec.name) as count_part:
            contract = engine.declared.contract()
            if spec.signature_name not in ("", contract.first):
                raise StatusError(
                    Code.FAILED_PRECONDITION,
                    f'Signature "{spec.signature_name}" begins no stream; of this model "{contract.first}" does.',
                )
            first, following = engine.signatures[contract.first], engine.signatures[contract.next]
            shown = [
                name for name in predict_outputs(first, request.output_filter) if _is_shown(name, contract, request)
            ]
            fetched = list(dict.fromkeys((*shown, *contract.carried)))
            steps = _chunk(request, contract, following)
            settings = _feeds(first, _completed(request, contract, first))
            signature, feeds = first, settings
            self._core.log(engine, spec.name, contract.first, settings)
            while True:
                with on_behalf_of(call) if call else nullcontext():
                    outputs = _run(engine, signature, feeds, fetched, seconds_left())
                count_part()
                yield Part(number, contract.first, {name: outputs[name] for name in shown})
                if outputs[contract.done].all():
                    return
                carried = {name: outputs[name] for name in contract.carried}
                signature = following
                kept = {name: settings[name] for name in following.inputs if name in settings}
                feeds = {**kept, **carried, contract.chunk: steps}


def _is_shown(name: str, contract: StreamContract, request: predict_pb2.PredictRequest) -> bool:
    """What is carried stays here unless the client names it."""
    return name not in contract.carried or name in request.output_filter


def _run(
    engine: Engine,
    signature: meta_graph_pb2.SignatureDef,
    feeds: Mapping[str, np.ndarray],
    names: list[str],
    timeout_s: float | None,
) -> dict[str, np.ndarray]:
    fed = [(signature.inputs[alias].name, array) for alias, array in feeds.items()]
    values = engine.run(fed, [signature.outputs[name].name for name in names], timeout_s)
    return dict(zip(names, map(np.asarray, values), strict=True))


def _feeds(signature: meta_graph_pb2.SignatureDef, inputs: Any) -> dict[str, np.ndarray]:
    return {
        alias: array
        for alias, (_, array) in zip(sorted(signature.inputs), predict_feeds(signature, inputs), strict=True)
    }


def _completed(
    request: predict_pb2.PredictRequest, contract: StreamContract, signature: meta_graph_pb2.SignatureDef
) -> Any:
    """The inputs that were sent, without the number of steps, and defaults for as many rows of the others."""
    completed = predict_pb2.PredictRequest()
    for name, proto in request.inputs.items():
        if name != contract.chunk:
            completed.inputs[name].CopyFrom(proto)
    rows = _num_rows(request)
    for name, value in contract.defaults.items():
        if name in signature.inputs and name not in completed.inputs:
            info = signature.inputs[name]
            kind = tf.as_dtype(info.dtype)
            row = np.array(value, object if kind == tf.string else kind.as_numpy_dtype)
            if kind == tf.string:
                row = np.vectorize(str.encode, otypes=[object])(row)
            tensors.encode(np.broadcast_to(row, (rows, *row.shape)), completed.inputs[name])
    return completed.inputs


def _num_rows(request: predict_pb2.PredictRequest) -> int:
    """The size of the first dimension of all that was sent.

    Raises:
      StatusError: there is none, there are more rows than a stream may have, or inputs differ in it.
    """
    rows = 0
    for name in sorted(request.inputs):
        shape = request.inputs[name].tensor_shape
        size = shape.dim[0].size if shape.dim else 0
        if not 0 < size <= MAX_ROWS:
            raise invalid(f"Input {name} has {size} rows; a stream has 1 to {MAX_ROWS}, in the first dimension.")
        if rows and size != rows:
            raise invalid(f"Input {name} has {size} rows and others have {rows}. Send a row for each prompt.")
        rows = size
    return rows or 1


def _chunk(
    request: predict_pb2.PredictRequest, contract: StreamContract, signature: meta_graph_pb2.SignatureDef
) -> np.ndarray:
    """How many steps each row goes in a part.

    Raises:
      StatusError: INVALID_ARGUMENT, they are no whole numbers of at least 1, one for each row.
    """
    kind = tf.as_dtype(signature.inputs[contract.chunk].dtype).as_numpy_dtype
    if contract.chunk not in request.inputs:
        return np.full(_num_rows(request), contract.chunk_size, kind)
    try:
        steps = tensors.decode(request.inputs[contract.chunk])
    except ValueError as error:
        raise invalid(f"tensor parsing error: {contract.chunk}") from error
    if steps.dtype != kind or steps.shape != (_num_rows(request),) or (steps < 1).any():
        raise invalid(
            f"{contract.chunk} has to be one whole number of at least 1 for each row, of type {kind.__name__}."
        )
    return steps
