"""Will TensorFlow Serving run this export, and answer as the model does?"""

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from kerasllm.errors import ExportError
from kerasllm.export.fresh_process import NotLoadable, Wanted, run_in_fresh_process
from kerasllm.export.golden import Call, differences
from kerasllm.export.operations import PYTHON_OPERATIONS, all_servers, servers_without
from kerasllm.export.warmup import WARMUP_FILE, read_warmup

LARGEST_SHARE = 1.02  # of the parameters' bytes that the variables may take on disk
BOOKKEEPING_BYTES = 64 * 1024  # the object graph that is stored beside them
SMALLEST_REPEATED_BYTES = 4096  # smaller variables are alike by chance or by their initial value


@dataclass(frozen=True)
class Finding:
    """Something about an export that stands in a server's way.

    Attributes:
      problem: what it is, and what a server does about it.
      remedy: how to mend it.
      fails: a stock server would not load the export or not answer; otherwise it is advice.
    """

    problem: str
    remedy: str
    fails: bool = True

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"


def check_export(directory: Path, parameter_bytes: int, calls: Sequence[Call]) -> None:
    """Checks a SavedModel folder against what TensorFlow Serving 2.12 and later can load and run.

    The calls and the warm-up requests of the folder run in another process that has nothing but TensorFlow and
    tensorflow_text, in a version-1 Session.

    Raises:
      ExportError: with every finding, one a line.
    """
    meta_graph = read_meta_graph(directory)
    findings = [
        *graph_findings(meta_graph),
        *batch_findings(meta_graph),
        *_surplus_bytes(directory, parameter_bytes),
    ]
    findings = findings or list(_wrong_answers(directory, calls))
    if findings:
        listed = "\n  ".join(map(str, findings))
        raise ExportError(f"{directory.parent.name}: not an export that TensorFlow Serving runs:\n  {listed}")


def read_meta_graph(directory: Path) -> Any:
    """The MetaGraphDef that a server loads.

    Raises:
      ExportError: the folder holds no SavedModel, or none for serving.
    """
    binary, text = directory / "saved_model.pb", directory / "saved_model.pbtxt"
    saved_model = saved_model_pb2.SavedModel()
    try:
        if binary.is_file():
            saved_model.ParseFromString(binary.read_bytes())
        elif text.is_file():
            text_format.Parse(text.read_text(encoding="utf-8"), saved_model)
        else:
            versions = sorted(path.parent for path in directory.glob("*/saved_model.pb"))
            meant = f" Give the folder of one version, such as {versions[-1]}." if versions else ""
            raise ExportError(f"{directory} holds no saved_model.pb.{meant}")
    except (OSError, DecodeError, text_format.ParseError, UnicodeDecodeError) as error:
        raise ExportError(
            f"{directory}: saved_model.pb cannot be read ({error}). Export again, or copy it whole."
        ) from None
    found = [set(meta_graph.meta_info_def.tags) for meta_graph in saved_model.meta_graphs]
    for meta_graph in saved_model.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == {"serve"}:
            return meta_graph
    listed = ", ".join("{" + ",".join(sorted(tags)) + "}" for tags in found) or "none"
    raise ExportError(
        f"{directory} has no graph with the tag serve alone, which servers load (there is {listed}). Save it with "
        "tf.saved_model.save, or with the tag tf.saved_model.SERVING."
    )


def graph_findings(meta_graph: meta_graph_pb2.MetaGraphDef) -> Iterator[Finding]:
    """What in the graph a stock server cannot run."""
    yield from _forbidden_operations(meta_graph.graph_def)
    yield from _compiled_functions(meta_graph.graph_def)
    if not any(not key.startswith("__") for key in meta_graph.signature_def):
        yield Finding("it has no signature: nothing can be asked of it", "give tf.saved_model.save signatures={...}")


def batch_findings(meta_graph: meta_graph_pb2.MetaGraphDef, fails: bool = True) -> Iterator[Finding]:
    """Inputs and outputs that a server with batching refuses."""
    for key, signature in sorted(meta_graph.signature_def.items()):
        if key.startswith("__"):  # the initialiser
            continue
        for name, info in sorted([*signature.inputs.items(), *signature.outputs.items()], key=operator.itemgetter(0)):
            sizes = [dim.size for dim in info.tensor_shape.dim]
            is_unknown = info.tensor_shape.unknown_rank or not info.HasField("tensor_shape")
            if is_unknown or not sizes or sizes[0] != -1:
                shape = "no known shape" if is_unknown else f"shape {sizes}"
                yield Finding(
                    f"{key}: {name} has {shape}; batching needs a first dimension of any size (-1)",
                    "trace the signature with tf.TensorSpec([None, ...]) and let every output have a row for each row",
                    fails and not is_unknown,
                )


