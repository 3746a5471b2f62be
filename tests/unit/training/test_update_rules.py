"""One update of each rule by hand; the same weights over two replicas and after a restart; and what decays."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm import config, training
from kerasllm.training.checkpoints import restore_state
from kerasllm.training.distribution import distributed
from kerasllm.training.step import TrainStep

RULES = ("adamw", "sgd", "lion", "lamb", "muon", "adafactor")


def settings_of(name: str, **changes: Any) -> config.Optimizer:
    plain = {"warmup_share": 0.0, "decay": "constant", "weight_decay": 0.0, "peak_learning_rate": 0.1}
    return config.Optimizer(name=name, **{**plain, **changes})


class Weights(keras.Model):
    """Nothing but one weight, in a block."""

    def __init__(self, start: Any) -> None:
        super().__init__(name="model")
        layer = keras.layers.Layer(name="block_0")
        with keras.name_scope("block_0"):
            self.weight = layer.add_weight(shape=np.shape(start), initializer="zeros", name="kernel")
        self.layer = layer
        self.weight.assign(start)


def updated(name: str, start: Any, *gradients: Any, **changes: Any) -> np.ndarray:
    """The weight after one update for each gradient, at a rate of 0.1."""
    model = Weights(start)
    assert model.trainable_variables[0].path.endswith("block_0/kernel")
    optimizer = training.make_optimizer(settings_of(name, **changes), 10, model)
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient)], model.trainable_variables)
    return model.weight.numpy()


def test_momentum_keeps_nine_tenths_of_the_last_move() -> None:
    # Moves: -0.1 * 2 = -0.2, then 0.9 * -0.2 - 0.2 = -0.38; 1 - 0.2 - 0.38 = 0.42.
    np.testing.assert_allclose(updated("sgd", [1.0], [2.0], [2.0]), [0.42], rtol=1e-6)


def test_adamw_moves_by_the_rate_at_first() -> None:
    # m = 0.1 g, v = 0.001 g^2; corrected: g / |g| = sign(g). Decay first: 1 - 0.1 * 0.5 * 1 = 0.95.
    moved = updated("adamw", [[1.0, 1.0]], [[2.0, -3.0]], epsilon=1e-12, weight_decay=0.5)
    np.testing.assert_allclose(moved, [[0.85, 1.05]], rtol=1e-5)


def test_lion_moves_by_the_sign_of_the_interpolated_momentum() -> None:
    # First: sign(0.1 * 2) = +1, m = 0.01 * 2 = 0.02. Then g = -0.1: sign(0.9 * 0.02 - 0.1 * 0.1) = sign(0.008) = +1.
    np.testing.assert_allclose(updated("lion", [1.0], [2.0], [-0.1], beta_2=0.99), [0.8], rtol=1e-6)
    # With g = -0.2 the momentum is outweighed: sign(0.018 - 0.02) = -1.
    np.testing.assert_allclose(updated("lion", [1.0], [2.0], [-0.2], beta_2=0.99), [1.0], rtol=1e-6)


def test_lamb_moves_by_the_length_of_the_weights() -> None:
    # u = (1, 1) as in Adam; |w| = 5, |u| = sqrt 2: 0.1 * 5 / 1.41421 = 0.353553.
    moved = updated("lamb", [3.0, 4.0], [1.0, 7.0], epsilon=1e-12)
    np.testing.assert_allclose(moved, [2.646447, 3.646447], rtol=1e-5)


def test_muon_makes_singular_values_alike() -> None:
    # m = g and x = g + 0.95 g; divided by its length: diag(0.6, 0.8), which stays diagonal. Five times
    # s <- 3.4445 s - 4.775 s^3 + 2.0315 s^5: 0.6 -> 1.19327 -> 0.91192 -> 0.80114 -> 0.97470 -> 0.72288 and
    # 0.8 -> 0.97648 -> 0.72112 -> 1.08946 -> 0.69604 -> 1.11920. Times 0.1 * 0.2 * sqrt 2 = 0.0282843, from 1 each.
    moved = updated("muon", np.eye(2, dtype="float32"), [[3.0, 0.0], [0.0, 4.0]], momentum=0.95)
    np.testing.assert_allclose(moved, np.diag([0.979554, 0.968344]), atol=1e-5)


def test_muon_is_adamw_outside_of_matrices() -> None:
    np.testing.assert_allclose(updated("muon", [1.0, 1.0], [2.0, -3.0], epsilon=1e-12), [0.9, 1.1], rtol=1e-5)


def test_adafactor_divides_by_a_product_of_means_and_moves_relative_to_the_weights() -> None:
    # Means of g^2: rows 2.5 and 12.5, columns 5 and 10, of all 7.5; v = R C / 7.5 = ((5/3, 10/3), (25/3, 50/3)).
    # u = g / sqrt v = ((0.774597, 1.095445), (1.039230, 0.979796)), root mean square 0.98 < 1; weights of size 2.
    moved = updated("adafactor", [[2.0, 2.0], [2.0, 2.0]], [[1.0, 2.0], [3.0, 4.0]])
    u = np.array([[0.774597, 1.095445], [1.039230, 0.979796]])
    np.testing.assert_allclose(moved, 2 - 2 * 0.1 * u, rtol=1e-5)


class Backbone(keras.layers.Layer):
    def __init__(self) -> None:
        super().__init__(name="backbone")
        self.embedding = keras.layers.Embedding(11, 8, name="embedding")
        self.block_0 = keras.layers.Dense(8, activation="tanh", name="block_0")
        self.block_1 = keras.layers.Dense(8, activation="tanh", name="block_1")

    def call(self, ids: Any) -> Any:
        return self.block_1(self.block_0(self.embedding(ids)))


class BlockTagger(keras.Model):
    """The tagger of these tests with two blocks in a backbone."""

    def __init__(self) -> None:
        super().__init__(name="tagger")
        self.backbone, self.head = Backbone(), keras.layers.Dense(3, name="head")

    def call(self, inputs: Any, training: bool = False, dropout_seed: Any = None) -> Any:
        return {"logits": self.head(self.backbone(inputs["token_ids"]))}


class Bench:
    """A tagger, its optimizer and its step, over some replicas."""

    def __init__(self, tiny: Any, settings: config.Optimizer, replicas: int = 1) -> None:
        strategy = training.make_strategy("one_device" if replicas == 1 else "mirrored", replicas)
        with strategy.scope():
            keras.utils.set_random_seed(3)
            self.model = BlockTagger()
            self.model({"token_ids": np.zeros((1, tiny.LENGTH), np.int32)})
            self.optimizer = training.make_optimizer(settings, 4, self.model)
        self.strategy, self.tiny = strategy, tiny
        self.step = TrainStep(strategy, self.model, self.optimizer, (tiny.TAG,), 1, 1.0, seed=1)

    def train(self, first: int, last: int) -> None:
        next_batch = distributed(self.strategy, self.tiny.batches_from(first))
        for number in range(first, last):
            self.step(next_batch(), number)

    def weights(self) -> dict[str, np.ndarray]:
        return {variable.path: variable.numpy() for variable in self.model.variables}

    def slots(self) -> list[np.ndarray]:
        return [variable.numpy() for variable in self.optimizer.variables]


@pytest.mark.parametrize("name", RULES)
def test_two_replicas_and_a_restart_give_the_same_weights(tmp_path: Path, tiny: Any, name: str) -> None:
    late = 0.5 if name == "adamw" else 0.0
    settings = settings_of(name, peak_learning_rate=0.02, weight_decay=0.1, layer_decay=0.5, unfreeze_share=late)
    whole = Bench(tiny, settings)
    before = whole.weights()
    whole.train(0, 3)
    folder = training.CheckpointFolder(tmp_path)
    folder.save(3, whole.model, whole.optimizer, config.make_run({}))
    whole.train(3, 5)
    weights, slots = whole.weights(), whole.slots()
    restore_state(folder.newest(), whole.model, whole.optimizer)  # what it does not bring back is as of step 5
    whole.train(3, 5)
    for ours, theirs in zip(whole.slots(), slots, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    spread = Bench(tiny, settings, replicas=2)
    spread.train(0, 5)
    for path, weight in weights.items():
        np.testing.assert_array_equal(whole.weights()[path], weight)
        np.testing.assert_allclose(spread.weights()[path], weight, atol=1e-5 * np.abs(weight).max(), err_msg=path)
        assert not np.array_equal(weight, before[path])


@pytest.mark.parametrize("name", RULES)
def test_decay_is_the_same_for_all_rules_and_spares_biases(name: str) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="block_0")])
    for variable in model.trainable_variables:
        variable.assign(tf.ones_like(variable.value))
    optimizer = training.make_optimizer(settings_of(name, peak_learning_rate=0.5, weight_decay=0.1), 10, model)
    optimizer.apply([tf.zeros_like(variable.value) for variable in model.trainable_variables])
    kernel, bias = (variable.numpy() for variable in model.trainable_variables)
    np.testing.assert_allclose(kernel, 0.95, rtol=1e-6)  # without a gradient: 1 - 0.5 * 0.1
    np.testing.assert_array_equal(bias, 1.0)
