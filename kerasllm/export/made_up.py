"""What can be sent to a signature of which only names, types and shapes are known? Made-up inputs, in turn."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

NUM_ROWS, OTHER_SIZE = 2, 8  # for dimensions of any size: the first one, and the others
TEXTS = (b"Profit rose in the third quarter.", "第三季度利润上升。".encode())


def made_up_inputs(signature: Any, graph: Any) -> list[dict[str, np.ndarray]]:
    """Inputs to try one after the other; what a graph wants of its numbers and strings cannot be known.

    Args:
      signature: a SignatureDef.
      graph: the GraphDef, which names the features where serialized tf.train.Examples are parsed.
    """
    fed = {name: _fed(info, graph) for name, info in signature.inputs.items()}
    fillings: list[tuple[int, Sequence[bytes]]] = [(1, TEXTS)]
    if any(kind == tf.string for kind, _ in fed.values()):
        fillings += [(1, [_example(graph)]), (1, [b"1"])]
    return [
        {name: _filled(kind, shape, number, strings) for name, (kind, shape) in fed.items()}
        for number, strings in [*fillings, (0, TEXTS)]
    ]


def _fed(info: Any, graph: Any) -> tuple[tf.DType, list[int]]:
    """Type and shape to send: a placeholder's own type, and the first shape that is known; a vector where none is.

    Signatures of TensorFlow 1 may say no shape, and the wrong type: a server checks neither.
    """
    name, _, port = info.name.partition(":")
    kind, shapes = info.dtype, [info.tensor_shape] if info.HasField("tensor_shape") else []
    for node in graph.node:
        if node.name == name:
            kind = node.attr["dtype"].type if node.op == "Placeholder" else kind
            shapes += node.attr["_output_shapes"].list.shape[int(port or 0) :][:1]
    known = [shape for shape in shapes if not shape.unknown_rank]
    sizes = [dim.size for dim in known[0].dim] if known else [-1]
    shape = [OTHER_SIZE if size < 0 else size for size in sizes]
    return tf.as_dtype(kind), [NUM_ROWS, *shape[1:]] if sizes and sizes[0] < 0 else shape


def _filled(kind: tf.DType, shape: Sequence[int], number: int, strings: Sequence[bytes]) -> np.ndarray:
    if kind == tf.string:
        count = int(np.prod(shape))
        return np.array([strings[place % len(strings)] for place in range(count)], object).reshape(shape)
    return np.full(shape, number, kind.as_numpy_dtype)


def _example(graph: Any) -> bytes:
    """A tf.train.Example with every feature that the graph parses, filled with ones or a text."""
    features = {}
    for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
        for name, kind, size in _parsed_features(nodes):
            features[name] = _feature(kind, size)
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def _parsed_features(nodes: Any) -> Iterator[tuple[str, tf.DType, int]]:
    """Name, type and number of values of every feature that ParseExample nodes of one graph or function read."""
    by_name: Mapping[str, Any] = {node.name: node for node in nodes}
    for node in nodes:
        if node.op == "ParseExampleV2":  # serialized, names, then one vector of names each
            sparse, dense, ragged = ([place] for place in (2, 3, 4))
        elif node.op == "ParseExample":  # serialized, names, then one scalar for each name
            first = 2 + len(node.attr["sparse_types"].list.type)
            sparse, ragged = list(range(2, first)), []
            dense = list(range(first, first + len(node.attr["Tdense"].list.type)))
        else:
            continue
        sizes = [_size(shape) for shape in node.attr["dense_shapes"].list.shape]
        yield from zip(_names(node, dense, by_name), _types(node, "Tdense"), sizes, strict=False)
        for places, kinds in ((sparse, "sparse_types"), (ragged, "ragged_value_types")):
            yield from (
                (name, kind, 1) for name, kind in zip(_names(node, places, by_name), _types(node, kinds), strict=False)
            )


def _types(node: Any, attribute: str) -> list[tf.DType]:
    return [tf.as_dtype(kind) for kind in node.attr[attribute].list.type]


def _names(node: Any, places: Sequence[int], by_name: Mapping[str, Any]) -> list[str]:
    """The strings of the constants that feed a node at some places; none where they are computed."""
    found: list[str] = []
    for place in places:
        constant = by_name.get(node.input[place].split(":")[0])
        if constant is not None and constant.op == "Const":
            values = np.ravel(tf.make_ndarray(constant.attr["value"].tensor))
            found += [value.decode("utf-8", "replace") for value in values]
    return found


def _size(shape: Any) -> int:
    return int(np.prod([max(1, dim.size) for dim in shape.dim]))


def _feature(kind: tf.DType, size: int) -> tf.train.Feature:
    if kind == tf.string:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[TEXTS[0]] * size))
    if kind.is_integer:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[1] * size))
    return tf.train.Feature(float_list=tf.train.FloatList(value=[1.0] * size))
