"""What does each call answer? Requests to responses, without any transport: gRPC and REST handlers stand on top."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    input_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.server import tensors
from serving.server.engine import Engine
from serving.server.status import Code, StatusError, invalid
from serving.server.versions import Models

DEFAULT_SIGNATURE = "serving_default"


class ServerCore:
    """The calls of PredictionService and ModelService; every refusal is a StatusError with the stock server's text.

    The order of checks is the stock server's: model spec, servable, signature, inputs, output filter, run.
    """

    def __init__(self, models: Models) -> None:
        self._models = models

    def predict(self, request: predict_pb2.PredictRequest, timeout_s: float | None) -> predict_pb2.PredictResponse:
        """Runs a signature on named tensors."""
        with self._servable(request) as (number, engine):
            key = request.model_spec.signature_name or DEFAULT_SIGNATURE
            if key not in engine.signatures:
                raise StatusError(Code.FAILED_PRECONDITION, f'Serving signature key "{key}" not found.')
            signature = engine.signatures[key]
            feeds = _predict_feeds(signature, request.inputs)
            names = _predict_outputs(signature, request.output_filter)
            values = engine.run(feeds, [signature.outputs[name].name for name in names], timeout_s)
        response = predict_pb2.PredictResponse()
        _set_spec(response.model_spec, request.model_spec.name, number, key)
        for name, value in zip(names, values, strict=True):
            tensors.encode(value, response.outputs[name])
        return response

    def classify(
        self, request: classification_pb2.ClassificationRequest, timeout_s: float | None
    ) -> classification_pb2.ClassificationResponse:
        """Runs a signature `inputs` -> `classes` and / or `scores` on tf.train.Examples."""
        with self._servable(request) as (number, engine):
            key, signature = _example_signature(engine, request.model_spec.signature_name)
            _check_classify_signature(signature)
            examples = _serialized_examples(request.input)
            names = [name for name in ("classes", "scores") if name in signature.outputs]
            fetches = [signature.outputs[name].name for name in names]
            values = engine.run([(signature.inputs["inputs"].name, examples)], fetches, timeout_s)
        columns = {name: np.asarray(value) for name, value in zip(names, values, strict=True)}
        _check_classify_outputs(columns, len(examples))
        response = classification_pb2.ClassificationResponse()
        _set_spec(response.model_spec, request.model_spec.name, number, key)
        classes, scores = columns.get("classes"), columns.get("scores")
        response.result.SetInParent()
        for row in range(len(examples)):
            _add_classes(response.result.classifications.add(), classes, scores, row)
        return response

    def regress(
        self, request: regression_pb2.RegressionRequest, timeout_s: float | None
    ) -> regression_pb2.RegressionResponse:
        """Runs a signature `inputs` -> `outputs` on tf.train.Examples."""
        with self._servable(request) as (number, engine):
            key, signature = _example_signature(engine, request.model_spec.signature_name)
            _check_regress_signature(signature)
            examples = _serialized_examples(request.input)
            feeds = [(signature.inputs["inputs"].name, examples)]
            output = np.asarray(engine.run(feeds, [signature.outputs["outputs"].name], timeout_s)[0])
        _check_regress_output(output, len(examples))
        response = regression_pb2.RegressionResponse()
        _set_spec(response.model_spec, request.model_spec.name, number, key)
        response.result.SetInParent()
        for value in output.reshape(-1).tolist():
            response.result.regressions.add(value=value)
        return response

    def model_names(self) -> list[str]:
        """The names of all models, sorted."""
        return self._models.names()

    def signature_inputs(self, spec: model_pb2.ModelSpec) -> dict[str, meta_graph_pb2.TensorInfo]:
        """The inputs of a signature by alias, which REST needs to read JSON by."""
        key = spec.signature_name or DEFAULT_SIGNATURE
        with self._servable(predict_pb2.PredictRequest(model_spec=spec)) as (_, engine):
            if key not in engine.signatures:
                raise invalid(f'Serving signature name: "{key}" not found in signature def')
            return dict(engine.signatures[key].inputs)

    def metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Tells a model's signatures; the fields asked for are checked before the model is looked for."""
        _check_spec(request)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for name in request.metadata_field:
            if name != "signature_def":
                raise invalid(f"Metadata field {name} is not supported")
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with self._servable(request) as (number, engine):
            for key, signature in engine.signatures.items():
                signatures.signature_def[key].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        _set_spec(response.model_spec, request.model_spec.name, number)
        response.metadata["signature_def"].Pack(signatures)
        return response

    def status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Tells the state of one version or of all, newest first; a version label is not looked at."""
        _check_spec(request)
        spec = request.model_spec
        versions = self._models.versions(spec.name)
        if spec.HasField("version"):
            versions = [version for version in versions if version.number == spec.version.value]
            if not versions:
                raise StatusError(Code.NOT_FOUND, f"Could not find version {spec.version.value} of model {spec.name}")
        if not versions:
            raise StatusError(Code.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for version in versions:
            status = response.model_version_status.add(version=version.number, state=int(version.state))
            status.status.SetInParent()
            if version.error is not None:
                status.status.error_code = int(version.error.code)
                status.status.error_message = version.error.message
        return response

    @contextmanager
    def _servable(self, request: Any) -> Iterator[tuple[int, Engine]]:
        _check_spec(request)
        spec = request.model_spec
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        if spec.HasField("version_label"):
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        with self._models.use(spec.name, spec.version.value if spec.HasField("version") else None) as found:
            yield found


def _check_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")


def _set_spec(spec: model_pb2.ModelSpec, name: str, number: int, signature: str = "") -> None:
    spec.name = name
    spec.version.value = number
    spec.signature_name = signature


def _joined(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


def _predict_feeds(signature: meta_graph_pb2.SignatureDef, inputs: Any) -> list[tuple[str, np.ndarray]]:
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


def _predict_outputs(signature: meta_graph_pb2.SignatureDef, output_filter: Iterable[str]) -> list[str]:
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


def _example_signature(engine: Engine, name: str) -> tuple[str, meta_graph_pb2.SignatureDef]:
    key = name or DEFAULT_SIGNATURE
    if key not in engine.signatures:
        raise invalid(f"No signature was found with the name: {key}")
    return key, engine.signatures[key]


def _serialized_examples(request_input: input_pb2.Input) -> np.ndarray:
    """The examples as strings, each behind the shared context if there is one (protobuf merges them on parsing)."""
    if request_input.WhichOneof("kind") == "example_list_with_context":
        listed = request_input.example_list_with_context
        context, examples = listed.context.SerializeToString(), listed.examples
    else:
        context, examples = b"", request_input.example_list.examples
    if not examples:
        raise invalid("Input is empty.")
    return np.array([context + example.SerializeToString() for example in examples], np.object_)


def _check_classify_signature(signature: meta_graph_pb2.SignatureDef) -> None:
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if "inputs" not in signature.inputs:
        raise invalid(f"No classification inputs found in SignatureDef: {signature}")
    if "classes" not in signature.outputs and "scores" not in signature.outputs:
        raise invalid(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {signature}"
        )


def _check_classify_outputs(columns: dict[str, np.ndarray], num_examples: int) -> None:
    for name, kind in (("classes", np.object_), ("scores", np.float32)):
        if name not in columns:
            continue
        array = columns[name]
        if array.ndim != 2:
            shape = tensors.shape_text(array.shape)
            raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {shape}")
        if array.dtype != kind:
            raise invalid(f"Expected {name} Tensor of {'DT_STRING' if kind is np.object_ else 'DT_FLOAT'}.")
        _check_batch(num_examples, len(array))
    if len({array.shape for array in columns.values()}) > 1:
        raise invalid("Tensors class and score should match in number of classes.")


def _add_classes(
    classifications: classification_pb2.Classifications, classes: np.ndarray | None, scores: np.ndarray | None, row: int
) -> None:
    columns = classes if classes is not None else scores
    assert columns is not None, "the signature has classes or scores"
    for column in range(columns.shape[1]):
        added = classifications.classes.add()
        if classes is not None:
            added.label = classes[row, column].decode("utf-8", "replace")
        if scores is not None:
            added.score = scores[row, column]


def _check_regress_signature(signature: meta_graph_pb2.SignatureDef) -> None:
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if "inputs" not in signature.inputs:
        raise invalid(f"No regression inputs found in SignatureDef: {signature}")
    if "outputs" not in signature.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {signature}")


def _check_regress_output(output: np.ndarray, num_examples: int) -> None:
    if output.ndim != 1 and not (output.ndim == 2 and output.shape[1] == 1):
        shape = tensors.shape_text(output.shape)
        raise invalid(f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {shape}")
    if output.dtype != np.float32:
        raise invalid("Expected output Tensor of DT_FLOAT.")
    _check_batch(num_examples, len(output))


def _check_batch(num_inputs: int, num_outputs: int) -> None:
    if num_inputs != num_outputs:
        raise invalid(f"Input batch size did not match output batch size: {num_inputs} vs. {num_outputs}")
