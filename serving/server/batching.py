"""How do requests that come at the same time share a run? Engines that join them, with the stock server's rules."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow.core.protobuf import config_pb2

from serving.server import batching_tensors
from serving.server.batching_cancellation import when_not_wanted
from serving.server.batching_parameters import BatchingParameters, read_batching_parameters
from serving.server.batching_queue import QUEUED_TOO_LONG, BatchQueue, Task
from serving.server.batching_scheduler import BatchScheduler
from serving.server.engine import Engine, OpenModel
from serving.server.session_model import SessionModel
from serving.server.status import Code, StatusError, timed_out

OnBatch = Callable[[Sequence[int], int, int], object]  # rows of each task, with padding, and the most of a batch
PER_MODEL_FILE = "batching_params.pbtxt"  # beside saved_model.pb


class Batching:
    """Loads models whose requests are joined; all of them share the threads of one pool.

    `on_batch` is told of every batch that has run. With `per_model`, the sizes and the timeout stand in a file of the
    model's own; a model without it is not batched. `open_model` loads what computes.

    Raises:
      StatusError: INVALID_ARGUMENT, a pool without threads.
    """

    def __init__(
        self,
        parameters: BatchingParameters,
        per_model: bool = False,
        max_delay_s: float | None = None,
        on_batch: OnBatch = lambda sizes, padded_size, most: None,
        open_model: OpenModel = SessionModel,
    ) -> None:
        parameters.check_threads()
        self._on_batch = on_batch
        self._open_model = open_model
        self._parameters = parameters
        self._per_model = per_model
        self._scheduler = BatchScheduler(parameters.num_batch_threads, parameters.thread_pool_name, max_delay_s)

    def load(
        self, directory: Path, tags: Sequence[str] = ("serve",), session: config_pb2.ConfigProto | None = None
    ) -> Engine:
        """The engine of a version's folder; arguments as Engine's.

        Raises:
          StatusError: what Engine raises, or batching parameters that cannot be read or met.
        """
        path = directory / PER_MODEL_FILE
        if self._per_model and not path.is_file():
            return Engine(directory, tags, session, self._open_model)
        parameters = read_batching_parameters(path) if self._per_model else self._parameters
        return BatchingEngine(directory, parameters, self._scheduler, tags, session, self._on_batch, self._open_model)

    def num_queued(self) -> int:
        """Batches that wait for a thread or for company."""
        return self._scheduler.num_queued()

    def close(self) -> None:
        """Ends the pool, after all of its engines are closed."""
        self._scheduler.close()


class BatchingEngine(Engine):
    """An Engine that runs requests with the same feeds and fetches together, and gives each its rows of the results.

    Raises:
      StatusError: what Engine raises; parameters that the stock server refuses.
    """

    def __init__(
        self,
        directory: Path,
        parameters: BatchingParameters,
        scheduler: BatchScheduler,
        tags: Sequence[str] = ("serve",),
        session: config_pb2.ConfigProto | None = None,
        on_batch: OnBatch = lambda sizes, padded_size, most: None,
        open_model: OpenModel = SessionModel,
    ) -> None:
        parameters.check_queue()
        self._on_batch = on_batch
        super().__init__(directory, tags, session, open_model)
        self._parameters = parameters
        self._scheduler = scheduler
        self._queues: dict[tuple[tuple[str, ...], tuple[str, ...]], BatchQueue] = {}
        self._streamed = self._feeds_of_streams()
        self._new_queue = threading.Lock()

    def run(
        self, feeds: Sequence[tuple[str, np.ndarray]], fetches: Sequence[str], timeout_s: float | None = None
    ) -> list[Any]:
        """Waits for a batch with these rows in it, and returns their rows of the tensors named in `fetches`.

        Raises:
          StatusError: what Engine.run raises, for any request of the batch; the texts of the stock server for requests
            that cannot be joined and for a full queue; RESOURCE_EXHAUSTED for `timeout_s` seconds in the queue.
        """
        if timeout_s is not None and timeout_s <= 0:
            raise timed_out()
        named = dict(feeds)
        names, wanted = tuple(sorted(named)), tuple(sorted(set(fetches)))
        arrays = [named[name] for name in names]
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        task = Task(arrays, batching_tensors.num_rows(arrays), deadline)
        queue = self._queues.get((names, wanted)) or self._add_queue(names, wanted)
        parts = self._scheduler.submit(queue, task)
        if any(part.done.locked() for part in parts):
            when_not_wanted(partial(self._give_up, queue, parts))
        try:
            outputs = [self._outcome(queue, part) for part in parts]
        except StatusError:
            self._give_up(queue, parts)  # one part has failed: the others are of no use
            raise
        values = outputs[0] if len(outputs) == 1 else [np.concatenate(pieces) for pieces in zip(*outputs, strict=True)]
        return [values[wanted.index(name)] for name in fetches]

    @contextmanager
    def before_service(self) -> Iterator[None]:
        """A block whose requests take no turn of the threads that answer for other versions.

        They do not count for how long a batch takes either: the first ones take longer.
        """
        shared, self._scheduler = self._scheduler, BatchScheduler(1, "warm_up")
        try:
            yield
        finally:
            self._scheduler.close()
            self._scheduler = shared
            self._queues.clear()

    def close(self) -> None:
        """Lets the batches end that still run, then ends the session."""
        for queue in self._queues.values():
            self._scheduler.drain(queue)
        super().close()

    def _add_queue(self, names: tuple[str, ...], wanted: tuple[str, ...]) -> BatchQueue:
        with self._new_queue:
            if (names, wanted) not in self._queues:
                queue = BatchQueue(self._parameters, partial(self._run_batch, names, wanted))
                self._queues[names, wanted] = queue
            return self._queues[names, wanted]

    def _feeds_of_streams(self) -> set[tuple[str, ...]]:
        """The feeds whose padding the model declares to be harmless, so that streams of any length run together."""
        contract = self.declared.streaming
        keys = (contract.whole, contract.first, contract.next) if contract else ()
        return {tuple(sorted(info.name for info in self.signatures[key].inputs.values())) for key in keys}

    def _outcome(self, queue: BatchQueue, task: Task) -> list[np.ndarray]:
        """Waits until a task has run, no longer than its deadline."""
        wait_s = task.deadline - time.monotonic()
        if wait_s > threading.TIMEOUT_MAX:
            task.done.acquire()
        elif not task.done.acquire(timeout=max(0.0, wait_s)):
            if self._scheduler.withdraw(queue, task):
                raise StatusError(Code.RESOURCE_EXHAUSTED, QUEUED_TOO_LONG)
            if not task.done.acquire(blocking=False):  # its batch runs on, for the others
                raise timed_out()
        if isinstance(task.error, StatusError):  # a new one for each thread, as raising changes it
            raise StatusError(task.error.code, task.error.message) from task.error
        if task.error is not None:
            raise RuntimeError("A batch could not be run.") from task.error
        assert task.outputs is not None, "a task that has ended has outputs or an error"
        return task.outputs

    def _give_up(self, queue: BatchQueue, tasks: Sequence[Task]) -> None:
        """Takes what has not begun out of the queue."""
        for task in tasks:
            if self._scheduler.withdraw(queue, task):
                task.error = StatusError(Code.CANCELLED, "The call ended before its turn in the batching queue.")
                task.done.release()

    def _run_batch(self, names: tuple[str, ...], wanted: tuple[str, ...], tasks: list[Task]) -> None:
        """Runs the tasks of a batch that have time left; tasks of other types than their neighbours run apart.

        The stock server joins tensors of different types too, which fails, and so fails whoever is in the batch.
        """
        now = time.monotonic()
        groups: dict[tuple[Any, ...], list[Task]] = {}
        for task in tasks:
            if task.deadline <= now:
                task.error = StatusError(Code.RESOURCE_EXHAUSTED, QUEUED_TOO_LONG)
            else:
                is_empty = [not array.size for array in task.arrays] if names in self._streamed else []
                groups.setdefault((*(array.dtype for array in task.arrays), *is_empty), []).append(task)
        for group in groups.values():
            self._run_or_fail(names, wanted, group, now)

    def _run_or_fail(self, names: tuple[str, ...], wanted: tuple[str, ...], tasks: list[Task], now: float) -> None:
        """Runs tasks together; in streams, what one of them gets wrong does not end the others."""
        try:
            self._run_group(names, wanted, tasks, now)
        except StatusError as error:
            if len(tasks) > 1 and error.code == Code.INVALID_ARGUMENT and names in self._streamed:
                for task in tasks:
                    self._run_or_fail(names, wanted, [task], now)
                return
            for task in tasks:  # the error itself and its cause hold frames, and these hold the tasks
                task.error = StatusError(error.code, error.message)

    def _run_group(self, names: tuple[str, ...], wanted: tuple[str, ...], tasks: list[Task], now: float) -> None:
        sizes = [task.size for task in tasks]
        size = sum(sizes)
        padded_size = self._parameters.padded_size(size) if size else 0
        pad = self._parameters.pad_variable_length_inputs or names in self._streamed
        joined = batching_tensors.join(names, [task.arrays for task in tasks], padded_size, pad)
        deadline = max(task.deadline for task in tasks)
        timeout_s = None if deadline == float("inf") else deadline - now
        values = super().run(list(zip(names, joined, strict=True)), wanted, timeout_s)
        for task, outputs in zip(tasks, batching_tensors.cut(values, sizes, padded_size), strict=True):
            task.outputs = outputs
        self._on_batch(sizes, padded_size, self._parameters.execution_batch_size)
