"""What happened since the last look? Sums over the steps, their rate, and which of them were skipped."""

import contextlib
import math
import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

Metrics = dict[str, float]


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
        self._start = 0.0
        self._is_first = True

    def add(self, step: int, numbers: tf.Tensor, names: tuple[str, ...]) -> None:
        """Takes the numbers of a step that may still be under way, and reads those of the step before."""
        if self._unread is None and not self._rows:
            self.first_step = step
        self._names = names
        self._read()
        self._unread = (step, numbers)
        if self._is_first:  # it compiled the graph, which says nothing about the rate
            self._read()
            self._timed_tokens, self._timed_steps, self._start = 0.0, 0, time.perf_counter()
            self._is_first = False

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Steps are timed inside: looking, evaluating and saving are not training."""
        self._start = time.perf_counter()
        yield
        self._read()
        self._seconds += time.perf_counter() - self._start

    def close(self) -> tuple[Metrics, Metrics]:
        """Ends the window: sums over its steps that were not skipped, and its rates."""
        self._read()
        named = add_up(self._names, self._rows) if self._rows else dict.fromkeys(self._names, math.nan)
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
        return named, rates

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


def add_up(names: tuple[str, ...], rows: list[np.ndarray]) -> Metrics:
    """Sums of named numbers over steps, in float64: counts stay exact."""
    totals = np.asarray(rows, np.float64).sum(axis=0).tolist()
    return dict(zip(names, totals, strict=True))
