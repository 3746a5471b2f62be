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

if TYPE_CHECKING:
    from serving.server.core import ServerCore
    from serving.server.metrics import Metrics
    from serving.server.rest_server import RestServer
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
flags.DEFINE_integer(
    "rest_api_port", 0, "Port of the HTTP / REST API; 0: none, -1: a free one, printed.", lower_bound=-1
)
flags.DEFINE_integer(
    "rest_api_num_threads", 0, "HTTP requests handled at a time; 0: four for each core.", lower_bound=0
)
flags.DEFINE_integer("rest_api_timeout_in_ms", 30000, "Time that an HTTP request may take; 0: no limit.", lower_bound=0)
flags.DEFINE_bool("rest_api_enable_cors_support", False, "Let pages of other origins call the REST API.")
flags.DEFINE_integer(
    "rest_api_max_body_megabytes", 1024, "Largest body of an HTTP request, also once unpacked.", lower_bound=1
)
flags.DEFINE_string(
    "monitoring_config_file", "", "Text MonitoringConfig; opens the metrics for Prometheus on the REST port."
)
flags.DEFINE_bool("rest_api_list_models", False, "Answer GET /v1/models with the names of all models.")
flags.DEFINE_bool("rest_api_health", False, "Answer /healthz (alive) and /readyz (every model has a version).")
flags.DEFINE_integer("grpc_max_threads", 0, "Requests handled at a time; 0: four for each core.", lower_bound=0)
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
    stop = threading.Event()
    _on_termination(stop.set)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    from serving.server.core import ServerCore
    from serving.server.metrics import Metrics, read_monitoring_path
    from serving.server.metrics_grpc import MetricsInterceptor
    from serving.server.services import start_server
    from serving.server.versions import Models

    metrics_path = read_monitoring_path(FLAGS.monitoring_config_file) if FLAGS.monitoring_config_file else None
    models = Models(_model_configs(), stop)
    models.start(FLAGS.file_system_poll_wait_seconds)
    if not stop.is_set():
        core = ServerCore(models)
        threads = FLAGS.grpc_max_threads or 4 * (os.cpu_count() or 1)
        metrics = Metrics()
        server, port = start_server(core, FLAGS.host, FLAGS.port, threads, [MetricsInterceptor(metrics)])
        print(f"Running gRPC ModelServer at {FLAGS.host}:{port} ...", flush=True)
        rest = _start_rest(core, metrics, metrics_path) if FLAGS.rest_api_port else None
        stop.wait()
        stopped = server.stop(FLAGS.shutdown_grace_seconds)
        if rest is not None:
            rest.close()
        stopped.wait()
    models.close()


def _start_rest(core: "ServerCore", metrics: "Metrics", metrics_path: str | None) -> "RestServer":
    from serving.server.rest import RestApi
    from serving.server.rest_server import RestOptions, RestServer

    options = RestOptions(
        num_threads=FLAGS.rest_api_num_threads or 4 * (os.cpu_count() or 1),
        timeout_s=FLAGS.rest_api_timeout_in_ms / 1000 or None,
        max_body_bytes=FLAGS.rest_api_max_body_megabytes * 2**20,
        allows_cross_origin=FLAGS.rest_api_enable_cors_support,
        answers_health=FLAGS.rest_api_health,
        metrics_path=metrics_path,
        grace_s=FLAGS.shutdown_grace_seconds,
    )
    api = RestApi(core, lists_models=FLAGS.rest_api_list_models)
    server = RestServer(api, FLAGS.host, max(0, FLAGS.rest_api_port), options, metrics)
    print(f"Exporting HTTP/REST API at:{FLAGS.host}:{server.port} ...", flush=True)
    return server


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
