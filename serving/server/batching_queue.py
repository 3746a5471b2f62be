"""Which tasks run together? They gather into batches, in a queue for each kind of task, by the stock server's rules.

The last batch of a queue is open until it is full, or has no room for the next task. A batch may run when it is closed
or full, or when its first task has waited for the timeout; until a thread takes it, an open batch goes on growing.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from serving.server.batching_parameters import BatchingParameters
from serving.server.status import Code, StatusError, invalid

QUEUED_TOO_LONG = "Run() timeout exceeded while waiting in batching queue"


class Task:
    """A request's rows, or a part of them. Whoever brings it waits for its outcome; a batch sets it.

    `arrays` stand in the order of the queue's feeds; `deadline` is a time of `time.monotonic`.
    """

    __slots__ = ("arrays", "batch", "deadline", "done", "error", "outputs", "size")

    def __init__(self, arrays: Sequence[np.ndarray], size: int, deadline: float = math.inf) -> None:
        self.arrays = arrays
        self.size = size
        self.deadline = deadline
        self.batch: Batch | None = None  # while it is queued; then None, as they would hold each other
        self.outputs: list[np.ndarray] | None = None
        self.error: Exception | None = None
        self.done = threading.Lock()  # taken until there is an outcome; lighter than an Event
        self.done.acquire()

    def cut(self, start: int, stop: int) -> "Task":
        """The part with these rows."""
        return Task([array[start:stop] for array in self.arrays], stop - start, self.deadline)


class Batch:
    """Tasks that run together, unless they leave before."""

    __slots__ = ("due", "size", "tasks")

    def __init__(self, due: float) -> None:
        self.tasks: list[Task] = []
        self.size = 0
        self.due = due


class BatchQueue:
    """Waiting tasks of one kind, oldest batch first. The scheduler's lock guards all of it."""

    def __init__(self, parameters: BatchingParameters, run: Callable[[list[Task]], None]) -> None:
        self.run = run  # gives each task outputs or an error; what it raises is the error of all the others
        self.batches: deque[Batch] = deque()
        self.num_running = 0
        self.batch_seconds = 0.0  # recent mean run time
        self.is_closed = False
        self._parameters = parameters
        self._batch_size = parameters.execution_batch_size
        self._timeout_s = parameters.batch_timeout_micros / 1e6

    def check_room(self, size: int) -> None:
        """Refuses a task that is too large, or that the queue is too full for, in the stock server's words."""
        parameters = self._parameters
        if size > parameters.max_batch_size:
            raise invalid(f"Task size {size} is larger than maximum input batch size {parameters.max_batch_size}")
        num_batches = len(self.batches) or 1  # the stock server counts the open batch even when it is empty
        open_size = self.batches[-1].size if self.batches else 0
        most = max(1, parameters.max_enqueued_batches)
        full = "The batch scheduling queue to which this task was submitted is full; "
        if parameters.enable_large_batch_splitting:
            capacity = (most - num_batches) * self._batch_size + self._batch_size - open_size
            if size > capacity:
                raise StatusError(
                    Code.UNAVAILABLE,
                    f"{full}task size is {size} but scheduling capacity is only {capacity} "
                    f"(num_enqueued_batches={num_batches}, max_enqueued_batches={most}, open_batch_size={open_size}, "
                    f"max_execution_batch_size={self._batch_size})",
                )
        elif open_size + size > self._batch_size and num_batches >= most:
            raise StatusError(
                Code.UNAVAILABLE,
                f"{full}currently {num_batches} batches enqueued and max_enqueued_batches is {most}",
            )

    def needs_no_company(self, size: int) -> bool:
        """Whether a task of this size could run at once, were it alone."""
        return size == self._batch_size or (not self._timeout_s and size < self._batch_size)

    def add(self, task: Task) -> list[Task]:
        """Puts a task, or its parts if it does not fit into the open batch and may be split, into batches."""
        parts = [task]
        if self._parameters.enable_large_batch_splitting:
            room = self._batch_size - (self.batches[-1].size if self.batches else 0)
            if task.size > room:
                stops = [*range(room, task.size, self._batch_size), task.size]
                parts = [task.cut(start, stop) for start, stop in zip([0, *stops], stops, strict=False) if stop > start]
        for part in parts:
            if not self.batches or self.batches[-1].size + part.size > self._batch_size:
                self.batches.append(Batch(time.monotonic() + self._timeout_s))
            part.batch = self.batches[-1]
            part.batch.tasks.append(part)
            part.batch.size += part.size
        return parts

    def is_ready(self, now: float) -> bool:
        """Whether the first batch may run."""
        first = self.batches[0]
        return len(self.batches) > 1 or first.size >= self._batch_size or first.due <= now or self.is_closed

    def seconds_ahead(self, size: int) -> float:
        """The run time of the batches before a task of this size."""
        joins = bool(self.batches) and self.batches[-1].size + size <= self._batch_size
        return (len(self.batches) - joins) * self.batch_seconds
