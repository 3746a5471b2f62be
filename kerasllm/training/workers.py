"""Which processes train together, which of them writes, and what happens when one is lost?"""

import contextlib
import json
from collections.abc import Iterator

import tensorflow as tf

from kerasllm.config import Cluster
from kerasllm.errors import ConfigError, TrainingError

LOST = (tf.errors.UnavailableError, tf.errors.DeadlineExceededError, tf.errors.AbortedError, tf.errors.CancelledError)


def workers_of(cluster: Cluster, worker_index: int | None, tf_config: str | None) -> tuple[list[str], int]:
    """Addresses of all workers, the chief first, and which of them this process is.

    Args:
      cluster: counts where `tf_config` is not given.
      worker_index: of this process in the cluster.
      tf_config: what stands in the variable TF_CONFIG: JSON of "cluster" (jobs "chief" and "worker") and "task".

    Raises:
      ConfigError: the workers, or the number of this one, are not said, or wrong.
    """
    if tf_config and worker_index is None:
        return _read_tf_config(tf_config)
    workers = list(cluster.workers)
    if not workers:
        raise ConfigError(
            "train.strategy='multi_worker_mirrored' needs the workers' addresses: set the variable TF_CONFIG, or "
            "cluster.workers=[host:port, ...] with --worker_index."
        )
    if worker_index is None or not 0 <= worker_index < len(workers):
        raise ConfigError(
            f"worker_index={worker_index}: cluster.workers has the workers 0 to {len(workers) - 1}. Give "
            "--worker_index or the variable KERASLLM_WORKER_INDEX, another one to each process."
        )
    return workers, worker_index


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes checkpoints and logs; one process alone does."""
    return num_workers(strategy) == 1 or strategy.cluster_resolver.task_id == 0


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """Processes that train together."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    return len(strategy.cluster_resolver.cluster_spec().job_tasks("worker"))


def total_over_workers(strategy: tf.distribute.Strategy, value: int) -> int:
    """Sum of one number of each worker; all workers have to call it, and wait for each other in it."""
    if num_workers(strategy) == 1:
        return value
    per_replica = strategy.experimental_distribute_values_from_function(lambda _: tf.constant(value, tf.int64))
    total = int(strategy.reduce("SUM", per_replica, axis=None).numpy())
    return total // (strategy.num_replicas_in_sync // num_workers(strategy))


@contextlib.contextmanager
def naming_lost_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turns TensorFlow's errors about a worker that is gone into one of ours; one process alone keeps them.

    Raises:
      TrainingError: a worker is lost. Nothing can be computed in this process any more: it has to end.
    """
    try:
        yield
    except LOST as error:
        if num_workers(strategy) == 1:
            raise
        raise TrainingError(
            f"worker {strategy.cluster_resolver.task_id} of {num_workers(strategy)} stops, because another worker is "
            f"lost ({_cause(error.message)}). Start all of them again: they go on from the newest "
            "checkpoint."
        ) from error


def _cause(message: str) -> str:
    """What TensorFlow says, without the stack of the operation that happened to notice it."""
    stack = ("File ", "Graph execution error", "Detected at node", "The error could be")
    lines = (line.strip() for line in message.splitlines())
    return " ".join(line for line in lines if line and not line.startswith(stack))[:300]


def _read_tf_config(text: str) -> tuple[list[str], int]:
    try:
        tree = json.loads(text)
        jobs, task = tree["cluster"], tree["task"]
        kind, index = str(task["type"]), int(task["index"])
        chiefs, workers = list(jobs.get("chief", [])), list(jobs.get("worker", []))
        if set(jobs) - {"chief", "worker"}:
            raise ValueError(f"a job that is neither chief nor worker: {', '.join(jobs)}")
        if not 0 <= index < len(jobs[kind]):
            raise ValueError(f"task {index} of {len(jobs[kind])} of job {kind!r}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f'the variable TF_CONFIG is wrong ({error!r}). Expected {{"cluster": {{"worker": ["host:port", ...]}}, '
            '"task": {"type": "worker", "index": 0}}.'
        ) from None
    return chiefs + workers, index + (len(chiefs) if kind == "worker" else 0)
