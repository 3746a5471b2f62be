"""How do several heads of a model answer at once? The tasks of a MultiInference call, checked and run together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import inference_pb2

from serving.server import examples
from serving.server.engine import Engine
from serving.server.status import Code, StatusError, invalid


@dataclass(frozen=True)
class Head:
    """One task: a signature, its method, and the outputs to compute."""

    key: str
    signature: meta_graph_pb2.SignatureDef
    method: str
    names: list[str]


def heads(engine: Engine, tasks: Sequence[inference_pb2.InferenceTask], is_method_checked: bool = False) -> list[Head]:
    """The tasks as heads of one model.

    Raises:
      StatusError: INVALID_ARGUMENT or UNIMPLEMENTED, they cannot be computed together.
    """
    listed: list[Head] = []
    name = tasks[0].model_spec.name if tasks else ""
    for task in tasks:
        if not task.model_spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        if task.model_spec.name != name:
            raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        key = task.model_spec.signature_name or examples.DEFAULT_SIGNATURE
        if key in [head.key for head in listed]:
            raise invalid(f"Duplicate evaluation of signature: {key}")
        if key not in engine.signatures:
            raise invalid(f"Requested signature not found in model graph: {key}")
        listed.append(_head(key, engine.signatures[key], task.method_name, is_method_checked))
    if len({head.signature.inputs["inputs"].name for head in listed}) > 1:
        raise invalid("Input tensor must be the same for all Signatures.")
    return listed


def run(
    engine: Engine,
    listed: Sequence[Head],
    serialized_examples: np.ndarray,
    timeout_s: float | None,
    response: inference_pb2.MultiInferenceResponse,
) -> None:
    """Computes all heads in one run, and adds their results to `response` in the order of the heads.

    Raises:
      StatusError: the run fails, or outputs are of the wrong shape or type.
    """
    fetches = list(dict.fromkeys(head.signature.outputs[name].name for head in listed for name in head.names))
    feeds = [(listed[0].signature.inputs["inputs"].name, serialized_examples)]
    values = dict(zip(fetches, engine.run(feeds, fetches, timeout_s), strict=True))
    for head in listed:
        columns = {name: np.asarray(values[head.signature.outputs[name].name]) for name in head.names}
        result = response.results.add()
        if head.method == examples.CLASSIFY_METHOD:
            examples.classification_result(columns, len(serialized_examples), result.classification_result)
        else:
            examples.regression_result(columns, len(serialized_examples), result.regression_result)


def _head(key: str, signature: meta_graph_pb2.SignatureDef, method: str, is_method_checked: bool) -> Head:
    if method == examples.CLASSIFY_METHOD:
        return Head(key, signature, method, examples.classify_outputs(signature, is_method_checked))
    if method == examples.REGRESS_METHOD:
        return Head(key, signature, method, examples.regress_outputs(signature, is_method_checked))
    raise StatusError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {method}")
