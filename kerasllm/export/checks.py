"""Will TensorFlow Serving run this export, and answer as the model does?"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from kerasllm.errors import ExportError

TOLERANCE = 1e-5  # of a probability
LARGEST_SHARE = 1.02  # of the parameters' bytes that the variables may take on disk
BOOKKEEPING_BYTES = 64 * 1024  # the object graph that is stored beside them
PYTHON_OPS = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})
# Operations of tensorflow_text 2.12.1, which is what TensorFlow Serving 2.12 to 2.19 links; later ones link more.
TEXT_OPS = frozenset(
    {
        "CaseFoldUTF8",
        "FastBertNormalize",
        "FastWordpieceTokenizeWithOffsets",
        "NormalizeUTF8",
        "NormalizeUTF8WithOffsetsMap",
        "RegexSplitWithOffsets",
        "SentencepieceDetokenizeOp",
        "SentencepieceIdToStringOp",
        "SentencepieceOp",
        "SentencepieceStringToIdOp",
        "SentencepieceTokenizeOp",
        "SentencepieceTokenizeWithOffsetsOp",
        "SentencepieceVocabSizeOp",
        "TFText>FastSentencepieceDetokenize",
        "TFText>FastSentencepieceTokenize",
        "TFText>FastWordpieceDetokenize",
        "UnicodeScriptTokenizeWithOffsets",
        "WhitespaceTokenizeWithOffsets",
        "WhitespaceTokenizeWithOffsetsV2",
        "WordpieceTokenizeWithOffsets",
    }
)


@dataclass(frozen=True)
class Call:
    """A signature, the inputs to send, and the outputs that the model itself gives for them."""

    signature: str
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]


def check_export(directory: Path, parameter_bytes: int, calls: Sequence[Call]) -> None:
    """Checks a SavedModel folder against what TensorFlow Serving 2.12 and later can load and run.

    The calls run in another process that has nothing but TensorFlow and tensorflow_text, in a version-1 Session.

    Raises:
      ExportError: with every finding, one a line.
    """
    saved_model = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    findings = [
        *_forbidden_operations(saved_model),
        *_compiled_functions(saved_model),
        *_not_batch_major(saved_model),
        *_surplus_bytes(directory, parameter_bytes),
    ]
    findings = findings or list(_wrong_answers(directory, calls))
    if findings:
        listed = "\n  ".join(findings)
        raise ExportError(f"{directory.parent.name}: not an export that TensorFlow Serving runs:\n  {listed}")


def _forbidden_operations(saved_model: Any) -> Iterator[str]:
    graph = saved_model.meta_graphs[0].graph_def
    functions = {function.signature.name for function in graph.library.function}
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    for name in sorted({node.op for node in nodes} - functions):
        if name in PYTHON_OPS:
            yield f"operation {name} calls Python, which a server does not have; write it with TensorFlow operations"
        elif name not in TEXT_OPS and not hasattr(tf.raw_ops, name):
            yield f"operation {name} is neither TensorFlow's nor in the tensorflow_text of TensorFlow Serving 2.12"


def _compiled_functions(saved_model: Any) -> Iterator[str]:
    for function in saved_model.meta_graphs[0].graph_def.library.function:
        if function.attr["_XlaMustCompile"].b:
            yield f"function {function.signature.name} is compiled by XLA, which servers disable; drop jit_compile=True"


def _not_batch_major(saved_model: Any) -> Iterator[str]:
    for key, signature in saved_model.meta_graphs[0].signature_def.items():
        if key.startswith("__"):  # the initialiser
            continue
        for name, info in [*signature.inputs.items(), *signature.outputs.items()]:
            sizes = [dim.size for dim in info.tensor_shape.dim]
            if not sizes or sizes[0] != -1:
                yield f"{key}: {name} has shape {sizes}; batching needs a first dimension of any size (-1)"


def _surplus_bytes(directory: Path, parameter_bytes: int) -> Iterator[str]:
    written = sum(path.stat().st_size for path in (directory / "variables").glob("variables.data*"))
    if written > LARGEST_SHARE * parameter_bytes + BOOKKEEPING_BYTES:
        yield f"the variables take {written} bytes for {parameter_bytes} bytes of parameters: they are stored twice"


def _wrong_answers(directory: Path, calls: Sequence[Call]) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        sent, answered = Path(folder) / "calls.npz", Path(folder) / "answers.npz"
        np.savez(sent, **{f"{call.signature}/{name}": array for call in calls for name, array in call.inputs.items()})  # type: ignore[arg-type]
        script = Path(__file__).with_name("session_run.py")
        command = [sys.executable, "-P", str(script), str(directory), str(sent), str(answered)]
        finished = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if finished.returncode:
            yield f"it does not load or run in a version-1 Session: {_last_line(finished.stderr)}"
            return
        with np.load(answered, allow_pickle=True) as answers:
            for call in calls:
                for name, expected in call.outputs.items():
                    yield from _difference(f"{call.signature}/{name}", answers[f"{call.signature}/{name}"], expected)


def _difference(place: str, served: np.ndarray, expected: np.ndarray) -> Iterator[str]:
    if served.shape != expected.shape:
        yield f"{place}: shape {served.shape} served, {expected.shape} from the model"
    elif expected.dtype == object:
        if served.tolist() != expected.tolist():
            yield f"{place}: {served.tolist()} served, {expected.tolist()} from the model"
    elif not np.allclose(served, expected, rtol=0, atol=TOLERANCE):
        difference = np.abs(np.subtract(served, expected, dtype=np.float32)).max()
        yield f"{place}: served answers differ from the model's by {difference:.2e}"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines() or ["it said nothing"]
    return next((line for line in reversed(lines) if "Error" in line), lines[-1])
