"""How fast is a choice of batch and accumulation, and what memory does it need? Short real runs, thrown away."""

import gc
import logging
import math
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from apps.pretrain import task
from apps.pretrain.planning import Probe, choices
from kerasllm.config import Run
from kerasllm.data import Corpus, Tables
from kerasllm.training import Action, Trainer
from kerasllm.training.ledger import peak_memory_bytes

NEVER = 1_000_000_000  # steps
LEAST_STEPS = 3  # that are timed

logger = logging.getLogger(__name__)


class Stopwatch(Action):
    """Times the steps and ends the run when the time is up; steps that make a graph are not timed.

    Attributes:
      step_s: seconds of the timed steps, from the beginning of each to that of the next.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.step_s: list[float] = []
        self._begin, self._traced_s = math.nan, math.nan

    def before_step(self, trainer: Trainer, step: int) -> None:
        """Ends the step before; the one in which the time is up still runs, but is not counted."""
        now, traced_s = time.perf_counter(), trainer.ledger.booked("tracing")
        if traced_s == self._traced_s:
            self.step_s.append(now - self._begin)
        self._begin, self._traced_s = now, traced_s
        if len(self.step_s) >= LEAST_STEPS and sum(self.step_s) >= self.seconds:
            trainer.stopped = True


def probe_choices(
    run: Run,
    corpus: Corpus,
    tables: Mapping[str, Tables],
    strategy: tf.distribute.Strategy,
    seconds: float,
    memory_gb: float,
) -> list[Probe]:
    """Probes each choice, smallest first; those that would not fit into the memory are left out.

    Args:
      run: whose batch and accumulation are varied.
      corpus: what is trained on.
      tables: labelled texts of run.mix, by name; empty where there is no mix.
      strategy: of one process.
      seconds: of timed steps, over all choices; making graphs, evaluating and saving come on top.
      memory_gb: 10^9 bytes that the process may use.
    """
    pairs = choices(run.train, strategy.num_replicas_in_sync)
    probes: list[Probe] = []
    before_gb = peak_memory_bytes() / 1e9
    for batch, accumulation in pairs:
        if probes:
            last = probes[-1]
            growth = (batch / accumulation) / (last.global_batch / last.accumulation)
            if before_gb + (last.peak_memory_gb - before_gb) * growth > memory_gb:
                break
        choice = _changed(run, global_batch=batch, accumulation=accumulation)
        probes.append(probe(choice, corpus, tables, strategy, seconds / len(pairs)))
        logger.info("probed batch %d in %d slices: %.0f tokens/s", batch, accumulation, probes[-1].tokens_per_s)
    return probes


def probe(
    run: Run, corpus: Corpus, tables: Mapping[str, Tables], strategy: tf.distribute.Strategy, seconds: float
) -> Probe:
    """Trains for some seconds, evaluates and saves once, in a folder that is removed afterwards."""
    run = _changed(run, steps=NEVER, epochs=None, evaluate_every=NEVER, checkpoint_every=NEVER)
    watch = Stopwatch(seconds)
    with tempfile.TemporaryDirectory() as folder:
        trainer = task.make_trainer(run, corpus, Path(folder), strategy, [watch])
        task.fit(trainer, corpus, tables)
        with trainer.ledger.spending("evaluation"):
            trainer.evaluate(task.held_out_batches(corpus, run, tables))
            task.text_samples(corpus, run)(trainer.model, 0)
    summary = trainer.ledger.summary()
    spent, work = summary["seconds"], summary["work"]
    regular = statistics.fmean(watch.step_s) * work["steps"]
    once = summary["wall_clock_s"] - regular - spent["evaluation"] - spent["checkpoint"]
    del trainer
    gc.collect()  # a graph and its trainer hold each other; the next choice shall not find them in memory
    return Probe(
        global_batch=run.train.global_batch,
        accumulation=run.train.accumulation,
        step_s=tuple(watch.step_s),
        tokens_per_step=work["tokens"] / work["steps"],
        start_s=max(once, 0.0),
        evaluation_s=spent["evaluation"],
        checkpoint_s=spent["checkpoint"],
        peak_memory_gb=peak_memory_bytes() / 1e9,
    )


def _changed(run: Run, **changes: object) -> Run:
    """The run with other values in its section `train`."""
    return run.model_copy(update={"train": run.train.model_copy(update=changes)})
