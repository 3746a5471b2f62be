"""Is one graph made for batches of all shapes, and does it go with its function?"""

import gc
import weakref
from typing import Any

import pytest
import tensorflow as tf

from kerasllm.training import distributed, make_strategy
from kerasllm.training.graphs import BatchFunction

LENGTHS = (3, 5, 4)


def batches() -> tf.data.Dataset:
    """Two rows of ones, of one length after the other."""
    spec = {"rows": tf.TensorSpec([2, None], tf.float32)}
    return tf.data.Dataset.from_generator(lambda: ({"rows": tf.ones([2, n])} for n in LENGTHS), output_signature=spec)


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_pipeline_that_says_what_comes_needs_one_graph_where_a_surprise_needs_two(replicas: int) -> None:
    strategy = make_strategy("one_device" if replicas == 1 else "mirrored", replicas)

    def total(batch: Any) -> tf.Tensor:
        sums = strategy.run(lambda rows: tf.reduce_sum(rows), (batch["rows"],))
        return strategy.reduce("SUM", sums, axis=None)

    for is_told, count in ((True, 1), (False, 2)):
        function, next_batch = BatchFunction(total), distributed(strategy, batches())
        if is_told:
            function.expect(next_batch.element_spec)
        assert [float(function(next_batch())) for _ in LENGTHS] == [6.0, 10.0, 8.0]
        assert len(function.graphs()) == count


def test_each_python_value_has_its_graph_and_tensors_share_one() -> None:
    function = BatchFunction(lambda batch, number, times: tf.reduce_sum(batch["rows"]) * times + number)
    function.expect(batches().element_spec)
    found = [
        float(function(batch, tf.constant(number), times))
        for batch in batches()
        for number in (0.0, 1.0)
        for times in (1, 2)
    ]
    assert found == [6, 12, 7, 13, 10, 20, 11, 21, 8, 16, 9, 17]
    assert len(function.graphs()) == 2


def test_other_batches_than_announced_are_computed_all_the_same() -> None:
    function = BatchFunction(lambda batch: tf.reduce_sum(batch["rows"]))
    function.expect({"rows": tf.TensorSpec([2, None], tf.float32)})
    assert [float(function({"rows": tf.ones([rows, 2])})) for rows in (2, 3)] == [4, 6]


def test_a_graph_with_a_written_gradient_goes_with_its_function() -> None:
    @tf.custom_gradient
    def doubled(x: tf.Tensor) -> Any:
        return 2 * x, lambda upstream: 3 * upstream

    def slope(batch: Any) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(batch["rows"])
            result = tf.reduce_sum(doubled(batch["rows"]))
        return tf.reduce_sum(tape.gradient(result, batch["rows"]))

    function = BatchFunction(slope)
    assert float(function({"rows": tf.ones([2, 2])})) == 12.0
    (graph,) = [weakref.ref(one.graph) for one in function.graphs()]
    assert graph() is not None
    del function
    gc.collect()
    assert graph() is None
