"""One step by hand: exact means, however the rows are spread; global clipping; bad steps leave no trace."""

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm import training
from kerasllm.errors import ConfigError
from kerasllm.losses import Head
from kerasllm.training import distributed
from kerasllm.training.step import TrainStep, model_inputs


def _plain_descent(tiny: Any, replicas: int, accumulation: int, clip_norm: float | None = None) -> tuple[Any, Any]:
    """Weights and the numbers of 3 steps of gradient descent at rate 0.5, which shows every factor that is wrong."""
    strategy = training.make_strategy("one_device" if replicas == 1 else "mirrored", replicas)
    with strategy.scope():
        model = tiny.build_tagger()
        optimizer = keras.optimizers.SGD(0.5)
        optimizer.build(model.trainable_variables)
    step = TrainStep(strategy, model, optimizer, (tiny.TAG,), accumulation, clip_norm, seed=1)
    next_batch = distributed(strategy, tiny.batches_from(0))
    rows = []
    for number in range(3):
        numbers = step(next_batch(), number).numpy()
        rows.append(dict(zip(step.names, numbers.tolist(), strict=True)))
    return [variable.numpy() for variable in model.trainable_variables], rows


@pytest.mark.parametrize(("replicas", "accumulation"), [(2, 1), (3, 1), (1, 4), (2, 3)])
def test_uneven_targets_spread_over_replicas_and_slices_give_the_same_descent(
    tiny: Any, replicas: int, accumulation: int
) -> None:
    expected, numbers = _plain_descent(tiny, 1, 1)
    weights, spread = _plain_descent(tiny, replicas, accumulation)
    for ours, theirs in zip(weights, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    for ours, theirs in zip(spread, numbers, strict=True):
        assert ours["tag/targets"] == theirs["tag/targets"] == ours["tokens"]
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-6)
        assert ours["gradient_norm"] == pytest.approx(theirs["gradient_norm"], rel=1e-5)


def test_the_first_step_is_that_of_the_mean_over_real_targets(tiny: Any) -> None:
    batch = tiny.make_batch(0)
    model = tiny.build_tagger()
    with tf.GradientTape() as tape:
        logits = model({"token_ids": batch["token_ids"]})["logits"]
        real = batch["label_weights"] == 1
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(batch["labels"][real], logits[real]))
    gradients = tape.gradient(loss, model.trainable_variables)
    norm = math.sqrt(sum(float(np.sum(tf.convert_to_tensor(one).numpy() ** 2)) for one in gradients))
    _, numbers = _plain_descent(tiny, 2, 1)
    assert numbers[0]["loss"] == pytest.approx(float(loss), abs=1e-6)
    assert numbers[0]["gradient_norm"] == pytest.approx(norm, rel=1e-5)


