"""Over which devices and processes does a run compute? tf.distribute strategies by name, and each one's rows."""

import dataclasses
import os
import socket
from typing import Any

import tensorflow as tf

from kerasllm.config import Cluster
from kerasllm.errors import ConfigError, TrainingError
from kerasllm.training.workers import LOST, workers_of

# B rows of the global batch, R replicas of all workers

TPU_ANSWERS_S = 10.0  # a TPU that does not take a connection in this time is not there


def configure_devices(num_devices: int = 0, num_threads: int = 0) -> None:
    """Sets logical CPU devices and threads; to be called before anything else is computed with TensorFlow.

    Args:
      num_devices: logical CPU devices to split the CPU into when there is no GPU; 0 or 1 leaves it whole.
      num_threads: threads of one operation, over all devices; 0 leaves it to TensorFlow (all cores).

    Raises:
      ConfigError: TensorFlow has already started with other devices or threads.
    """
    try:
        if num_threads:
            tf.config.threading.set_intra_op_parallelism_threads(num_threads)
        if num_devices > 1 and not tf.config.list_physical_devices("GPU"):
            cpu = tf.config.list_physical_devices("CPU")[0]
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * num_devices)
    except RuntimeError as error:
        raise ConfigError(
            f"num_devices={num_devices}, num_threads={num_threads} come too late ({error}). "
            "Call configure_devices before the first tensor is made."
        ) from error


def make_strategy(
    name: str, num_devices: int = 0, cluster: Cluster | None = None, worker_index: int | None = None
) -> tf.distribute.Strategy:
    """The strategy of `train.strategy`; with several workers or a TPU, before anything is computed with TensorFlow.

    Args:
      name: "one_device", "mirrored", "multi_worker_mirrored" or "tpu".
      num_devices: replicas of the mirrored strategy; 0 means every GPU, or every logical CPU when there is no GPU.
      cluster: the addresses of the workers, or of the TPU; None: the caller is not made for several processes.
      worker_index: which of the workers this process is; None: the variable TF_CONFIG says it, and the cluster.

    Raises:
      ConfigError: there are fewer devices than asked for, the cluster is not said, or there is no TPU.
    """
    if name == "multi_worker_mirrored" and cluster is None:
        raise ConfigError(
            "train.strategy='multi_worker_mirrored': this program trains in one process. Choose one_device or mirrored."
        )
    cluster = cluster or Cluster()
    if name == "multi_worker_mirrored":
        return _multi_worker(cluster, worker_index)
    if name == "tpu":
        return _tpu(cluster.tpu)
    devices = [device.name for kind in ("GPU", "CPU") for device in tf.config.list_logical_devices(kind)]
    if name == "one_device":
        return tf.distribute.OneDeviceStrategy(devices[0])
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    if num_devices > len(devices):
        raise ConfigError(
            f"num_devices={num_devices}, but TensorFlow has {len(devices)} {kind} device(s). "
            "Ask for fewer, or call configure_devices first, which splits the CPU."
        )
    return tf.distribute.MirroredStrategy(devices[: num_devices or None])


@dataclasses.dataclass(frozen=True)
class Batches:
    """A function that gives the next global batch, spread over the replicas; StopIteration at the end.

    Attributes:
      element_spec: what is known of every batch beforehand.
    """

    iterator: Any

    def __call__(self) -> Any:
        """The next one."""
        return next(self.iterator)

    @property
    def element_spec(self) -> Any:
        """See the class."""
        return self.iterator.element_spec


def distributed(strategy: tf.distribute.Strategy, batches: tf.data.Dataset) -> Batches:
    """The global batches of a data set, spread over the replicas.

    Every process goes through the same global batches and takes its own rows: replica r of R has the rows from
    r * B / R up to (r + 1) * B / R, in however many processes the replicas are.

    Raises:
      ConfigError: a TPU cannot take such batches.
    """
    if isinstance(strategy, tf.distribute.TPUStrategy):
        refuse_what_a_tpu_cannot_take(batches.element_spec)
    options = tf.data.Options()
    # The tuner's thread can miss that its iterator ends, and then holds it for up to a minute; input is not what waits.
    options.autotune.enabled = False
    batches = batches.with_options(options)
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return Batches(iter(batches))

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        here = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * here

        def spread(batch: dict[str, tf.Tensor]) -> tf.data.Dataset:
            return tf.data.Dataset.range(first, first + here).map(lambda one: rows_of_replica(batch, one, replicas))

        return batches.flat_map(spread).prefetch(2 * here)

    return Batches(iter(strategy.distribute_datasets_from_function(of_worker)))


def rows_of_replica(batch: dict[str, tf.Tensor], replica: tf.Tensor, replicas: int) -> dict[str, tf.Tensor]:
    """One replica's part of a global batch; its shape is static where the batch's is and divides."""

    def cut(rows: tf.Tensor) -> tf.Tensor:
        size = tf.shape(rows, tf.int64)[0]
        part = rows[replica * size // replicas : (replica + 1) * size // replicas]
        static = rows.shape[0]
        if static is not None and static % replicas == 0:
            part.set_shape([static // replicas, *rows.shape[1:]])
        return part

    return {name: cut(rows) for name, rows in batch.items()}


def refuse_what_a_tpu_cannot_take(element_spec: Any) -> None:
    """Batches for a TPU have static shapes and hold no strings.

    Raises:
      ConfigError: a part of the batch is not so.
    """
    for name, spec in element_spec.items():
        if spec.dtype == tf.string or not spec.shape.is_fully_defined():
            raise ConfigError(
                f"train.strategy='tpu': {name!r} of a batch is {spec.dtype.name} {spec.shape}, and a TPU takes numbers "
                "of static shapes only. Choose a task with rows of one length (pretraining), or another strategy."
            )


def _multi_worker(cluster: Cluster, worker_index: int | None) -> tf.distribute.Strategy:
    workers, index = workers_of(cluster, worker_index, os.environ.get("TF_CONFIG"))
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": workers}), task_type="worker", task_id=index, rpc_layer="grpc"
    )
    try:
        # Without a timeout of its collectives: each one would hold a thread for as long, thousands in a few steps.
        return tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except RuntimeError as error:  # TensorFlow has computed something already
        raise ConfigError(
            f"train.strategy='multi_worker_mirrored' comes too late ({error}). Call make_strategy before the first "
            "tensor is made."
        ) from error
    except (*LOST, tf.errors.InternalError, tf.errors.UnknownError) as error:
        raise TrainingError(
            f"worker {index} cannot join the {len(workers)} workers {', '.join(workers)} "
            f"({' '.join(error.message.split())[:300]}). Is each address its own process's, and free?"
        ) from error


def _tpu(address: str) -> tf.distribute.Strategy:
    try:
        if address.startswith("grpc://"):  # TensorFlow would wait for it without end
            host, _, port = address.removeprefix("grpc://").rpartition(":")
            socket.create_connection((host, int(port)), timeout=TPU_ANSWERS_S).close()
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=address)
        if address != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, ImportError, OSError, tf.errors.OpError) as error:
        raise ConfigError(
            f"train.strategy='tpu': no TPU answers at cluster.tpu={address!r} ({' '.join(str(error).split())[:120]}). "
            "Run on a TPU VM, set cluster.tpu to its address, or choose another strategy."
        ) from error
