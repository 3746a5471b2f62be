"""How does a run go from its first step to its last? Train some, look, keep, repeat."""

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasllm import metrics
from kerasllm.config import Run
from kerasllm.errors import ConfigError, TrainingError
from kerasllm.losses import Head
from kerasllm.training.actions import Action
from kerasllm.training.checkpoints import Checkpoint, CheckpointFolder, restore_state
from kerasllm.training.distribution import Batches, distributed
from kerasllm.training.flops import count_flops, matrix_product_rate
from kerasllm.training.ledger import Ledger
from kerasllm.training.optimizers import make_optimizer
from kerasllm.training.progress import Progress, report_ledger
from kerasllm.training.step import EvaluationStep, TrainStep, should_compile
from kerasllm.training.window import Window, add_up
from kerasllm.training.workdir import prepare_workdir
from kerasllm.training.workers import is_chief, naming_lost_workers, num_workers, total_over_workers

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
      actions: what happens on the way (TensorBoard, ...); of several workers, in the chief alone.
      initialize: called with the new model when there is no checkpoint to go on from, to load a pretrained part.

    Attributes:
      model, optimizer: there after `prepare`.
      is_chief: this process writes the workdir; of several workers one does.
      ledger: where the time goes; kept in ledger.json by `fit`.
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
        self.is_chief = is_chief(strategy)
        self.workdir = prepare_workdir(workdir, run, writes=self.is_chief)
        self.strategy = strategy
        self.actions = tuple(actions) if self.is_chief else ()
        self.initialize = initialize
        self.checkpoints = CheckpointFolder(self.workdir.checkpoints, run.train.keep_newest)
        self.stopped = self._is_told_to_stop = False
        self.total_steps = 0
        self.train_metrics: Metrics = {}
        self.held_out_metrics: Metrics = {}
        self.ledger = Ledger()
        self._window = Window(self.ledger)
        self._evaluated_step = self._saved_step = -1

    def prepare(self, total_steps: int) -> None:
        """Makes model, optimizer and compiled steps; `fit` does it by itself, a benchmark may call it alone."""
        self.total_steps = total_steps
        # New weights are the run's own: Keras draws their seeds from Python's generator. Its set_random_seed would also
        # empty TensorFlow's caches, and with them a SentencePiece tokenizer that is there already.
        random.seed(self.run.seed)
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
            self.ledger.tracing,
            should_compile(self.run.train.jit_compile, self.strategy),
        )
        self.evaluation_step = EvaluationStep(self.strategy, self.model, self.heads, self.ledger.tracing)

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
          TrainingError: numbers are not finite any more, the data ended, another process trains here, or a worker is
            lost.
          CheckpointError: the newest checkpoint is of another shape or damaged, or cannot be written.
        """
        self.stopped = self._is_told_to_stop = False
        ledger_file = self.workdir.path / "ledger.json"
        kept = self.ledger.kept(ledger_file) if self.is_chief else contextlib.nullcontext()
        with self._alone(), self._signals_that_stop(), kept:
            self.prepare(total_steps)
            self._measure_machine()
            step = self._resume()
            progress = Progress(step, total_steps)
            self._tell("on_start", step)
            next_batch = self._batches_for(self.train_step, batches_from(step)) if step < total_steps else None
            try:
                while step < total_steps and not self.stopped:
                    assert next_batch is not None
                    step = self._train_some(step, next_batch, progress)
                    self._look(step, progress, evaluation_batches)
                    self._keep(step)
                    if self.is_chief:
                        self.ledger.write(ledger_file)
                if self.stopped and step:
                    self._keep(step)  # a signal may come after the step was looked at
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
            del next_batch  # its threads end here, where their time is still booked
            if self.is_chief:
                self.workdir.write_metrics(results)
                report_ledger(self.ledger.summary())
            total_over_workers(self.strategy, step)  # no worker ends before the chief has written everything
        return results

    def evaluate(self, batches: tf.data.Dataset) -> Metrics:
        """Loss, accuracy (and perplexity) of each head: exact means over all real targets, whatever the replicas."""
        with self.ledger.spending("evaluation"):
            next_batch = self._batches_for(self.evaluation_step, batches)
            rows = []
            with contextlib.suppress(StopIteration):
                while True:
                    rows.append(self._evaluate_batch(next_batch()))
            if not rows:
                raise TrainingError("there is not one held-out batch. Raise data.held_out_share or give more text.")
            return summarize(self.heads, add_up(self.evaluation_step.names, [row.numpy() for row in rows]))

    def _evaluate_batch(self, batch: Any) -> tf.Tensor:
        with self.ledger.spending("evaluation"):  # a call by itself: the first one is tracing, the others are not
            return self.evaluation_step(batch)

    def _batches_for(self, step: TrainStep | EvaluationStep, batches: tf.data.Dataset) -> Batches:
        """Spreads batches over the replicas, and tells the step what they have in common."""
        spread = distributed(self.strategy, batches)
        step.graph.expect(spread.element_spec)
        return spread

    def _measure_machine(self) -> None:
        """Tells the ledger what a token costs and what the machine can do, where the model is a transformer of text."""
        backbone = getattr(self.model, "backbone", None)
        if backbone is None:
            return
        needed = {
            stage: count_flops(
                backbone.options,
                backbone.vocab_size,
                self.run.train.sequence_length,
                [variable.path for variable in self.train_step.learning(stage)],
            )
            for stage in self.train_step.stages
        }
        self.ledger.flops = lambda step: needed[self.train_step.stage(step)]
        self.ledger.matrix_product = matrix_product_rate(self.strategy, self.run.train.precision)

    def _resume(self) -> int:
        """The order of restoring, and the step to go on from.

        1. run.yaml has been compared when the trainer was made.
        2. Model and optimizer exist with all their variables (`prepare`), else there is nothing to restore into.
        3. Weights and slots come from the newest checkpoint.
        4. The data is asked for from that step on; dropout is keyed by the step. There is no other state.
        """
        newest = self.checkpoints.newest()
        self._agree_on(newest.step if newest else 0)
        if newest is None:
            if self.initialize is not None:
                self.initialize(self.model)
            return 0
        with self.strategy.scope(), self.ledger.spending("checkpoint"):
            restore_state(newest, self.model, self.optimizer)
        self._saved_step = newest.step
        return newest.step

    def _agree_on(self, step: int) -> None:
        """Stops a run whose workers would go on from different steps."""
        if total_over_workers(self.strategy, step) != step * num_workers(self.strategy):
            raise TrainingError(
                f"this worker would go on from step {step}, another one from another step. {self.workdir.path} has to "
                "be one folder that all workers see."
            )

    def _train_some(self, step: int, next_batch: Callable[[], Any], progress: Progress) -> int:
        """Trains up to the next step at which something is due, or until a signal comes."""
        train = self.run.train
        until = min(
            self.total_steps,
            *(step - step % every + every for every in (train.log_every, train.evaluate_every, train.checkpoint_every)),
        )
        while step < until and not self.stopped:
            with self.ledger.spending("input_wait"):
                batch = self._next(next_batch, step)
            self._tell("before_step", step)
            with self.ledger.spending("training"):
                self._window.add(step, self.train_step(batch, step), self.train_step.names)
            if self._window.skips_in_a_row >= MOST_SKIPS:
                self._stop_for_skips()
            step += 1
            progress.advance()
        with self.ledger.spending("training"):
            self._window.read()
        if num_workers(self.strategy) > 1:  # all of them end at the same step, or some would wait for the others
            self.stopped = total_over_workers(self.strategy, self._is_told_to_stop) > 0
        return step

    def _next(self, next_batch: Callable[[], Any], step: int) -> Any:
        try:
            return next_batch()
        except StopIteration:
            raise TrainingError(
                f"the data ended at step {step} of {self.total_steps}. Lower train.steps or let the batches repeat."
            ) from None

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

    def _evaluate(
        self,
        step: int,
        evaluation_batches: Callable[[], tf.data.Dataset] | None,
        progress: Progress | None = None,
    ) -> None:
        if evaluation_batches is None:
            return
        with self.ledger.spending("evaluation"):
            self.held_out_metrics = self.evaluate(evaluation_batches())
            if progress is not None:
                progress.report(step, self.held_out_metrics, "held out")
            self._tell("on_evaluate", step, self.held_out_metrics)
        self._evaluated_step = step

    def _keep(self, step: int) -> None:
        if not self.is_chief:
            return
        evaluated = self._evaluated_step == step
        best = self.checkpoints.best() if evaluated else None
        is_best = evaluated and (best is None or self.held_out_metrics["loss"] < best.loss)
        is_due = step % self.run.train.checkpoint_every == 0 or step == self.total_steps or self.stopped
        if not (is_due or is_best) or step == self._saved_step:
            return
        self._check_weights(self._saved_step + 1, step)
        with self.ledger.spending("checkpoint"):
            saved = self.checkpoints.save(
                step, self.model, self.optimizer, self.run, self.held_out_metrics if evaluated else {}
            )
            self._saved_step = step
            self._tell("on_checkpoint", step, saved)

    def _check_weights(self, first_step: int, step: int) -> None:
        if weights_are_finite(self.model):
            return
        bad = [one.path for one in self.model.weights if not np.all(np.isfinite(one.numpy()))]
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
    def _alone(self) -> Iterator[None]:
        """No other run writes in the workdir; a worker that is lost ends this one with an error that says so."""
        lock = self.workdir.locked() if self.is_chief else contextlib.nullcontext()
        with lock, naming_lost_workers(self.strategy):
            yield

    @contextlib.contextmanager
    def _signals_that_stop(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the run after the step; a second one does what it did before.

        Of several workers all end at the next look.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def stop(number: int, _: object) -> None:
            self._is_told_to_stop = True
            self.stopped = num_workers(self.strategy) == 1
            signal.signal(number, before[signal.Signals(number)])

        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def summarize(heads: Sequence[Head], sums: Mapping[str, float]) -> Metrics:
    """The metrics of `kerasllm.metrics.summarize` from sums named `<head>/loss`, `<head>/correct`, `<head>/targets`."""
    return metrics.summarize(
        {head.name: {total: sums[f"{head.name}/{total}"] for total in ("loss", "correct")} for head in heads},
        {head.name: sums[f"{head.name}/targets"] for head in heads},
        {head.name: head.weight for head in heads},
    )


def weights_are_finite(model: keras.Model) -> bool:
    """Whether every weight is a number; one pass over the weights, one boolean to the host."""
    return bool(_all_finite([variable.value for variable in model.weights if variable.dtype.startswith(("f", "b"))]))


@tf.function(reduce_retracing=True)
def _all_finite(values: list[tf.Variable]) -> tf.Tensor:
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in values])
