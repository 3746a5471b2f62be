"""How does the embedded server live? Flags, loading, serving, and a quiet end on SIGTERM.

python -m serving.server --port 8500 --model_name sentiment --model_base_path exports/sentiment
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from absl import app, flags, logging

from kerasllm.errors import ServingError
from serving.server.status import invalid

if TYPE_CHECKING:
    from serving.server.batching import Batching
    from serving.server.versions import ModelConfig

FLAGS = flags.FLAGS
flags.DEFINE_string("host", "127.0.0.1", "Address to listen at; 0.0.0.0 for all interfaces.")
flags.DEFINE_integer("port", 8500, "Port of the gRPC services; 0: a free one, printed.", lower_bound=0)
flags.DEFINE_string("model_name", "default", "Name of the model under --model_base_path.")
flags.DEFINE_string("model_base_path", "", "Folder with the numbered versions of one model.")
flags.DEFINE_string("model_config_file", "", "Text ModelServerConfig that names several models; instead of the above.")
flags.DEFINE_float(
    "file_system_poll_wait_seconds", 1.0, "Seconds between looks for new versions; 0: never again.", lower_bound=0
)
flags.DEFINE_integer("grpc_max_threads", 0, "Requests handled at a time; 0: four for each core.", lower_bound=0)
flags.DEFINE_bool("enable_batching", False, "Join requests that come at the same time into one run.")
flags.DEFINE_string("batching_parameters_file", "", "Text BatchingParameters: sizes, timeout, threads.")
flags.DEFINE_bool(
    "enable_per_model_batching_parameters",
    False,
    "Take sizes and timeout from batching_params.pbtxt in the version's folder, and only the threads from the file "
    "above; a version without it is not batched.",
)
flags.DEFINE_float(
    "max_queue_delay_ms",
    0.0,
    "With batching: refuse (RESOURCE_EXHAUSTED) what would wait longer for its run, as far as that can be foreseen; "
    "0: never.",
    lower_bound=0,
)
flags.DEFINE_float("shutdown_grace_seconds", 30.0, "Time that running requests get to end in.", lower_bound=0)


def serve() -> None:
    """Loads the models, opens the port, and returns after SIGTERM or SIGINT when running requests have ended.

    Raises:
      ServingError: no model to serve, a model that does not load, a port in use.
    """
    if not FLAGS.model_base_path and not FLAGS.model_config_file:
        raise ServingError(
            "Both server_options.model_base_path and server_options.model_config_file are empty! "
            "Give --model_base_path or --model_config_file."
        )
    if FLAGS.batching_parameters_file and not FLAGS.enable_batching:
        raise invalid(
            "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."
        )
    stop = threading.Event()
    _on_termination(stop.set)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    from serving.server.core import ServerCore
    from serving.server.engine import Engine
    from serving.server.services import start_server
    from serving.server.versions import Models

    configs = _model_configs()
    batching = _batching()
    models = Models(configs, stop, load=batching.load if batching else Engine)
    models.start(FLAGS.file_system_poll_wait_seconds)
    if not stop.is_set():
        threads = FLAGS.grpc_max_threads or 4 * (os.cpu_count() or 1)
        server, port = start_server(ServerCore(models), FLAGS.host, FLAGS.port, threads)
        print(f"Running gRPC ModelServer at {FLAGS.host}:{port} ...", flush=True)
        stop.wait()
        server.stop(FLAGS.shutdown_grace_seconds).wait()
    models.close()
    if batching:
        batching.close()


def _on_termination(act: Callable[[], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: act())


def _model_configs() -> "list[ModelConfig]":
    from pathlib import Path

    from serving.server.model_config import read_model_configs
    from serving.server.versions import ModelConfig

    if FLAGS.model_config_file:
        return read_model_configs(FLAGS.model_config_file)
    return [ModelConfig(FLAGS.model_name, Path(FLAGS.model_base_path).absolute())]


def _batching() -> "Batching | None":
    from serving.server.batching import Batching
    from serving.server.batching_parameters import BatchingParameters, read_batching_parameters

    if not FLAGS.enable_batching:
        return None
    if FLAGS.batching_parameters_file:
        parameters = read_batching_parameters(FLAGS.batching_parameters_file)
    else:
        parameters = BatchingParameters(thread_pool_name="model_server_batch_threads")
    max_delay_s = FLAGS.max_queue_delay_ms / 1000 or None
    return Batching(parameters, FLAGS.enable_per_model_batching_parameters, max_delay_s)


def main(argv: list[str]) -> None:
    """Serves; an error of ours is one line, and the exit code is the stock server's 255."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; flags start with --.")
    logging.set_verbosity(logging.INFO)
    try:
        serve()
    except ServingError as error:
        print(f"Failed to start server. Error: {error}", file=sys.stderr)
        sys.exit(255)


if __name__ == "__main__":
    app.run(main)
