"""Do tasks gather into the batches that the stock server would form? Real threads; no claim rests on a time."""

import gc
import threading
import time
import weakref

import numpy as np
import pytest

from serving.server.batching_parameters import BatchingParameters
from serving.server.batching_queue import BatchQueue, Task
from serving.server.batching_scheduler import BatchScheduler
from serving.server.status import Code, StatusError

WAIT_S = 60.0
HOUR = 3_600_000_000  # microseconds


class Runs:
    """Keeps which rows ran together, and where; holds a batch back while the gate is closed."""

    def __init__(self):
        self.batches, self.threads = [], []
        self.gate, self.began = threading.Event(), threading.Semaphore(0)
        self.gate.set()

    def __call__(self, tasks):
        self.batches.append([task.arrays[0].tolist() for task in tasks])
        self.threads.append(threading.current_thread())
        self.began.release()
        assert self.gate.wait(WAIT_S)
        for task in tasks:
            task.outputs = task.arrays


@pytest.fixture
def runs():
    return Runs()


@pytest.fixture
def scheduler():
    scheduler = BatchScheduler(1, "one")
    yield scheduler
    scheduler.close()


def _queue(run, **parameters):
    return BatchQueue(BatchingParameters(**parameters), run)


def _task(*rows):
    return Task([np.array(rows)], len(rows))


def _wait(*tasks):
    for task in tasks:
        assert task.done.acquire(timeout=WAIT_S)


def _occupied(scheduler, runs, queue):
    """The pool's only thread runs a batch until the gate opens; returns what waits for that."""
    runs.gate.clear()
    task = _task(0)
    thread = threading.Thread(target=scheduler.submit, args=(queue, task))
    thread.start()
    assert runs.began.acquire(timeout=WAIT_S)

    def release():
        runs.gate.set()
        thread.join(WAIT_S)

    return release


def test_a_lone_task_that_need_not_wait_runs_in_the_thread_that_brings_it(scheduler, runs):
    task = _task(1)
    assert scheduler.submit(_queue(runs), task) == [task]
    assert not task.done.locked()
    assert runs.threads == [threading.current_thread()]


def test_a_lone_task_runs_when_it_has_waited_for_the_timeout(scheduler, runs):
    task = _task(1)
    scheduler.submit(_queue(runs, batch_timeout_micros=1000), task)
    _wait(task)
    assert runs.batches == [[[1]]]
    assert runs.threads[0] is not threading.current_thread()


def test_a_full_batch_does_not_wait_for_the_timeout(scheduler, runs):  # [40]
    queue, tasks = _queue(runs, max_batch_size=4, batch_timeout_micros=HOUR), [_task(1), _task(2, 3), _task(4)]
    for task in tasks:
        scheduler.submit(queue, task)
    _wait(*tasks)
    assert runs.batches == [[[1], [2, 3], [4]]]


def test_the_tensors_of_a_batch_are_given_back_without_waiting_for_the_garbage_collector(scheduler, runs):
    queue = _queue(runs, max_batch_size=2, batch_timeout_micros=HOUR)

    def run_two():
        tasks = [_task(1), _task(2)]
        for task in tasks:
            scheduler.submit(queue, task)
        _wait(*tasks)
        scheduler.drain(queue)
        return [weakref.ref(task.arrays[0]) for task in tasks]

    gc.disable()
    try:
        assert [tensor() for tensor in run_two()] == [None, None]
    finally:
        gc.enable()
    assert runs.batches == [[[1], [2]]]


def test_a_task_that_fills_a_batch_by_itself_does_not_wait(scheduler, runs):
    scheduler.submit(_queue(runs, max_batch_size=2, batch_timeout_micros=HOUR), _task(1, 2))
    assert runs.batches == [[[1, 2]]]


def test_a_batch_is_closed_by_the_task_that_does_not_fit(scheduler, runs):
    queue = _queue(runs, max_batch_size=4, batch_timeout_micros=HOUR)
    first, second = _task(1, 2, 3), _task(4, 5)
    scheduler.submit(queue, first)
    scheduler.submit(queue, second)
    _wait(first)
    assert runs.batches == [[[1, 2, 3]]]
    scheduler.drain(queue)


