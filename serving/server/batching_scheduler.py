"""What runs next, and in which thread? A few threads, shared by the queues of all models, run batches in turns.

Nothing polls: a thread that waits is woken by a batch that can run, and one of the waiting threads sleeps until the
next batch is due.

With a timeout of 0, or with a task that fills a batch, a lone task has nothing to wait for. The thread that brings it
runs it, as long as fewer batches run than the pool has threads; that saves two switches between threads.
"""

import math
import threading
import time
from collections import deque

from serving.server.batching_queue import Batch, BatchQueue, Task
from serving.server.status import Code, StatusError

_RECENT = 0.2  # weight of the newest batch in the mean run time


class BatchScheduler:
    """The threads that run batches, for the queues of all models.

    `max_delay_s`: the wait, as far as it can be foreseen, with which a task is still accepted; None: any.
    """

    def __init__(self, num_threads: int, name: str, max_delay_s: float | None = None) -> None:
        self._lock = threading.Lock()
        self._work_changed = threading.Condition(self._lock)
        self._queue_emptied = threading.Condition(self._lock)
        self._pending: deque[BatchQueue] = deque()  # the queues that hold batches; the first has the next turn
        self._num_threads = self._num_free = num_threads
        self._watched_until = math.inf  # a thread sleeps until then; it will see what is due
        self._max_delay_s = max_delay_s
        self._is_closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}_{number}", daemon=True) for number in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def num_queued(self) -> int:
        """Batches of all queues that do not run yet."""
        with self._lock:
            return sum(len(queue.batches) for queue in self._pending)

    def submit(self, queue: BatchQueue, task: Task) -> list[Task]:
        """Queues a task and returns the parts that it was split into; all of their outcomes are to be waited for.

        Raises:
          StatusError: the task is too large, the queue is full, or the wait would be too long.
        """
        with self._lock:
            queue.check_room(task.size)
            is_alone = not self._pending and self._num_free > 0 and queue.needs_no_company(task.size)
            if not is_alone:
                self._check_delay(queue, task.size)
                return self._enqueue(queue, task)
            self._num_free -= 1
            queue.num_running += 1
        self._run(queue, [task])
        with self._lock:
            self._end(queue)
            if self._pending:
                self._work_changed.notify()
        return [task]

    def withdraw(self, queue: BatchQueue, task: Task) -> bool:
        """Takes a task out of its batch; False: it runs, or has ended."""
        with self._lock:
            batch = task.batch
            if batch is None:
                return False
            batch.tasks.remove(task)
            batch.size -= task.size
            task.batch = None
            if not batch.tasks:
                queue.batches.remove(batch)
                if not queue.batches:
                    self._pending.remove(queue)
                    self._queue_emptied.notify_all()
            return True

    def drain(self, queue: BatchQueue) -> None:
        """Returns when everything in a queue has run; nothing more may be brought to it."""
        with self._lock:
            queue.is_closed = True
            self._work_changed.notify_all()
            self._queue_emptied.wait_for(lambda: not queue.batches and not queue.num_running)

    def close(self) -> None:
        """Ends the threads once their batches have run; what is still queued never runs."""
        with self._lock:
            self._is_closed = True
            self._work_changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _check_delay(self, queue: BatchQueue, size: int) -> None:
        if self._max_delay_s is None or self._num_free:
            return
        ahead_s = queue.seconds_ahead(size)
        for other in self._pending:
            if other is not queue:
                ahead_s += len(other.batches) * other.batch_seconds
        delay_s = ahead_s / self._num_threads
        if delay_s > self._max_delay_s:
            raise StatusError(
                Code.RESOURCE_EXHAUSTED,
                f"The batching queues are {delay_s * 1000:.0f} ms behind, and this server accepts no more than "
                f"{self._max_delay_s * 1000:.0f} ms. Ask again later, at growing intervals.",
            )

    def _enqueue(self, queue: BatchQueue, task: Task) -> list[Task]:
        num_batches = len(queue.batches)
        if not num_batches:
            self._pending.append(queue)
        parts = queue.add(task)
        new_batches = len(queue.batches) - num_batches
        if self._num_free and (new_batches or queue.is_ready(-math.inf)):
            self._work_changed.notify(max(1, new_batches))
        return parts

    def _work(self) -> None:
        taken = self._next(None)
        while taken is not None:
            queue, batch = taken
            self._run(queue, batch.tasks)
            del taken, batch  # while it waits it holds no tensors
            taken = self._next(queue)

    def _next(self, ended: BatchQueue | None) -> tuple[BatchQueue, Batch] | None:
        """Hands back a queue whose batch has run, and waits for the next batch; None when the scheduler is closed."""
        with self._lock:
            if ended is not None:
                self._end(ended)
            while not self._is_closed:
                due = math.inf
                now = time.monotonic()
                if self._num_free and self._pending:
                    taken = self._take(now)
                    if taken is not None:
                        if self._num_free and self._pending:
                            self._work_changed.notify()  # another thread runs or watches over the others
                        return taken
                    due = min(queue.batches[0].due for queue in self._pending)
                if due < self._watched_until:
                    self._watched_until = due
                    self._work_changed.wait(due - now)
                    if self._watched_until == due:
                        self._watched_until = math.inf
                else:
                    self._work_changed.wait()
            return None

    def _take(self, now: float) -> tuple[BatchQueue, Batch] | None:
        for _ in range(len(self._pending)):
            queue = self._pending[0]
            self._pending.rotate(-1)
            if queue.is_ready(now):
                batch = queue.batches.popleft()
                for task in batch.tasks:
                    task.batch = None
                if not queue.batches:
                    self._pending.pop()
                self._num_free -= 1
                queue.num_running += 1
                return queue, batch
        return None

    def _end(self, queue: BatchQueue) -> None:
        self._num_free += 1
        queue.num_running -= 1
        if queue.is_closed:
            self._queue_emptied.notify_all()

    def _run(self, queue: BatchQueue, tasks: list[Task]) -> None:
        start = time.monotonic()
        try:
            queue.run(tasks)
        except Exception as error:  # whoever waits has to hear of it, whatever it is
            for task in tasks:
                if task.outputs is None and task.error is None:
                    task.error = error
        for task in tasks:
            task.done.release()
        elapsed = time.monotonic() - start
        queue.batch_seconds += (elapsed - queue.batch_seconds) * (_RECENT if queue.batch_seconds else 1.0)
