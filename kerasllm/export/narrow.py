"""How do weights take half of the disk? As bfloat16 there, in memory as float32 or as that; and what it changes."""

# N texts, C classes

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

BATCH = 64  # texts computed together for the comparison


class NarrowWeight(tf.saved_model.experimental.TrackableResource):
    """A matrix that is stored as bfloat16 and widened to float32 once, when the export is loaded.

    A server restores what is stored and then runs the initialisers, as it does for lookup tables: so a request costs
    nothing more. Half as many bytes again stay in memory for the stored form.

    Attributes:
      stored: the bfloat16 variable.
    """

    def __init__(self, exact: tf.Tensor) -> None:
        super().__init__()
        self.stored = tf.Variable(tf.cast(exact, tf.bfloat16), trainable=False)
        self._shared_name = f"widened-{uuid.uuid4().hex}"
        self._initialize()

    def value(self) -> tf.Tensor:
        """The widened weight, float32."""
        value = tf.raw_ops.ReadVariableOp(resource=self.resource_handle, dtype=tf.float32)
        return tf.ensure_shape(value, self.stored.shape)

    def _create_resource(self) -> tf.Tensor:
        return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=self.stored.shape, shared_name=self._shared_name)

    def _initialize(self) -> None:
        tf.raw_ops.AssignVariableOp(resource=self.resource_handle, value=tf.cast(self.stored, tf.float32))

    def _destroy_resource(self) -> None:
        tf.raw_ops.DestroyResourceOp(resource=self.resource_handle)


class NarrowWeights:
    """The weights of a model for an export that stores its float32 matrices as bfloat16.

    Vectors (biases, scales of norms) stay as they are: they are no size, and all of a row depends on them.
    """

    def __init__(self, model: keras.Model) -> None:
        self._narrow: list[tuple[keras.Variable, NarrowWeight]] = []
        self._plain: list[tf.Variable] = []
        for weight in model.weights:
            if weight.dtype == "float32" and len(weight.shape) >= 2:
                self._narrow.append((weight, NarrowWeight(weight.value)))
            else:
                self._plain.append(weight.value)

    @property
    def tracked(self) -> list[Any]:
        """What the exported object has to track."""
        return [*self._plain, *(narrow for _, narrow in self._narrow)]

    @property
    def stored(self) -> list[tf.Variable]:
        """The variables on disk."""
        return [*self._plain, *(narrow.stored for _, narrow in self._narrow)]

    def in_place(self) -> keras.StatelessScope:
        """A scope in which the model computes with the widened weights instead of its own."""
        return keras.StatelessScope(state_mapping=[(weight, narrow.value()) for weight, narrow in self._narrow])


def computing_in_bfloat16(model: Any) -> Any:
    """A copy of a models.Task that holds its matrices as bfloat16 and computes in it; the norms stay float32.

    Faster than float32 where the processor multiplies bfloat16 (AVX512-BF16, AMX), slower elsewhere.
    """
    config, policy = model.get_config(), keras.dtype_policies.serialize(keras.DTypePolicy("bfloat16"))
    config["dtype"] = config["backbone"]["config"]["dtype"] = policy
    copy = type(model).from_config(config)
    for target, weight in zip(copy.weights, model.weights, strict=True):
        target.assign(tf.cast(weight.value, target.dtype))
    copy.backbone.skips_padding = model.backbone.skips_padding
    return copy


class Decides(Protocol):
    """ClassifierSignatures, as far as the comparison needs them."""

    labels: Mapping[str, Sequence[str]]

    def predict(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Answers by name."""


@dataclasses.dataclass(frozen=True)
class Rounding:
    """What rounding the weights changed for one head.

    Attributes:
      num_texts: compared.
      labels_changed: texts that get another label.
      largest_difference: of a probability.
    """

    num_texts: int
    labels_changed: int
    largest_difference: float


def compare(exact: Decides, rounded: Decides, texts: Sequence[str]) -> dict[str, Rounding]:
    """Answers of two classifiers for the same texts, by head."""
    changed = dict.fromkeys(exact.labels, 0)
    largest = dict.fromkeys(exact.labels, 0.0)
    for start in range(0, len(texts), BATCH):
        part = tf.constant([*texts[start : start + BATCH]], tf.string)
        first, second = exact.predict(part), rounded.predict(part)
        for head in exact.labels:
            prefix = f"{head}_" if len(exact.labels) > 1 else ""
            labels = [answers[f"{prefix}label"].numpy() for answers in (first, second)]
            probabilities = [answers[f"{prefix}probabilities"].numpy() for answers in (first, second)]
            changed[head] += int(np.sum(labels[0] != labels[1]))
            largest[head] = max(largest[head], float(np.max(np.abs(probabilities[0] - probabilities[1]), initial=0)))
    return {head: Rounding(len(texts), changed[head], largest[head]) for head in exact.labels}


def rounding_section(found: Mapping[str, Rounding]) -> list[str]:
    """The section of a model card on what rounding changed."""
    lines = ["## Weights as bfloat16", "", "| head | texts | labels changed | largest difference of a probability |"]
    lines.append("| --- " * 4 + "|")
    lines += [
        f"| {head} | {one.num_texts:,} | {one.labels_changed:,} | {one.largest_difference:.2e} |"
        for head, one in found.items()
    ]
    return [*lines, ""]
