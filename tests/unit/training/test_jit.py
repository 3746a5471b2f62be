"""Does XLA compute the step that TensorFlow computes, and when is it asked to?"""

from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from kerasllm import training
from kerasllm.training.distribution import distributed
from kerasllm.training.step import TrainStep, should_compile


def _weights_after_3_steps(tiny: Any, replicas: int, accumulation: int, jit_compile: bool) -> list[np.ndarray]:
    strategy = training.make_strategy("one_device" if replicas == 1 else "mirrored", replicas)
    with strategy.scope():
        model = tiny.build_tagger()
        optimizer = keras.optimizers.SGD(0.5)
        optimizer.build(model.trainable_variables)
    step = TrainStep(strategy, model, optimizer, (tiny.TAG,), accumulation, 1.0, seed=1, jit_compile=jit_compile)
    next_batch = distributed(strategy, tiny.batches_from(0))
    for number in range(3):
        step(next_batch(), number)
    return [variable.numpy() for variable in model.trainable_variables]


@pytest.mark.parametrize(("replicas", "accumulation"), [(1, 3), pytest.param(2, 1, marks=pytest.mark.slow)])
def test_a_compiled_step_moves_the_weights_as_a_plain_one(tiny: Any, replicas: int, accumulation: int) -> None:
    plain, compiled = (_weights_after_3_steps(tiny, replicas, accumulation, jit) for jit in (False, True))
    for ours, theirs in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("setting", "device", "expected"),
    [("auto", "GPU", True), ("auto", "CPU", False), (True, "CPU", True), (False, "GPU", False), (True, "TPU", False)],
)
def test_steps_are_compiled_on_gpus_or_as_the_run_says(setting: Any, device: str, expected: bool) -> None:
    devices = (f"/job:localhost/replica:0/task:0/device:{device}:0",)
    strategy: Any = SimpleNamespace(extended=SimpleNamespace(worker_devices=devices))
    assert should_compile(setting, strategy) is expected
