"""What does a model answer? Predict, Classify, Regress and MultiInference: requests to responses, without transport."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import numpy as np
from absl import logging
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, inference_pb2, model_pb2, predict_pb2, regression_pb2

from serving.server import examples, multi_inference, tensors
from serving.server.engine import Engine
from serving.server.examples import DEFAULT_SIGNATURE, example_signature
from serving.server.status import Code, StatusError, invalid

_PREDICT_METHODS = ("tensorflow/serving/predict", examples.CLASSIFY_METHOD, examples.REGRESS_METHOD)
_MOST_LOGGED = 32  # values of an input


class Servables(Protocol):
    """What can be asked: all models of a server, or one that is only just being loaded."""

    def use(
        self, name: str, number: int | None = None, label: str | None = None
    ) -> AbstractContextManager[tuple[int, Engine]]:
        """Lends the engine of a version."""


class Inference:
    """The calls of PredictionService that run a model; every refusal is a StatusError with the stock server's text.

    The order of checks is the stock server's: model spec, servable, signature, inputs, output filter, run.
    """

    def __init__(
        self,
        servables: Servables,
        is_tensor_content: bool = False,
        is_method_checked: bool = False,
        writes_log: bool = False,
    ) -> None:
        """Answers from `servables`.

        Args:
          servables: look-up of what is served.
          is_tensor_content: Predict answers with packed bytes in place of typed fields.
          is_method_checked: the method name of a signature has to be that of the call.
          writes_log: see `log`.
        """
        self._servables = servables
        self._is_tensor_content = is_tensor_content
        self._is_method_checked = is_method_checked
        self._writes_log = writes_log

    def predict(self, request: predict_pb2.PredictRequest, timeout_s: float | None) -> predict_pb2.PredictResponse:
        """Runs a signature on named tensors."""
        with self.lend(checked_spec(request)) as (number, engine):
            key = request.model_spec.signature_name or DEFAULT_SIGNATURE
            if key not in engine.signatures:
                raise StatusError(Code.FAILED_PRECONDITION, f'Serving signature key "{key}" not found.')
            signature = engine.signatures[key]
            if self._is_method_checked and signature.method_name not in _PREDICT_METHODS:
                raise StatusError(
                    Code.INTERNAL,
                    f"Expected prediction signature method_name to be one of {{{', '.join(_PREDICT_METHODS)}}}. "
                    f"Was: {signature.method_name}",
                )
            feeds = predict_feeds(signature, request.inputs)
            names = predict_outputs(signature, request.output_filter)
            arrays = (array for _, array in feeds)
            self.log(engine, request.model_spec.name, key, dict(zip(sorted(signature.inputs), arrays, strict=True)))
            values = engine.run(feeds, [signature.outputs[name].name for name in names], timeout_s)
        response = predict_pb2.PredictResponse()
        set_spec(response.model_spec, request.model_spec.name, number, key)
        for name, value in zip(names, values, strict=True):
            tensors.encode(value, response.outputs[name], self._is_tensor_content)
        return response

    def classify(
        self, request: classification_pb2.ClassificationRequest, timeout_s: float | None
    ) -> classification_pb2.ClassificationResponse:
        """Runs a signature `inputs` -> `classes` and / or `scores` on tf.train.Examples."""
        with self.lend(checked_spec(request)) as (number, engine):
            key, signature = example_signature(engine, request.model_spec.signature_name)
            names = examples.classify_outputs(signature, self._is_method_checked)
            listed = examples.serialized_examples(request.input)
            columns = _columns(engine, signature, names, listed, timeout_s)
        response = classification_pb2.ClassificationResponse()
        set_spec(response.model_spec, request.model_spec.name, number, key)
        examples.classification_result(columns, len(listed), response.result)
        return response

    def regress(
        self, request: regression_pb2.RegressionRequest, timeout_s: float | None
    ) -> regression_pb2.RegressionResponse:
        """Runs a signature `inputs` -> `outputs` on tf.train.Examples."""
        with self.lend(checked_spec(request)) as (number, engine):
            key, signature = example_signature(engine, request.model_spec.signature_name)
            names = examples.regress_outputs(signature, self._is_method_checked)
            listed = examples.serialized_examples(request.input)
            columns = _columns(engine, signature, names, listed, timeout_s)
        response = regression_pb2.RegressionResponse()
        set_spec(response.model_spec, request.model_spec.name, number, key)
        examples.regression_result(columns, len(listed), response.result)
        return response

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, timeout_s: float | None
    ) -> inference_pb2.MultiInferenceResponse:
        """Runs several Classify and Regress signatures of one model on the same examples, in one run."""
        first = request.tasks[0] if request.tasks else inference_pb2.InferenceTask()
        response = inference_pb2.MultiInferenceResponse()
        with self.lend(first.model_spec) as (number, engine):
            heads = multi_inference.heads(engine, request.tasks, self._is_method_checked)
            listed = examples.serialized_examples(request.input)
            multi_inference.run(engine, heads, listed, timeout_s, response)
        for head, result in zip(heads, response.results, strict=True):
            set_spec(result.model_spec, first.model_spec.name, number, head.key)
        return response

    def log(self, engine: Engine, name: str, key: str, inputs: Mapping[str, np.ndarray]) -> None:
        """Writes into the log what the model declares for it of a request's inputs, such as seeds, and nothing else."""
        logged = engine.declared.logged(key) if self._writes_log else ()
        told = ", ".join(f"{alias} {_shortened(inputs[alias])}" for alias in logged if alias in inputs)
        if told:
            logging.info("model %r, signature %r: %s", name, key, told)

    @contextmanager
    def lend(self, spec: model_pb2.ModelSpec) -> Iterator[tuple[int, Engine]]:
        """Lends the engine that a model spec asks for, with its version.

        Raises:
          StatusError: INVALID_ARGUMENT or NOT_FOUND.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        number = spec.version.value if spec.HasField("version") else None
        label = spec.version_label if spec.HasField("version_label") else None
        with self._servables.use(spec.name, number, label) as found:
            yield found


def checked_spec(request: Any) -> model_pb2.ModelSpec:
    """The model spec of a request.

    Raises:
      StatusError: INVALID_ARGUMENT, it has none.
    """
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return request.model_spec


def set_spec(spec: model_pb2.ModelSpec, name: str, number: int, signature: str = "") -> None:
    """Writes which version of which model has answered, and by which signature."""
    spec.name = name
    spec.version.value = number
    spec.signature_name = signature


def _columns(
    engine: Engine,
    signature: meta_graph_pb2.SignatureDef,
    names: Sequence[str],
    listed: np.ndarray,
    timeout_s: float | None,
) -> dict[str, np.ndarray]:
    fetches = [signature.outputs[name].name for name in names]
    values = engine.run([(signature.inputs["inputs"].name, listed)], fetches, timeout_s)
    return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}


def _shortened(array: np.ndarray) -> str:
    return np.array2string(array, threshold=_MOST_LOGGED, max_line_width=10**4)


def _joined(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


def predict_feeds(signature: meta_graph_pb2.SignatureDef, inputs: Any) -> list[tuple[str, np.ndarray]]:
    """The tensors to feed; SignatureDef.defaults stand in for inputs that are not sent."""
    sent, known = set(inputs), set(signature.inputs)
    if len(sent) > len(known) or (len(sent) < len(known) and not signature.defaults):
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(known)} len({{{_joined(sent)}}}) != "
            f"len({{{_joined(known)}}}). Sent extra: {{{_joined(sent - known)}}}. "
            f"Missing but required: {{{_joined(known - sent)}}}."
        )
    feeds = []
    for alias in sorted(known):
        name = signature.inputs[alias].name
        if alias not in sent and alias not in signature.defaults:
            raise invalid(
                f"Signature input alias: {alias}(feed name: {name}) not found in request and no default value "
                f"provided. Inputs expected to be in the request {{{_joined(sent)}}}, or default input alias set: "
                f"{_joined(signature.defaults)}"
            )
        try:
            feeds.append((name, tensors.decode(inputs[alias] if alias in sent else signature.defaults[alias])))
        except ValueError as error:
            raise invalid(f"tensor parsing error: {alias}") from error
    if sent - known:
        raise invalid(
            f"Inputs contains invalid name. Used request inputs: {_joined(sent & known)}, "
            f"request input: {_joined(sent)}"
        )
    return feeds


def predict_outputs(signature: meta_graph_pb2.SignatureDef, output_filter: Iterable[str]) -> list[str]:
    """The outputs to fetch; without a filter all of them."""
    names: list[str] = []
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{_joined(signature.outputs)}}}."
            )
        if alias in names:
            raise invalid(f"duplicate output tensor alias: {alias}")
        names.append(alias)
    return names or sorted(signature.outputs)
