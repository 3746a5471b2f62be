"""How do gradients become new weights? AdamW, its learning-rate schedule, and which weights decay."""

import math
import re
from typing import Any

import keras
import tensorflow as tf

from kerasllm import config


@keras.saving.register_keras_serializable("kerasllm")
class WarmupThenDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate of the k-th update: linear up to the peak, then down to a share of it at the last update.

    `step` counts the updates already done, so the first update has k = step + 1 = 1 and is not lost to a rate of 0.

    Args:
      peak: highest learning rate, reached at update `warmup_steps`.
      warmup_steps: updates of the linear rise; 0 starts at the peak.
      total_steps: updates in all; the rate stays at its last value after them.
      decay: "linear", "cosine" or "constant".
      final_share: share of the peak that is left at the last update.
    """

    def __init__(self, peak: float, warmup_steps: int, total_steps: int, decay: str, final_share: float) -> None:
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.decay = decay
        self.final_share = final_share

    def __call__(self, step: Any) -> tf.Tensor:
        """Learning rate (float32 scalar) of the update that follows `step` updates."""
        update = tf.cast(step, tf.float32) + 1.0
        rise = tf.minimum(update / max(self.warmup_steps, 1), 1.0)
        progress = tf.clip_by_value((update - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1), 0, 1)
        if self.decay == "linear":
            fall = 1.0 - progress
        elif self.decay == "cosine":
            fall = 0.5 * (1.0 + tf.cos(math.pi * progress))
        else:
            return self.peak * rise
        return self.peak * rise * (self.final_share + (1.0 - self.final_share) * fall)

    def get_config(self) -> dict[str, Any]:
        """What __init__ took."""
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "decay": self.decay,
            "final_share": self.final_share,
        }


@keras.saving.register_keras_serializable("kerasllm")
class FusedAdamW(keras.optimizers.AdamW):
    """Keras's AdamW with TensorFlow's fused update: one pass over each weight and its slots instead of a dozen.

    Attributes:
      shares: for each variable, in the order of `build`, its share of the learning rate; empty: 1 for all. It does not
        change the decay of weights.

    Source: Loshchilov & Hutter 2019; the update is that of keras.optimizers.Adam (bias correction in the rate).
    """

    shares: tuple[float, ...] = ()

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Updates one variable and its two slots in place."""
        index = self._get_variable_index(variable)
        dtype = variable.dtype
        update = tf.cast(self.iterations.value, dtype) + 1
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, dtype), update),
            beta2_power=tf.pow(tf.cast(self.beta_2, dtype), update),
            lr=tf.cast(learning_rate, dtype) * (self.shares[index] if self.shares else 1.0),
            beta1=tf.cast(self.beta_1, dtype),
            beta2=tf.cast(self.beta_2, dtype),
            epsilon=tf.cast(self.epsilon, dtype),
            grad=tf.cast(gradient, dtype),
        )


def make_optimizer(settings: config.Optimizer, total_steps: int, model: keras.Model) -> FusedAdamW:
    """AdamW for a built model, made (with its slots) under the current strategy scope. Clipping is the loop's.

    Weight decay is decoupled and leaves out biases and every variable of rank 0 or 1: the scales of norms.
    """
    schedule = WarmupThenDecay(
        settings.peak_learning_rate,
        round(settings.warmup_share * total_steps),
        total_steps,
        settings.decay,
        settings.final_share,
    )
    optimizer = FusedAdamW(
        schedule,
        weight_decay=settings.weight_decay,
        beta_1=settings.beta_1,
        beta_2=settings.beta_2,
        epsilon=settings.epsilon,
    )
    optimizer.exclude_from_weight_decay([variable for variable in model.trainable_variables if not decays(variable)])
    optimizer.build(model.trainable_variables)
    if settings.layer_decay < 1:
        optimizer.shares = layer_shares(model, settings.layer_decay)
    return optimizer


def layer_shares(model: keras.Model, decay: float) -> tuple[float, ...]:
    """Share of the learning rate of each trainable variable: 1 above the blocks, less by `decay` with each layer down.

    Source: Howard & Ruder 2018, discriminative fine-tuning.
    """
    found = [re.search(r"/backbone/(?:.*/)?block_(\d+)/", f"/{one.path}") for one in model.trainable_variables]
    top = 1 + max((int(match[1]) for match in found if match), default=0)

    def depth(variable: keras.Variable, match: re.Match[str] | None) -> int:
        if match:
            return int(match[1]) + 1
        return 0 if "/backbone/" in f"/{variable.path}" and "embedding" in variable.path else top + 1

    pairs = zip(model.trainable_variables, found, strict=True)
    return tuple(decay ** (top + 1 - depth(variable, match)) for variable, match in pairs)


def decays(variable: keras.Variable) -> bool:
    """Whether weight decay applies: to matrices and tables, not to norm scales and biases (of whatever rank)."""
    return len(variable.shape) > 1 and "bias" not in variable.name
