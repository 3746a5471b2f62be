"""What happened since the last look? Sums over the steps, their rate, and which of them were skipped."""

import math

import numpy as np
import tensorflow as tf

from kerasllm.training.ledger import Ledger

Metrics = dict[str, float]


class Window:
    """The numbers of the steps since the last look. Each is fetched one step late, so that a device never waits.

    Args:
      ledger: gets each step's numbers, and knows the time that they took.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.skipped_steps: list[int] = []
        self.skips_in_a_row = 0
        self.first_step = 0
        self._unread: tuple[int, tf.Tensor, bool] | None = None
        self._names: tuple[str, ...] = ()
        self._rows: list[np.ndarray] = []
        self._last: Metrics = {}

    def add(self, step: int, numbers: tf.Tensor, names: tuple[str, ...]) -> None:
        """Takes the numbers of a step that may still be under way, and reads those of the step before."""
        if self._unread is None and not self._rows:
            self.first_step = step
        self._names = names
        self.read()
        is_timed = self._ledger.entry != "tracing"
        self._unread = (step, numbers, is_timed)
        if not is_timed:  # it made a graph, which says nothing about the rate: the device catches up here
            self.read()

    def read(self) -> None:
        """Waits for the numbers of the newest step."""
        if self._unread is None:
            return
        step, numbers, is_timed = self._unread
        self._unread = None
        row = numbers.numpy()
        named = dict(zip(self._names, row.tolist(), strict=True))
        self._last = named
        self._ledger.book(step, named, is_timed)
        if named["skipped"]:
            self.skipped_steps.append(step)
            self.skips_in_a_row += 1
        else:
            self.skips_in_a_row = 0
            self._rows.append(row)

    def close(self) -> tuple[Metrics, Metrics]:
        """Ends the window: sums over its steps that were not skipped, and its rates."""
        self.read()
        named = add_up(self._names, self._rows) if self._rows else dict.fromkeys(self._names, math.nan)
        rates = {
            "learning_rate": self._last.get("learning_rate", math.nan),
            "gradient_norm": named["gradient_norm"] / max(len(self._rows), 1),
            "skipped_steps": float(len(self.skipped_steps)),
        }
        if named["slots"]:
            rates["padding_share"] = 1 - named["tokens"] / named["slots"]
        self._rows = []
        return named, {**rates, **self._ledger.rates()}


def add_up(names: tuple[str, ...], rows: list[np.ndarray]) -> Metrics:
    """Sums of named numbers over steps, in float64: counts stay exact."""
    totals = np.asarray(rows, np.float64).sum(axis=0).tolist()
    return dict(zip(names, totals, strict=True))