def test_what_comes_while_the_threads_are_busy_runs_together(scheduler, runs):
    queue = _queue(runs)
    release = _occupied(scheduler, runs, queue)
    tasks = [_task(number) for number in (1, 2, 3)]
    for task in tasks:
        scheduler.submit(queue, task)
    release()
    _wait(*tasks)
    assert runs.batches == [[[0]], [[1], [2], [3]]]


def test_queues_take_turns_and_never_share_a_batch(scheduler, runs):
    busy, one, other = _queue(runs), _queue(runs, max_batch_size=1), _queue(runs, max_batch_size=1)
    release = _occupied(scheduler, runs, busy)
    tasks = [_task(number) for number in (1, 2, 3, 4)]
    for queue, task in zip([one, one, other, other], tasks, strict=True):
        scheduler.submit(queue, task)
    release()
    _wait(*tasks)
    assert runs.batches[1:] == [[[1]], [[3]], [[2]], [[4]]]


def test_the_queue_with_the_shorter_timeout_is_not_kept_by_the_longer_one(scheduler, runs):
    slow, quick = _queue(runs, batch_timeout_micros=HOUR), _queue(runs, batch_timeout_micros=1000)
    waiting, task = _task(1), _task(2)
    scheduler.submit(slow, waiting)
    scheduler.submit(quick, task)
    _wait(task)
    assert runs.batches == [[[2]]]
    scheduler.drain(slow)


def test_a_task_larger_than_a_batch_is_refused(scheduler, runs):  # [41]
    with pytest.raises(StatusError) as caught:
        scheduler.submit(_queue(runs, max_batch_size=2), _task(1, 2, 3))
    assert caught.value.code == Code.INVALID_ARGUMENT
    assert caught.value.message == "Task size 3 is larger than maximum input batch size 2"


def test_a_full_queue_refuses(scheduler, runs):  # [42]
    queue = _queue(runs, max_batch_size=2, max_enqueued_batches=2)
    release = _occupied(scheduler, runs, queue)
    for number in range(4):
        scheduler.submit(queue, _task(number))
    with pytest.raises(StatusError) as caught:
        scheduler.submit(queue, _task(5))
    release()
    assert caught.value.code == Code.UNAVAILABLE
    assert caught.value.message == (
        "The batch scheduling queue to which this task was submitted is full; currently 2 batches enqueued and "
        "max_enqueued_batches is 2"
    )


def test_a_large_task_is_split_over_batches_and_joined_by_others(scheduler, runs):
    queue = _queue(
        runs, max_batch_size=8, max_execution_batch_size=3, enable_large_batch_splitting=True, batch_timeout_micros=HOUR
    )
    small, large = _task(1), _task(2, 3, 4, 5, 6, 7)
    scheduler.submit(queue, small)
    parts = scheduler.submit(queue, large)
    assert [part.arrays[0].tolist() for part in parts] == [[2, 3], [4, 5, 6], [7]]
    _wait(small, parts[0], parts[1])
    assert runs.batches == [[[1], [2, 3]], [[4, 5, 6]]]
    scheduler.drain(queue)
    assert runs.batches[2:] == [[[7]]]


def test_a_queue_that_splits_says_how_many_rows_it_has_room_for(scheduler, runs):  # [42]
    queue = _queue(
        runs, max_batch_size=8, max_execution_batch_size=2, enable_large_batch_splitting=True, max_enqueued_batches=2
    )
    release = _occupied(scheduler, runs, queue)
    scheduler.submit(queue, _task(1))
    with pytest.raises(StatusError) as caught:
        scheduler.submit(queue, _task(2, 3, 4, 5))
    release()
    assert caught.value.code == Code.UNAVAILABLE
    assert caught.value.message == (
        "The batch scheduling queue to which this task was submitted is full; task size is 4 but scheduling capacity "
        "is only 3 (num_enqueued_batches=1, max_enqueued_batches=2, open_batch_size=1, max_execution_batch_size=2)"
    )


