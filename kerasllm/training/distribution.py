"""Over which devices does a run compute? Devices and threads of the process, and tf.distribute strategies by name."""

import tensorflow as tf

from kerasllm.errors import ConfigError

AVAILABLE = ("one_device", "mirrored")


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


def make_strategy(name: str, num_devices: int = 0) -> tf.distribute.Strategy:
    """The strategy of `train.strategy`.

    Args:
      name: "one_device" or "mirrored".
      num_devices: replicas of the mirrored strategy; 0 means every GPU, or every logical CPU when there is no GPU.

    Raises:
      ConfigError: the strategy is not there yet, or there are fewer devices than asked for.
    """
    if name not in AVAILABLE:
        raise ConfigError(f"train.strategy={name!r} is not there yet. There are: {', '.join(AVAILABLE)}.")
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
