"""In which order do examples stand in batches? Addressed by the step, rows of like length together."""

import collections
import math
import threading
from collections.abc import Sized

import numpy as np

from kerasllm.config import Run

BUCKETED_BATCHES = 32  # batches whose rows are sorted by length among themselves; the rest of the order stays random
# N examples, B rows of a batch


class BatchOrder:
    """Which examples belong to a step; a function of the run's seed and the examples' lengths.

    Args:
      lengths: [N] tokens of each example.
      run: `seed` and `train.global_batch` are used.
      training: shuffled and endless, rows of like length together; else once, in the order of the file.
      steps: batches of an epoch.
    """

    def __init__(self, lengths: np.ndarray, run: Run, training: bool, steps: int) -> None:
        self._lengths, self._count, self._steps = lengths, len(lengths), steps
        self._batch, self._seed = run.train.global_batch, run.seed
        self._training, self._lock = training, threading.Lock()
        self._orders: collections.OrderedDict[int, np.ndarray] = collections.OrderedDict()

    def rows(self, step: int) -> np.ndarray:
        """[B] int64; -1 where the batch is only filled up."""
        if not self._training:
            rows = np.arange(step * self._batch, (step + 1) * self._batch)
            return np.where(rows < self._count, rows, -1)
        epoch, step = divmod(int(step), self._steps)
        return self._order(epoch)[np.arange(step * self._batch, (step + 1) * self._batch) % self._count]

    def _order(self, epoch: int) -> np.ndarray:
        with self._lock:
            if epoch not in self._orders:
                self._orders[epoch] = self._shuffled(np.random.default_rng([self._seed, epoch, 3]))
                while len(self._orders) > 2:
                    self._orders.popitem(last=False)
            return self._orders[epoch]

    def _shuffled(self, random: np.random.Generator) -> np.ndarray:
        """A random order whose full batches hold rows of like length, and come in a random order themselves."""
        order = random.permutation(self._count)
        full = self._count // self._batch * self._batch
        window = self._batch * BUCKETED_BATCHES
        parts = [order[start : min(start + window, full)] for start in range(0, full, window)]
        batches = [part[np.argsort(self._lengths[part], kind="stable")].reshape(-1, self._batch) for part in parts]
        if not batches:
            return order
        return np.concatenate([random.permutation(np.concatenate(batches)).reshape(-1), order[full:]])


def batches_per_epoch(examples: Sized, run: Run, *, training: bool) -> int:
    """Batches of one epoch of labelled texts or pairs: full ones in training, all of them otherwise."""
    batch = run.train.global_batch
    return max(1, len(examples) // batch) if training else math.ceil(len(examples) / batch)