def repeated_weights(directory: Path) -> Iterator[Finding]:
    """Variables whose values are stored a second time under another name."""
    prefix = directory / "variables" / "variables"
    if not prefix.with_suffix(".index").is_file():
        return
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        shapes, kinds = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        groups: dict[tuple[Any, ...], list[str]] = {}
        for name in sorted(shapes):
            if kinds[name] != tf.string and np.prod(shapes[name]) * kinds[name].size >= SMALLEST_REPEATED_BYTES:
                groups.setdefault((kinds[name], *shapes[name]), []).append(name)
        for names in groups.values():
            yield from _same_values(reader, names)
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        yield Finding(f"the variables cannot be read ({error})", "copy the folder variables/ again, or export again")


def _same_values(reader: Any, names: Sequence[str]) -> Iterator[Finding]:
    first_with: dict[int, str] = {}
    for name in names if len(names) > 1 else ():
        values = reader.get_tensor(name)
        if (values == values.flat[0]).all():  # two biases may well be 0 throughout
            continue
        first = first_with.setdefault(hash(values.tobytes()), name)
        if first != name:
            yield Finding(
                f"variable {name} has the values of {first}: {values.nbytes} bytes are stored twice",
                "let the exported object track each variable once (a Keras model and its variables are two)",
                fails=False,
            )


def warmup_of(directory: Path) -> tuple[list[Wanted], list[Finding]]:
    """The warm-up requests of an export as what has to run; a file that a server refuses is a finding."""
    path = directory / "assets.extra" / WARMUP_FILE
    if not path.is_file():
        return [], []
    try:
        return [Wanted(signature, [inputs]) for signature, inputs in read_warmup(path)], []
    except ExportError as error:
        return [], [Finding(f"{error}", "servers run it before a version is available")]


def _forbidden_operations(graph: Any) -> Iterator[Finding]:
    functions = {function.signature.name for function in graph.library.function}
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    for name in sorted({node.op for node in nodes} - functions):
        without = servers_without(name)
        if name in PYTHON_OPERATIONS:
            problem = f"operation {name} calls Python, which a server does not have"
            yield Finding(problem, "write it with TensorFlow operations")
        elif without:
            servers = " and ".join(without)
            problem = f"operation {name} is not in TensorFlow Serving {servers}, nor in its tensorflow_text"
            newer = [server for server in all_servers() if server not in without]
            remedy = f"serve it with {newer[0]} or later, or use" if newer else "use"
            yield Finding(problem, f"{remedy} operations that the server has")


def _compiled_functions(graph: Any) -> Iterator[Finding]:
    for function in graph.library.function:
        if function.attr["_XlaMustCompile"].b:
            problem = f"function {function.signature.name} is compiled by XLA, which servers disable"
            yield Finding(problem, "drop jit_compile=True")


def _surplus_bytes(directory: Path, parameter_bytes: int) -> Iterator[Finding]:
    written = sum(path.stat().st_size for path in (directory / "variables").glob("variables.data*"))
    if written > LARGEST_SHARE * parameter_bytes + BOOKKEEPING_BYTES:
        yield Finding(
            f"the variables take {written} bytes for {parameter_bytes} bytes of parameters: they are stored twice",
            "track plain variables or the Keras model, not both",
        )


def _wrong_answers(directory: Path, calls: Sequence[Call]) -> Iterator[Finding]:
    warmup, findings = warmup_of(directory)
    yield from findings
    try:
        answers = run_in_fresh_process(directory, [*(Wanted(call.signature, [call.inputs]) for call in calls), *warmup])
    except NotLoadable as error:
        yield Finding(f"it does not load or run in a version-1 Session: {error}", "servers use one")
        return
    for call, answer in zip(calls, answers, strict=False):
        if answer.error:
            yield Finding(f"{call.signature} fails: {answer.error}", "it runs in this process alone")
            continue
        for one in differences(call, answer.outputs):
            if one.problem:
                yield Finding(f"{one.place}: {one.problem}", "export again")
            elif not one.largest <= call.tolerance:
                problem = f"{one.place}: served answers differ from the model's by {one.largest:.2e}"
                yield Finding(problem, f"{call.tolerance:g} is allowed")
    for request, answer in zip(warmup, answers[len(calls) :], strict=True):
        if answer.error:
            problem = f"a warm-up request of {request.signature} fails: {answer.error}"
            yield Finding(problem, "a server does not load a version whose warm-up fails")
