"""How do gradients become new weights? An update rule, its learning-rate schedule, and which weights decay."""

import math
from typing import Any

import keras
import tensorflow as tf

from kerasllm import config
from kerasllm.training.by_layer import freeze, layer_shares, layer_starts
from kerasllm.training.update_rules import ByLayer, make_rule


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


def make_optimizer(settings: config.Optimizer, total_steps: int, model: keras.Model) -> ByLayer:
    """The optimizer of a built model, made (with its slots) under the current strategy scope. Clipping is the loop's.

    Weight decay is decoupled and leaves out biases and every variable of rank 0 or 1: the scales of norms. Variables
    of `settings.frozen` are not trainable from here on: they have no gradient, no slots and no decay.

    Raises:
      ConfigError: a frozen name is no variable's, or nothing is left to learn.
    """
    schedule = WarmupThenDecay(
        settings.peak_learning_rate,
        round(settings.warmup_share * total_steps),
        total_steps,
        settings.decay,
        settings.final_share,
    )
    freeze(model, settings.frozen)
    optimizer = make_rule(settings, schedule)
    optimizer.exclude_from_weight_decay([variable for variable in model.trainable_variables if not decays(variable)])
    optimizer.build(model.trainable_variables)
    if settings.layer_decay < 1:
        optimizer.shares = layer_shares(model, settings.layer_decay)
    if settings.unfreeze_share > 0:
        optimizer.starts = layer_starts(model, settings.unfreeze_share * total_steps)
    return optimizer


def decays(variable: keras.Variable) -> bool:
    """Whether weight decay applies: to matrices and tables, not to norm scales and biases (of whatever rank)."""
    return len(variable.shape) > 1 and "bias" not in variable.name
