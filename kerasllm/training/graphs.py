"""How is a graph made once, for batches of all shapes, and not kept for ever?"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops


class BatchFunction:
    """A function of a batch, as one graph for all the shapes that a pipeline gives.

    tf.function by itself makes a graph for the first batch's shape, and a general one when another shape comes; both
    anew for each value of a Python argument, such as a stage of unfreezing.

    Args:
      function: takes a batch and, after it, tensors or Python values; the latter are part of the graph. If it takes
        gradients, it takes them all: there is no differentiating through it.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        def traced(batch: Any, *arguments: Any) -> Any:
            with _forgotten_gradients():
                return function(batch, *arguments)

        self._compiled = tf.function(traced, reduce_retracing=True)
        self._batch_spec: Any = None
        self._made: set[tuple[Any, ...]] = set()  # the Python values that have their graph

    def expect(self, batch_spec: Any) -> None:
        """Tells what the batches have in common: a data set's `element_spec`. Other ones can be computed all the same.

        Without it each new shape is a surprise.
        """
        if batch_spec != self._batch_spec:
            self._batch_spec = batch_spec
            self._made.clear()

    def __call__(self, batch: Any, *arguments: Any) -> Any:
        """The function's result; a graph that is missing is made first."""
        values = tuple(argument for argument in arguments if not tf.is_tensor(argument))
        if self._batch_spec is not None and values not in self._made:
            self._compiled.get_concrete_function(self._batch_spec, *(_spec_of(argument) for argument in arguments))
            self._made.add(values)
        return self._compiled(batch, *arguments)

    def graphs(self) -> list[Any]:
        """The concrete functions so far."""
        return list(self._compiled._list_all_concrete_functions())


@contextlib.contextmanager
def _forgotten_gradients() -> Iterator[None]:
    """While a graph is made: what tf.custom_gradient registers for it is dropped at the end.

    TensorFlow keeps the backward pass of every call of such a function for as long as the process lives, as the graph
    might be differentiated later; with it the graph, and with that the weights (tensorflow/tensorflow#97697).
    """
    registry = ops.gradient_registry
    before = set(registry.list())
    try:
        yield
    finally:
        for name in set(registry.list()) - before:
            if name.startswith("CustomGradient-"):
                del registry._registry[name]


def _spec_of(argument: Any) -> Any:
    return tf.TensorSpec.from_tensor(argument) if tf.is_tensor(argument) else argument
