"""Which operations does a stock tensorflow_model_server know? Core TensorFlow's and the linked tensorflow_text's."""

import functools
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf
import yaml

LIST = Path(__file__).with_name("operations.yaml")
PYTHON_OPERATIONS = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})


@functools.cache
def _servers() -> Mapping[str, tuple[frozenset[str], frozenset[str]]]:
    """By version of TensorFlow Serving: operations of its tensorflow_text, and core operations that came later."""
    with LIST.open(encoding="utf-8") as file:
        tree = yaml.safe_load(file)
    return {
        server: (frozenset(lists["text"] + lists["text_later"]), frozenset(lists["lacks"]))
        for server, lists in tree["servers"].items()
    }


def servers_without(operation: str) -> tuple[str, ...]:
    """The versions of TensorFlow Serving, of those in operations.yaml, that cannot run an operation; () if all can."""
    is_core = operation.startswith("_") or hasattr(tf.raw_ops, operation)  # "_": the runtime's own, such as _If
    return tuple(
        server
        for server, (text, lacks) in _servers().items()
        if operation not in text and (not is_core or operation in lacks)
    )


def all_servers() -> tuple[str, ...]:
    """The versions of TensorFlow Serving that operations.yaml tells about."""
    return tuple(_servers())