class OneWeight(keras.Model):
    """Two weights; the loss of a row is its first column times one plus its second column times the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.add_weight(shape=(1,), initializer="zeros", name="first")
        self.second = self.add_weight(shape=(1,), initializer="zeros", name="second")

    def call(self, inputs: Any, training: bool = False, dropout_seed: Any = None) -> Any:
        rows = inputs["rows"]
        return {"rows": rows[:, 0] * self.first[0] + rows[:, 1] * self.second[0]}


def _row_head(name: str, weight: float, column: str) -> Head:
    return Head(
        name,
        weight,
        lambda batch: tf.reduce_sum(batch[column]),
        lambda outputs, batch: {"loss": tf.reduce_sum(outputs["rows"] * batch[column]), "correct": tf.constant(0.0)},
    )


def _one_step(heads: tuple[Head, ...], batch: dict, clip_norm: float | None, replicas: int = 1) -> tuple[Any, dict]:
    strategy = training.make_strategy("one_device" if replicas == 1 else "mirrored", replicas)
    with strategy.scope():
        model = OneWeight()
        optimizer = keras.optimizers.SGD(1.0)
        optimizer.build(model.trainable_variables)
    step = TrainStep(strategy, model, optimizer, heads, 1, clip_norm, seed=1)
    numbers = step(distributed(strategy, tf.data.Dataset.from_tensors(batch))(), 0).numpy()
    weights = [float(variable.numpy()[0]) for variable in model.trainable_variables]
    return weights, dict(zip(step.names, numbers.tolist(), strict=True))


ROWS = np.array([[3.0, 4.0], [3.0, 4.0], [9.0, 0.0], [0.0, 12.0]], np.float32)


@pytest.mark.parametrize("replicas", [1, 2])
def test_clipping_uses_the_norm_of_the_whole_gradient(replicas: int) -> None:
    # Only the first two rows count: gradient (3, 4), norm 5, clipped to 1: (0.6, 0.8); descent at rate 1.
    batch = {"rows": ROWS, "a_weights": np.array([1, 1, 0, 0], np.float32)}
    weights, numbers = _one_step((_row_head("a", 1.0, "a_weights"),), batch, 1.0, replicas)
    assert weights == pytest.approx([-0.6, -0.8], abs=1e-6)
    assert numbers["gradient_norm"] == pytest.approx(5.0)


def test_a_gradient_below_the_limit_is_not_stretched() -> None:
    batch = {"rows": ROWS, "a_weights": np.array([1, 1, 0, 0], np.float32)}
    weights, _ = _one_step((_row_head("a", 1.0, "a_weights"),), batch, 100.0)
    assert weights == pytest.approx([-3.0, -4.0])


@pytest.mark.parametrize("replicas", [1, 2])
def test_each_head_is_a_mean_over_its_own_targets_and_then_weighed(replicas: int) -> None:
    # Head a: mean of rows 1, 2, 3 = (5, 8/3); head b: row 4 alone = (0, 12), weight 0.5; sum = (5, 8/3 + 6).
    batch = {
        "rows": ROWS,
        "a_weights": np.array([1, 1, 1, 0], np.float32),
        "b_weights": np.array([0, 0, 0, 1], np.float32),
    }
    heads = (_row_head("a", 1.0, "a_weights"), _row_head("b", 0.5, "b_weights"))
    weights, _ = _one_step(heads, batch, None, replicas)
    assert weights == pytest.approx([-5.0, -8 / 3 - 6], rel=1e-6)


def test_a_head_without_targets_in_a_batch_adds_nothing() -> None:
    batch = {"rows": ROWS, "a_weights": np.ones(4, np.float32), "b_weights": np.zeros(4, np.float32)}
    heads = (_row_head("a", 1.0, "a_weights"), _row_head("b", 0.5, "b_weights"))
    weights, numbers = _one_step(heads, batch, None)
    assert weights == pytest.approx([-3.75, -5.0])
    assert numbers["skipped"] == 0


@pytest.mark.parametrize(("replicas", "row", "value"), [(1, 0, math.nan), (2, 11, math.inf), (3, 5, math.nan)])
def test_a_bad_number_on_one_replica_leaves_weights_and_slots_bit_equal(
    tmp_path: Path, tiny: Any, replicas: int, row: int, value: float
) -> None:
    trainer = tiny.make_trainer(tmp_path, replicas=replicas)
    trainer.prepare(10)

    def spoil(batch: dict, step: int) -> None:
        if step == 1:
            batch["label_weights"][row, 0] = value

    next_batch = distributed(trainer.strategy, tiny.batches_from(0, spoil))
    trainer.train_step(next_batch(), 0)
    before = tiny.weights_of(trainer)
    numbers = dict(zip(trainer.train_step.names, trainer.train_step(next_batch(), 1).numpy(), strict=True))
    assert numbers["skipped"] == 1
    for ours, theirs in zip(tiny.weights_of(trainer), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    trainer.train_step(next_batch(), 2)
    assert int(trainer.optimizer.iterations.numpy()) == 2  # the two good ones


def test_replicas_slices_and_steps_drop_different_units_and_the_same_ones_when_run_again() -> None:
    class ShowSeed(OneWeight):
        def call(self, inputs: Any, training: bool = False, dropout_seed: Any = None) -> Any:
            noise = tf.random.stateless_uniform([], dropout_seed)
            return {"rows": super().call(inputs)["rows"] * 0 + noise}

    def noise(step_number: int, replicas: int, accumulation: int) -> float:
        strategy = training.make_strategy("mirrored", replicas)
        with strategy.scope():
            model = ShowSeed()
            optimizer = keras.optimizers.SGD(1.0)
            optimizer.build(model.trainable_variables)
        step = TrainStep(strategy, model, optimizer, (_row_head("a", 1.0, "a_weights"),), accumulation, None, seed=5)
        batch = {"rows": ROWS, "a_weights": np.ones(4, np.float32)}
        numbers = step(distributed(strategy, tf.data.Dataset.from_tensors(batch))(), step_number).numpy()
        return float(dict(zip(step.names, numbers, strict=True))["loss"])

    seen = [noise(0, 1, 1), noise(1, 1, 1), noise(0, 2, 1), noise(0, 1, 2)]
    assert len({round(value, 6) for value in seen}) == 4
    assert noise(0, 2, 1) == seen[2]


def test_the_model_sees_no_answers() -> None:
    batch = dict.fromkeys(["token_ids", "labels", "label_weights", "masked_labels", "masked_positions"], tf.zeros([1]))
    assert set(model_inputs(batch)) == {"token_ids", "masked_positions"}


def test_a_batch_that_does_not_divide_is_refused_before_anything_is_made(tmp_path: Path, tiny: Any) -> None:
    with pytest.raises(ConfigError, match="global_batch=12 is not a multiple of 8 = 2 replicas x train.accumulation=4"):
        tiny.make_trainer(tmp_path / "new", tiny.make_run(train_accumulation=4), replicas=2)
    assert not (tmp_path / "new").exists()


def test_missing_devices_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_devices=9, but TensorFlow has 4"):
        training.make_strategy("mirrored", 9)
    assert training.make_strategy("mirrored").num_replicas_in_sync == 4


def test_rows_of_changing_length_can_be_sliced(tiny: Any) -> None:
    def ragged(lengths: list[int]) -> tf.data.Dataset:
        batch = tiny.make_batch(0)
        parts = [
            tf.data.Dataset.from_tensors({name: rows[:, :length] for name, rows in batch.items()}) for length in lengths
        ]
        signature = {name: tf.TensorSpec([tiny.ROWS, None], tf.as_dtype(rows.dtype)) for name, rows in batch.items()}
        joined = [next(iter(part)) for part in parts]
        return tf.data.Dataset.from_generator(lambda: iter(joined), output_signature=signature)

    results = []
    for replicas, accumulation in ((1, 1), (1, 3), (2, 3)):
        strategy = training.make_strategy("one_device" if replicas == 1 else "mirrored", replicas)
        with strategy.scope():
            model = tiny.build_tagger()
            optimizer = keras.optimizers.SGD(0.5)
            optimizer.build(model.trainable_variables)
        step = TrainStep(strategy, model, optimizer, (tiny.TAG,), accumulation, None, seed=1)
        next_batch = distributed(strategy, ragged([4, 6, 3]))
        results.append([float(step(next_batch(), number).numpy()[step.names.index("loss")]) for number in range(3)])
    np.testing.assert_allclose(results[1], results[0], atol=1e-6)
    np.testing.assert_allclose(results[2], results[0], atol=1e-6)
