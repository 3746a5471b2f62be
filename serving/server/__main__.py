"""How does the embedded server live? Loading, serving, and a quiet end on SIGTERM.

python -m serving.server --port 8500 --model_name sentiment --model_base_path exports/sentiment
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from absl import app, flags, logging

from kerasllm.errors import ServingError
from serving.server import flags as server_flags

if TYPE_CHECKING:
    from serving.server.batching import Batching
    from serving.server.core import ServerCore
    from serving.server.engine import OpenModel
    from serving.server.loading import MakeEngine
    from serving.server.metrics import Metrics
    from serving.server.rest_server import RestServer
    from serving.server.streams import Streams
    from serving.server.transport import Transport
    from serving.server.versions import ModelConfig, Models

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(server_flags)  # --help shows the main module's flags only


def serve() -> bool:
    """Loads the models, opens the port, and returns after SIGTERM or SIGINT when running requests have ended.

    Returns:
      Whether they have; False: some run on although --drain_seconds are over, or a version is still being loaded.

    Raises:
      ServingError: no model to serve, a model that does not load, a port in use.
    """
    server_flags.check_flags()
    stop = threading.Event()
    _on_termination(stop.set)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    if FLAGS.isolate_versions:
        from serving.server import isolation_processes

        isolation_processes.prepare()
    from serving.server.config_file import ConfigFile
    from serving.server.core import ServerCore
    from serving.server.engine import Engine
    from serving.server.metrics import Metrics, read_monitoring_path
    from serving.server.metrics_grpc import MetricsInterceptor
    from serving.server.services import start_server
    from serving.server.streaming_service import streaming_service
    from serving.server.streams import Streams

    metrics_path = read_monitoring_path(FLAGS.monitoring_config_file) if FLAGS.monitoring_config_file else None
    transport, metrics, has_ended = _transport(), Metrics(), threading.Event()
    open_model = _open_model(has_ended)
    batching = _batching(metrics, open_model)
    models = _models(stop, has_ended, batching.load if batching else partial(Engine, open_model=open_model))
    models.start(FLAGS.file_system_poll_wait_seconds)
    if not stop.is_set():
        threads = FLAGS.grpc_max_threads or 4 * (os.cpu_count() or 1)
        core = ServerCore(
            models, FLAGS.enable_serialization_as_tensor_content, FLAGS.enable_signature_method_name_check
        )
        streams = Streams(core, metrics)
        interceptors, services = [MetricsInterceptor(metrics)], [streaming_service(streams, metrics)]
        server, port = start_server(core, FLAGS.host, FLAGS.port, threads, transport, interceptors, services)
        if FLAGS.model_config_file and FLAGS.model_config_file_poll_wait_seconds:
            ConfigFile(FLAGS.model_config_file, models, stop).watch(FLAGS.model_config_file_poll_wait_seconds)
        print(f"Running gRPC ModelServer at {FLAGS.host}:{port} ...", flush=True)
        rest = _start_rest(core, streams, metrics, metrics_path) if FLAGS.rest_api_port else None
        stop.wait()
        if transport.health is not None:
            transport.health.enter_graceful_shutdown()
        stopped = server.stop(FLAGS.drain_seconds)
        if rest is not None:
            rest.close()
        stopped.wait()
    models.close(patience_seconds=1.0)
    if batching and not models.is_busy():
        batching.close()
    return not models.is_busy()


def _start_rest(core: "ServerCore", streams: "Streams", metrics: "Metrics", metrics_path: str | None) -> "RestServer":
    from serving.server.openai_api import OpenAiApi
    from serving.server.rest import RestApi
    from serving.server.rest_server import RestOptions, RestServer
    from serving.server.transport import read_ssl_config

    options = RestOptions(
        num_threads=FLAGS.rest_api_num_threads or 4 * (os.cpu_count() or 1),
        timeout_s=FLAGS.rest_api_timeout_in_ms / 1000 or None,
        max_body_bytes=FLAGS.rest_api_max_body_megabytes * 2**20,
        allows_cross_origin=FLAGS.rest_api_enable_cors_support,
        answers_health=FLAGS.rest_api_health,
        metrics_path=metrics_path,
        tls=read_ssl_config(FLAGS.ssl_config_file).context() if FLAGS.rest_api_ssl else None,
        grace_s=FLAGS.drain_seconds,
    )
    others = [OpenAiApi(streams, core.model_names, FLAGS.openai_api_log_prompts)] if FLAGS.openai_api else []
    api = RestApi(core, FLAGS.rest_api_list_models, streams if FLAGS.rest_api_stream else None, others)
    server = RestServer(api, FLAGS.host, max(0, FLAGS.rest_api_port), options, metrics)
    print(f"Exporting HTTP/REST API at:{FLAGS.host}:{server.port} ...", flush=True)
    return server


def _on_termination(act: Callable[[], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: act())


def _open_model(has_ended: threading.Event) -> "OpenModel":
    if not FLAGS.isolate_versions:
        from serving.server.session_model import SessionModel

        return SessionModel
    from serving.server.isolation import ProcessModel

    return partial(ProcessModel, on_end=has_ended.set)


def _models(stop: threading.Event, has_ended: threading.Event, make_engine: "MakeEngine") -> "Models":
    from tensorflow.core.protobuf import config_pb2

    from serving.server.labels import Labels
    from serving.server.loading import Loader
    from serving.server.versions import LoadPolicy, Models

    session = config_pb2.ConfigProto(
        intra_op_parallelism_threads=FLAGS.tensorflow_intra_op_parallelism or FLAGS.tensorflow_session_parallelism,
        inter_op_parallelism_threads=FLAGS.tensorflow_inter_op_parallelism or FLAGS.tensorflow_session_parallelism,
    )
    session.gpu_options.per_process_gpu_memory_fraction = FLAGS.per_process_gpu_memory_fraction
    num_warmup_runs = max(FLAGS.num_request_iterations_for_warmup, 1) if FLAGS.enable_model_warmup else 0
    loader = Loader(FLAGS.saved_model_tags.split(","), session, num_warmup_runs, make_engine)
    policy = LoadPolicy(FLAGS.max_num_load_retries, FLAGS.load_retry_interval_micros / 1e6)
    labels = Labels(FLAGS.allow_version_labels_for_unavailable_models)
    return Models(_model_configs(), stop, loader, policy, labels, has_ended)


def _model_configs() -> "list[ModelConfig]":
    from pathlib import Path

    from serving.server.model_config import read_model_configs
    from serving.server.versions import ModelConfig

    if FLAGS.model_config_file:
        return read_model_configs(FLAGS.model_config_file)
    return [ModelConfig(FLAGS.model_name, Path(FLAGS.model_base_path).absolute())]


def _batching(metrics: "Metrics", open_model: "OpenModel") -> "Batching | None":
    from serving.server.batching import Batching
    from serving.server.batching_parameters import BatchingParameters, read_batching_parameters

    if not FLAGS.enable_batching:
        return None
    if FLAGS.batching_parameters_file:
        parameters = read_batching_parameters(FLAGS.batching_parameters_file)
    else:
        parameters = BatchingParameters(thread_pool_name="model_server_batch_threads")
    max_delay_s = FLAGS.max_queue_delay_ms / 1000 or None
    per_model = FLAGS.enable_per_model_batching_parameters
    batching = Batching(parameters, per_model, max_delay_s, metrics.batch_ran, open_model)
    metrics.watch("batches_queued", batching.num_queued)
    return batching


def _transport() -> "Transport":
    from serving.server.transport import Transport, health_service, parse_channel_arguments, read_ssl_config

    return Transport(
        FLAGS.grpc_socket_path,
        read_ssl_config(FLAGS.ssl_config_file).credentials() if FLAGS.ssl_config_file else None,
        parse_channel_arguments(FLAGS.grpc_channel_arguments),
        health_service() if FLAGS.enable_grpc_healthcheck_service else None,
    )


def main(argv: list[str]) -> None:
    """Serves; an error of ours is one line, and the exit code is the stock server's 255."""
    if len(argv) > 1:
        print(f"Failed to start server. Error: unexpected argument {argv[1]!r}; flags start with --.", file=sys.stderr)
        sys.exit(255)
    if FLAGS.version:
        print(server_flags.version_text())
        return
    logging.set_verbosity(logging.INFO)
    try:
        has_ended = serve()
    except ServingError as error:
        print(f"Failed to start server. Error: {error}", file=sys.stderr)
        sys.exit(255)
    if not has_ended:
        logging.warning("Requests ran on after --drain_seconds, or a version was being loaded; they are given up.")
        logging.flush()
        sys.stdout.flush()
        os._exit(0)  # a thread that computes cannot be ended otherwise


if __name__ == "__main__":
    app.run(main, flags_parser=server_flags.parse_flags)
