"""How does one update change a weight? Keras's update rules by name, each with a rate and a beginning of its own.

In all equations w is a weight, g its gradient (clipped already), r the learning rate, t = 1, 2, ... the update.
Weight decay is decoupled and the same in all of them (Loshchilov & Hutter 2019): w <- w - r * decay * w, before the
update, with the rate of the schedule.
"""

import re
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from kerasllm.config import Optimizer

BLOCK = r"(^|/)block_\d+/"  # in the path of a variable of the transformer's blocks


class ByLayer(keras.optimizers.Optimizer):
    """What all update rules here have: variables that learn slower, or from a later update on.

    Attributes:
      shares: for each variable, in the order of `build`, its share of the learning rate; empty: 1 for all. It does not
        change the decay of weights.
      starts: for each variable, the update (from 0) that is its first one; t counts from there. Empty: 0 for all.
    """

    shares: tuple[float, ...] = ()
    starts: tuple[int, ...] = ()
    _start = 0  # of the variable that is updated right now

    @property
    def iterations(self) -> Any:
        """Updates done; inside an update, those done since the variable's first one."""
        return tf.maximum(self._iterations.value - self._start, 0) if self._start else self._iterations

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Updates one variable and its slots in place."""
        index = self._get_variable_index(variable)
        self._start = self.starts[index] if self.starts else 0
        super().update_step(gradient, variable, learning_rate * (self.shares[index] if self.shares else 1.0))
        self._start = 0


class _OnePassAdamW(keras.optimizers.AdamW):
    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        index = self._get_variable_index(variable)
        dtype = variable.dtype
        update = tf.cast(tf.convert_to_tensor(self.iterations), dtype) + 1
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, dtype), update),
            beta2_power=tf.pow(tf.cast(self.beta_2, dtype), update),
            lr=tf.cast(learning_rate, dtype),
            beta1=tf.cast(self.beta_1, dtype),
            beta2=tf.cast(self.beta_2, dtype),
            epsilon=tf.cast(self.epsilon, dtype),
            grad=tf.cast(gradient, dtype),
        )


@keras.saving.register_keras_serializable("kerasllm")
class FusedAdamW(ByLayer, _OnePassAdamW):
    """AdamW with TensorFlow's fused update: one pass over each weight and its slots instead of a dozen.

    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
    w <- w - r * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon)

    Source: Kingma & Ba 2015 (section 2, the last form of the update); Loshchilov & Hutter 2019.
    """


class Momentum(ByLayer, keras.optimizers.SGD):
    """Gradient descent with momentum: m <- momentum * m - r g;  w <- w + m.

    Source: Polyak 1964; Sutskever et al. 2013, equations 1 and 2.
    """


class Lion(ByLayer, keras.optimizers.Lion):
    """The sign of an interpolated momentum: w <- w - r * sign(b1 m + (1 - b1) g), then m <- b2 m + (1 - b2) g.

    Every weight moves by the same amount, so its rate is 3 to 10 times lower than AdamW's, its decay as much higher.
    Where the true gradient is 0 (the bias of attention's keys) the sign is that of rounding: runs over other numbers of
    replicas differ in such weights by up to r, and in nothing that depends on them.

    Source: Chen et al. 2023, algorithm 2.
    """


class Lamb(ByLayer, keras.optimizers.Lamb):
    """Adam's direction u, as long as the weights of the variable themselves: w <- w - r * |w| / |u| * u.

    u = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon), m and v as in AdamW; where |w| or |u| is 0 the factor is 1.
    The decay is outside of u: the paper has it inside.

    Source: You et al. 2020, algorithm 2, with the identity for phi.
    """


class Muon(ByLayer, keras.optimizers.Muon):
    """Momentum whose singular values are made nearly equal, for the matrices of the blocks; AdamW for all the rest.

    m <- momentum * m + g;  x = g + momentum * m;  w <- w - r * 0.2 * sqrt(max(rows, columns)) * orthogonal(x)

    orthogonal: x / |x|, then five times x <- 3.4445 x - 4.775 (x x') x + 2.0315 (x x')^2 x (Newton and Schulz). The
    factor 0.2 sqrt(max(...)) gives it AdamW's size of updates, so that both take the same rate.

    Source: Jordan et al. 2024 (Muon); Liu et al. 2025, section 2.2, for the factor.
    """

    _apply_weight_decay = keras.optimizers.Optimizer._apply_weight_decay  # Keras's Muon has two decays; here is one

    def _should_use_adamw(self, variable: Any) -> bool:
        return len(variable.shape) != 2 or re.search(BLOCK, variable.path) is None


class Adafactor(ByLayer, keras.optimizers.Adafactor):
    """Adam without momentum, whose second moment is a product of means over rows and over columns.

    q = g^2 + 1e-30;  b = 1 - t^-0.8;  R <- b R + (1 - b) mean of q over columns, C likewise over rows;
    v = R C / mean(R), of vectors v <- b v + (1 - b) q;  u = g / sqrt(v), divided by its root mean square if that
    is above 1;  w <- w - max(0.001, rms(w)) * min(r, 1 / sqrt(t)) * u

    The rate is relative to the size of the weights. Keras keeps v too, so that the memory is as AdamW's.

    Source: Shazeer & Stern 2018, algorithms 4 and 5.
    """


def make_rule(settings: Optimizer, schedule: keras.optimizers.schedules.LearningRateSchedule) -> ByLayer:
    """The update rule of `settings.name`, not built yet."""
    shared = {"learning_rate": schedule, "weight_decay": settings.weight_decay}
    betas = {"beta_1": settings.beta_1, "beta_2": settings.beta_2}
    adam = {f"adam_{name}": beta for name, beta in betas.items()}
    rules: dict[str, Callable[[], ByLayer]] = {
        "adamw": lambda: FusedAdamW(**shared, **betas, epsilon=settings.epsilon),
        "sgd": lambda: Momentum(**shared, momentum=settings.momentum),
        "lion": lambda: Lion(**shared, **betas),
        "lamb": lambda: Lamb(**shared, **betas, epsilon=settings.epsilon),
        "muon": lambda: Muon(**shared, **adam, epsilon=settings.epsilon, momentum=settings.momentum),
        "adafactor": lambda: Adafactor(**shared),
    }
    return rules[settings.name]()
