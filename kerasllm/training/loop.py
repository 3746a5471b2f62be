"""How does a run go from its first step to its last? Train some, look, keep, repeat."""

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasllm.config import Run
from kerasllm.errors import ConfigError, TrainingError
from kerasllm.losses import Head
from kerasllm.training.actions import Action
from kerasllm.training.checkpoints import Checkpoint, CheckpointFolder, restore_state
from kerasllm.training.optimizers import make_optimizer
from kerasllm.training.progress import Progress
from kerasllm.training.step import EvaluationStep, TrainStep, distributed
from kerasllm.training.workdir import prepare_workdir

LANGUAGE_HEADS = ("masked_lm", "causal_lm")  # whose perplexity, exp(loss), means something
MOST_SKIPS = 3  # in a row: one bad batch is bad luck, three are a run that has left the rails

Metrics = dict[str, float]


class Trainer:
    """Trains a model in a workdir, and goes on from the newest checkpoint there.

    Args:
      model_fn: makes the built model; called once, under the strategy's scope. The model is called as
        `model(inputs, training=..., dropout_seed=[2] int32)` with every part of a batch but labels and weights.
      heads: what is learned; each head's loss is the mean over its own real targets of the global batch.
      run: the configuration; of it `train`, `optimizer` and `seed` are used.
      workdir: folder of the run; made if it is not there.
      strategy: from `make_strategy`.
      actions: what happens on the way (TensorBoard, ...).
      initialize: called with the new model when there is no checkpoint to go on from, to load a pretrained part.

    Attributes:
      model, optimizer: there after `prepare`.
      stopped: a signal (SIGTERM, SIGINT) ended `fit` early; the state is saved, the program should exit with 0.

    Raises:
      ConfigError: the batch does not divide over the replicas, or the workdir is another run's or not writable.
    """

    def __init__(
        self,
        model_fn: Callable[[], keras.Model],
        heads: Sequence[Head],
        run: Run,
        workdir: str | os.PathLike[str],
        strategy: tf.distribute.Strategy,
        actions: Sequence[Action] = (),
        initialize: Callable[[keras.Model], object] | None = None,
    ) -> None:
        parts = strategy.num_replicas_in_sync * run.train.accumulation
        if run.train.global_batch % parts:
            raise ConfigError(
                f"train.global_batch={run.train.global_batch} is not a multiple of {parts} = "
                f"{strategy.num_replicas_in_sync} replicas x train.accumulation={run.train.accumulation}."
            )
        self.model_fn = model_fn
        self.heads = tuple(heads)
        self.run = run
        self.workdir = prepare_workdir(workdir, run)
        self.strategy = strategy
        self.actions = tuple(actions)
        self.initialize = initialize
        self.checkpoints = CheckpointFolder(self.workdir.checkpoints, run.train.keep_newest)
        self.stopped = False
        self.total_steps = 0
        self.train_metrics: Metrics = {}
        self.held_out_metrics: Metrics = {}
        self._window = Window()
        self._saved_step = -1

    def prepare(self, total_steps: int) -> None:
        """Makes model, optimizer and compiled steps; `fit` does it by itself, a benchmark may call it alone."""
        self.total_steps = total_steps
        with self.strategy.scope():
            self.model = self.model_fn()
            self.optimizer = make_optimizer(self.run.optimizer, total_steps, self.model)
        self.train_step = TrainStep(
            self.strategy,
            self.model,
            self.optimizer,
            self.heads,
            self.run.train.accumulation,
            self.run.optimizer.clip_norm,
            self.run.seed,
        )
        self.evaluation_step = EvaluationStep(self.strategy, self.model, self.heads)

    def fit(
        self,
        batches_from: Callable[[int], tf.data.Dataset],
        total_steps: int,
        evaluation_batches: Callable[[], tf.data.Dataset] | None = None,
    ) -> dict[str, Any]:
        """Trains up to `total_steps`, from the newest checkpoint if there is one.

        Args:
          batches_from: the global batches from a step on.
          total_steps: optimizer steps of the whole run, those already done included.
          evaluation_batches: the held-out batches; rows of weight 0 may fill up the last one.

        Returns:
          {"step", "stopped", "train": metrics of the last look, "held_out": metrics}, also written to metrics.json.

        Raises:
          TrainingError: numbers are not finite any more, the data ended, or another process trains here.
          CheckpointError: the newest checkpoint is of another shape or damaged, or cannot be written.
        """
        self.stopped = False
        self.prepare(total_steps)
        with self.workdir.locked(), self._signals_that_stop():
            step = self._resume()
            progress = Progress(step, total_steps)
            self._tell("on_start", step)
            next_batch = distributed(self.strategy, batches_from(step)) if step < total_steps else None
            try:
                while step < total_steps and not self.stopped:
                    assert next_batch is not None
                    step = self._train_some(step, next_batch, progress)
                    self._look(step, progress, evaluation_batches)
                    self._keep(step)
                if not self.held_out_metrics and not self.stopped:
                    self._evaluate(step, evaluation_batches)  # a finished run that is started again
            finally:
                progress.close()
                self._tell("on_end", step)
            results = {
                "step": step,
                "stopped": self.stopped,
                "train": self.train_metrics,
                "held_out": self.held_out_metrics,
            }
            self.workdir.write_metrics(results)
        return results

    def evaluate(self, batches: tf.data.Dataset) -> Metrics:
        """Loss, accuracy (and perplexity) of each head: exact means over all real targets, whatever the replicas."""
        next_batch = distributed(self.strategy, batches)
        rows = []
        with contextlib.suppress(StopIteration):
            while True:
                rows.append(self.evaluation_step(next_batch()))
        if not rows:
            raise TrainingError("there is not one held-out batch. Raise data.held_out_share or give more text.")
        sums = np.sum([row.numpy() for row in rows], axis=0, dtype=np.float64)
        return summarize(self.heads, dict(zip(self.evaluation_step.names, sums.tolist(), strict=True)))

    def _resume(self) -> int:
        """The order of restoring, and the step to go on from.

        1. run.yaml has been compared when the trainer was made.
        2. Model and optimizer exist with all their variables (`prepare`), else there is nothing to restore into.
        3. Weights and slots come from the newest checkpoint.
        4. The data is asked for from that step on; dropout is keyed by the step. There is no other state.
        """
        newest = self.checkpoints.newest()
        if newest is None:
            if self.initialize is not None:
                self.initialize(self.model)
            return 0
        with self.strategy.scope():
            restore_state(newest, self.model, self.optimizer)
        self._saved_step = newest.step
        return newest.step

    def _train_some(self, step: int, next_batch: Callable[[], Any], progress: Progress) -> int:
        """Trains up to the next step at which something is due, or until a signal comes."""
        train = self.run.train
        until = min(
            self.total_steps,
            *(step - step % every + every for every in (train.log_every, train.evaluate_every, train.checkpoint_every)),
        )
        while step < until and not self.stopped:
            try:
                batch = next_batch()
            except StopIteration:
                raise TrainingError(
                    f"the data ended at step {step} of {self.total_steps}. Lower train.steps or let the batches repeat."
                ) from None
            self._tell("before_step", step)
            self._window.add(step, self.train_step(batch, step), self.train_step.names)
            if self._window.skips_in_a_row >= MOST_SKIPS:
                self._stop_for_skips()
            step += 1
            progress.advance()
        return step

    def _look(self, step: int, progress: Progress, evaluation_batches: Callable[[], tf.data.Dataset] | None) -> None:
        train = self.run.train
        is_last = step == self.total_steps
        if step % train.log_every == 0 or is_last or self.stopped:
            first_step = self._window.first_step
            sums, rates = self._window.close()
            if self._window.skips_in_a_row >= MOST_SKIPS:
                self._stop_for_skips()
            self._check_weights(first_step, step)
            self.train_metrics = {**summarize(self.heads, sums), **rates}
            progress.report(step, self.train_metrics)
            self._tell("on_log", step, self.train_metrics)
        if (step % train.evaluate_every == 0 or is_last) and not self.stopped:
            self._evaluate(step, evaluation_batches, progress)
            self._window.restart_clock()

    def _evaluate(
        self,
        step: int,
        evaluation_batches: Callable[[], tf.data.Dataset] | None,
        progress: Progress | None = None,
    ) -> None:
        if evaluation_batches is None:
            return
        self.held_out_metrics = self.evaluate(evaluation_batches())
        if progress is not None:
            progress.report(step, self.held_out_metrics, "held out")
        self._tell("on_evaluate", step, self.held_out_metrics)
        self._evaluated_step = step

    def _keep(self, step: int) -> None:
        evaluated = getattr(self, "_evaluated_step", None) == step
        best = self.checkpoints.best()
        is_best = evaluated and (best is None or self.held_out_metrics["loss"] < best.loss)
        is_due = step % self.run.train.checkpoint_every == 0 or step == self.total_steps or self.stopped
        if not (is_due or is_best) or step == self._saved_step:
            return
        self._check_weights(self._saved_step + 1, step)
        saved = self.checkpoints.save(
            step, self.model, self.optimizer, self.run, self.held_out_metrics if evaluated else {}
        )
        self._saved_step = step
        self._tell("on_checkpoint", step, saved)
        self._window.restart_clock()

    def _check_weights(self, first_step: int, step: int) -> None:
        if weights_are_finite(self.model):
            return
        bad = [one.path for one in self.model.weights if not np.all(np.isfinite(keras.ops.convert_to_numpy(one)))]
        raise TrainingError(
            f"weight {bad[0]!r} (and {len(bad) - 1} more) is not finite after steps {first_step} to {step}. "
            f"{self._last_good()} Lower optimizer.peak_learning_rate or raise optimizer.warmup_share."
        )

    def _stop_for_skips(self) -> None:
        steps = ", ".join(str(step) for step in self._window.skipped_steps[-MOST_SKIPS:])
        raise TrainingError(
            f"steps {steps}: the loss or the gradient was not finite {MOST_SKIPS} times in a row; these steps were "
            f"skipped. {self._last_good()} Lower optimizer.peak_learning_rate, or look at the data of these steps."
        )

    def _last_good(self) -> str:
        newest: Checkpoint | None = self.checkpoints.newest()
        return f"The last good checkpoint is {newest.folder}." if newest else "There is no checkpoint yet."

    def _tell(self, event: str, step: int, *details: Any) -> None:
        for action in self.actions:
            getattr(action, event)(self, step, *details)

    @contextlib.contextmanager
    def _signals_that_stop(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the run after the step; a second one does what it did before."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def stop(number: int, _: object) -> None:
            self.stopped = True
            signal.signal(number, before[signal.Signals(number)])

        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Window:
    """The numbers of the steps since the last look. Each is fetched one step late, so that a device never waits."""

    def __init__(self) -> None:
        self.skipped_steps: list[int] = []
        self.skips_in_a_row = 0
        self.first_step = 0
        self._unread: tuple[int, tf.Tensor] | None = None
        self._names: tuple[str, ...] = ()
        self._rows: list[np.ndarray] = []
        self._last: Metrics = {}
        self._timed_tokens = 0.0
        self._timed_steps = 0
        self._seconds = 0.0
        self._clock: float | None = None  # None until the first step, which compiles the graph, is done

    def add(self, step: int, numbers: tf.Tensor, names: tuple[str, ...]) -> None:
        """Takes the numbers of a step that may still be under way, and reads those of the step before."""
        if self._unread is None and not self._rows:
            self.first_step = step
        self._names = names
        self._read()
        self._unread = (step, numbers)
        if self._clock is None:
            self._read()
            self._timed_tokens, self._timed_steps, self._clock = 0.0, 0, time.perf_counter()

    def close(self) -> tuple[Metrics, Metrics]:
        """Ends the window: sums over its steps that were not skipped, and its rates."""
        self._read()
        self._stop_clock()
        sums = np.sum(self._rows, axis=0, dtype=np.float64) if self._rows else np.full(len(self._names), math.nan)
        named: Metrics = dict(zip(self._names, sums.tolist(), strict=True))
        rates = {
            "learning_rate": self._last.get("learning_rate", math.nan),
            "gradient_norm": named["gradient_norm"] / max(len(self._rows), 1),
            "skipped_steps": float(len(self.skipped_steps)),
        }
        if self._timed_steps and self._seconds:
            rates["steps_per_s"] = self._timed_steps / self._seconds
        if named["slots"]:
            rates["padding_share"] = 1 - named["tokens"] / named["slots"]
            if self._timed_steps and self._seconds:
                rates["tokens_per_s"] = self._timed_tokens / self._seconds
        self._rows, self._timed_tokens, self._timed_steps, self._seconds = [], 0.0, 0, 0.0
        self._clock = time.perf_counter()
        return named, rates

    def restart_clock(self) -> None:
        """Leaves out the time since the last step: evaluating and saving are not training."""
        self._read()
        self._clock = time.perf_counter()

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._seconds += time.perf_counter() - self._clock
            self._clock = None

    def _read(self) -> None:
        if self._unread is None:
            return
        step, numbers = self._unread
        self._unread = None
        row = numbers.numpy()
        named = dict(zip(self._names, row.tolist(), strict=True))
        self._last = named
        self._timed_tokens += named["tokens"]
        self._timed_steps += 1
        if named["skipped"]:
            self.skipped_steps.append(step)
            self.skips_in_a_row += 1
        else:
            self.skips_in_a_row = 0
            self._rows.append(row)


def summarize(heads: Sequence[Head], sums: Mapping[str, float]) -> Metrics:
    """Means from sums: `loss` (weighted over the heads) and `<head>/loss`, `<head>/accuracy`, `<head>/perplexity`."""
    metrics: Metrics = {"loss": 0.0}
    for head in heads:
        count = sums[f"{head.name}/targets"]
        loss = sums[f"{head.name}/loss"] / count if count else math.nan
        metrics[f"{head.name}/loss"] = loss
        metrics[f"{head.name}/accuracy"] = sums[f"{head.name}/correct"] / count if count else math.nan
        if head.name in LANGUAGE_HEADS:
            metrics[f"{head.name}/perplexity"] = math.exp(min(loss, 700.0))
        metrics["loss"] += head.weight * loss if count else 0.0
    return metrics


def weights_are_finite(model: keras.Model) -> bool:
    """Whether every weight is a number; one pass over the weights, one boolean to the host."""
    return bool(_all_finite([variable.value for variable in model.weights if variable.dtype.startswith(("f", "b"))]))


@tf.function(reduce_retracing=True)
def _all_finite(values: list[tf.Variable]) -> tf.Tensor:
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in values])