def test_a_task_that_leaves_the_queue_is_not_run_and_makes_room(scheduler, runs):
    queue = _queue(runs, max_batch_size=1, max_enqueued_batches=1)
    release = _occupied(scheduler, runs, queue)
    gone, task = _task(1), _task(2)
    scheduler.submit(queue, gone)
    with pytest.raises(StatusError, match="is full"):
        scheduler.submit(queue, task)
    assert scheduler.withdraw(queue, gone)
    scheduler.submit(queue, task)
    release()
    _wait(task)
    assert runs.batches == [[[0]], [[2]]]


def test_a_task_that_runs_cannot_leave(scheduler, runs):
    queue = _queue(runs, batch_timeout_micros=1)
    runs.gate.clear()
    task = _task(1)
    scheduler.submit(queue, task)
    assert runs.began.acquire(timeout=WAIT_S)
    assert not scheduler.withdraw(queue, task)
    runs.gate.set()
    _wait(task)
    assert not scheduler.withdraw(queue, task)


def test_a_batch_that_raises_fails_its_tasks_and_no_other(scheduler, runs):
    def fail(tasks):
        raise ValueError("of this batch")

    tasks = [_task(1), _task(2)]
    queue = _queue(fail, max_batch_size=2, batch_timeout_micros=HOUR)
    for task in tasks:
        scheduler.submit(queue, task)
    _wait(*tasks)
    assert [str(task.error) for task in tasks] == ["of this batch"] * 2
    scheduler.submit(_queue(runs), _task(3))
    assert runs.batches == [[[3]]]


def test_draining_waits_for_what_runs(scheduler, runs):
    queue = _queue(runs)
    release = _occupied(scheduler, runs, queue)
    drained = threading.Event()
    thread = threading.Thread(target=lambda: (scheduler.drain(queue), drained.set()))
    thread.start()
    assert not drained.wait(0.05)
    release()
    assert drained.wait(WAIT_S)
    thread.join()


def test_draining_does_not_wait_for_what_leaves(scheduler, runs):
    busy, queue = _queue(runs), _queue(runs)
    release, task = _occupied(scheduler, runs, busy), _task(1)
    scheduler.submit(queue, task)
    thread = threading.Thread(target=scheduler.drain, args=(queue,))
    thread.start()
    assert scheduler.withdraw(queue, task)
    thread.join(WAIT_S)
    assert not thread.is_alive()
    release()


def test_work_that_would_wait_too_long_is_refused_if_the_server_is_told_so(runs):
    scheduler = BatchScheduler(1, "one", max_delay_s=0.015)
    queue = _queue(runs, max_batch_size=1, max_enqueued_batches=100)
    release = _occupied(scheduler, runs, queue)
    queue.batch_seconds = 0.01
    for number in range(2):  # the first has none before it, the second 10 ms
        scheduler.submit(queue, _task(number))
    with pytest.raises(StatusError) as caught:
        scheduler.submit(queue, _task(3))
    release()
    scheduler.drain(queue)
    scheduler.close()
    assert caught.value.code == Code.RESOURCE_EXHAUSTED
    assert caught.value.message.startswith(
        "The batching queues are 20 ms behind, and this server accepts no more than 15"
    )


def test_many_threads_lose_and_repeat_nothing():
    # 8 threads bring 200 tasks each to two queues of a pool of two; every row comes back to whoever brought it.
    scheduler = BatchScheduler(2, "two")
    rows_run, lock = [], threading.Lock()

    def run(tasks):
        with lock:
            rows_run.extend(row for task in tasks for row in task.arrays[0].tolist())
        time.sleep(0)
        for task in tasks:
            task.outputs = [-task.arrays[0]]

    queues = [
        _queue(run, max_batch_size=4, batch_timeout_micros=100, max_enqueued_batches=1000),
        _queue(run, max_batch_size=4, max_enqueued_batches=1000),
    ]
    wrong = []

    def ask(first):
        for row in range(first, first + 200):
            task = _task(row)
            scheduler.submit(queues[row % 2], task)
            if not task.done.acquire(timeout=WAIT_S) or task.outputs[0].tolist() != [-row]:
                wrong.append(row)

    threads = [threading.Thread(target=ask, args=(1000 * number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    scheduler.close()
    assert not wrong
    assert sorted(rows_run) == sorted(1000 * number + row for number in range(1, 9) for row in range(200))
