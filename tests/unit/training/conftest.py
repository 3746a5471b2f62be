"""A model small enough to work out by hand, its data, and runs of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm import config, training
from kerasllm.losses import Head
from kerasllm.training.actions import Action

NUM_WORDS, LENGTH, ROWS = 11, 6, 12


class TinyTagger(keras.Model):
    """Embedding, dropout, dense: scores a label for each token; keyed dropout, as the real models have."""

    def __init__(self, dropout: float = 0.0, width: int = 8) -> None:
        super().__init__(name="tagger")
        self.table = keras.layers.Embedding(NUM_WORDS, width, name="table")
        self.middle = keras.layers.Dense(width, activation="tanh", name="middle")
        self.head = keras.layers.Dense(3, name="head")
        self.dropout = dropout

    def call(self, inputs: dict, training: bool = False, dropout_seed: Any = None) -> dict[str, tf.Tensor]:
        assert "labels" not in inputs, "the model must not see the answers"
        hidden = self.middle(self.table(inputs["token_ids"]))
        if training and self.dropout:
            hidden = tf.nn.experimental.stateless_dropout(hidden, self.dropout, seed=dropout_seed)
        return {"logits": self.head(hidden)}


def tag_targets(batch: dict[str, tf.Tensor]) -> tf.Tensor:
    return tf.reduce_sum(batch["label_weights"])


def tag_totals(outputs: dict[str, tf.Tensor], batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["labels"], outputs["logits"])
    right = tf.cast(tf.argmax(outputs["logits"], -1, tf.int32) == batch["labels"], tf.float32)
    return {
        "loss": tf.reduce_sum(losses * batch["label_weights"]),
        "correct": tf.reduce_sum(right * batch["label_weights"]),
    }


TAG = Head(name="tag", weight=1.0, targets=tag_targets, totals=tag_totals)


def build_tagger(dropout: float = 0.0, width: int = 8) -> keras.Model:
    keras.utils.set_random_seed(3)
    model = TinyTagger(dropout, width)
    model({"token_ids": np.zeros((1, LENGTH), np.int32)})
    return model


def make_batch(step: int) -> dict[str, np.ndarray]:
    """A batch that is a pure function of its step, whose rows have 0 to 6 real targets."""
    random = np.random.default_rng([7, step])
    lengths = random.integers(0, LENGTH + 1, ROWS)
    real = np.arange(LENGTH) < lengths[:, None]
    ids = random.integers(1, NUM_WORDS, (ROWS, LENGTH)) * real
    return {
        "token_ids": ids.astype(np.int32),
        "sequence_ids": real.astype(np.int32),
        "labels": (ids % 3).astype(np.int32),
        "label_weights": real.astype(np.float32),
    }


def batches_from(start_step: int, change: Callable[[dict, int], None] = lambda batch, step: None) -> tf.data.Dataset:
    """Endless global batches; `change` may spoil some."""
    batches = []
    for step in range(start_step, start_step + 60):
        batch = make_batch(step)
        change(batch, step)
        batches.append(batch)
    return tf.data.Dataset.from_tensor_slices({name: np.stack([one[name] for one in batches]) for name in batches[0]})


def held_out_batches() -> tf.data.Dataset:
    return batches_from(1000).take(2)


def make_run(**changes: Any) -> config.Run:
    """A run of 12 rows a batch; `train_...` and `optimizer_...` set single fields."""
    tree: dict[str, Any] = {
        "train": {"steps": 12, "global_batch": ROWS, "log_every": 2, "evaluate_every": 6, "checkpoint_every": 6},
        "optimizer": {"peak_learning_rate": 0.02, "warmup_share": 0.0},
    }
    for name, value in changes.items():
        section, _, key = name.partition("_")
        tree[section][key] = value
    return config.make_run(tree)


def make_trainer(
    workdir: Path,
    run: config.Run | None = None,
    replicas: int = 1,
    dropout: float = 0.0,
    actions: tuple[Action, ...] = (),
    heads: tuple[Head, ...] = (TAG,),
    width: int = 8,
) -> training.Trainer:
    strategy = training.make_strategy("one_device" if replicas == 1 else "mirrored", replicas)
    return training.Trainer(lambda: build_tagger(dropout, width), heads, run or make_run(), workdir, strategy, actions)


def weights_of(trainer: training.Trainer) -> list[np.ndarray]:
    return [variable.numpy() for variable in (*trainer.model.variables, *trainer.optimizer.variables)]


@pytest.fixture
def tiny() -> Any:
    """The helpers of this file, for test modules that cannot import it by name."""
    import sys

    return sys.modules[__name__]
