"""How are tf.train.Examples classified and regressed? What such a signature has to be, and what its outputs say."""

from collections.abc import Mapping

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from serving.server import tensors
from serving.server.engine import Engine
from serving.server.status import invalid

DEFAULT_SIGNATURE = "serving_default"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"


def example_signature(engine: Engine, name: str) -> tuple[str, meta_graph_pb2.SignatureDef]:
    """The signature that a request names, and its name.

    Raises:
      StatusError: INVALID_ARGUMENT, there is none.
    """
    key = name or DEFAULT_SIGNATURE
    if key not in engine.signatures:
        raise invalid(f"No signature was found with the name: {key}")
    return key, engine.signatures[key]


def serialized_examples(request_input: input_pb2.Input) -> np.ndarray:
    """The examples as strings, each behind the shared context if there is one (protobuf merges them on parsing).

    Raises:
      StatusError: INVALID_ARGUMENT, there are none.
    """
    if request_input.WhichOneof("kind") == "example_list_with_context":
        listed = request_input.example_list_with_context
        context, examples = listed.context.SerializeToString(), listed.examples
    else:
        context, examples = b"", request_input.example_list.examples
    if not examples:
        raise invalid("Input is empty.")
    return np.array([context + example.SerializeToString() for example in examples], np.object_)


def classify_outputs(signature: meta_graph_pb2.SignatureDef, is_method_checked: bool = False) -> list[str]:
    """The outputs to compute for Classify.

    Raises:
      StatusError: INVALID_ARGUMENT, the signature does not classify examples.
    """
    if is_method_checked and signature.method_name != CLASSIFY_METHOD:
        raise invalid(
            f"Expected classification signature method_name to be {CLASSIFY_METHOD}. Was: {signature.method_name}"
        )
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
    return [name for name in ("classes", "scores") if name in signature.outputs]


def classification_result(
    columns: Mapping[str, np.ndarray], num_examples: int, result: classification_pb2.ClassificationResult
) -> None:
    """Writes one list of classes per example.

    Raises:
      StatusError: INVALID_ARGUMENT, the outputs are of the wrong shape or type.
    """
    _check_classes(columns, num_examples)
    result.SetInParent()
    for row in range(num_examples):
        _add_classes(result.classifications.add(), columns.get("classes"), columns.get("scores"), row)


def _check_classes(columns: Mapping[str, np.ndarray], num_examples: int) -> None:
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


def regress_outputs(signature: meta_graph_pb2.SignatureDef, is_method_checked: bool = False) -> list[str]:
    """The outputs to compute for Regress.

    Raises:
      StatusError: INVALID_ARGUMENT, the signature does not regress examples.
    """
    if is_method_checked and signature.method_name != REGRESS_METHOD:
        raise invalid(f"Expected regression signature method_name to be {REGRESS_METHOD}. Was: {signature.method_name}")
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if "inputs" not in signature.inputs:
        raise invalid(f"No regression inputs found in SignatureDef: {signature}")
    if "outputs" not in signature.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {signature}")
    return ["outputs"]


def regression_result(
    columns: Mapping[str, np.ndarray], num_examples: int, result: regression_pb2.RegressionResult
) -> None:
    """Writes one number per example.

    Raises:
      StatusError: INVALID_ARGUMENT, the output is of the wrong shape or type.
    """
    output = columns["outputs"]
    _check_numbers(output, num_examples)
    result.SetInParent()
    for value in output.reshape(-1).tolist():
        result.regressions.add(value=value)


def _check_numbers(output: np.ndarray, num_examples: int) -> None:
    if output.ndim != 1 and not (output.ndim == 2 and output.shape[1] == 1):
        shape = tensors.shape_text(output.shape)
        raise invalid(f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {shape}")
    if output.dtype != np.float32:
        raise invalid("Expected output Tensor of DT_FLOAT.")
    _check_batch(num_examples, len(output))


def _check_batch(num_inputs: int, num_outputs: int) -> None:
    if num_inputs != num_outputs:
        raise invalid(f"Input batch size did not match output batch size: {num_inputs} vs. {num_outputs}")
