"""Which flags does the server take? Those of the stock tensorflow_model_server, and a few of its own."""

import importlib.metadata
import sys
from collections.abc import Callable

from absl import flags, logging

import kerasllm
from kerasllm.errors import ServingError
from serving.server.status import invalid

FLAGS = flags.FLAGS

# Where it listens
flags.DEFINE_string("host", "127.0.0.1", "Address to listen at; 0.0.0.0 for all interfaces.")
flags.DEFINE_integer("port", 8500, "Port of the gRPC services; 0: a free one, printed.", lower_bound=0)
flags.DEFINE_string("grpc_socket_path", "", "UNIX socket to listen at too.")
flags.DEFINE_string("ssl_config_file", "", "Text SSLConfig: gRPC in TLS, with client certificates if it says so.")
flags.DEFINE_string("grpc_channel_arguments", "", "Options of gRPC, key=value,key=value.")
flags.DEFINE_integer("grpc_max_threads", 0, "Requests handled at a time; 0: four for each core.", lower_bound=0)
flags.DEFINE_bool("enable_grpc_healthcheck_service", False, "Offer grpc.health.v1.Health.")
flags.DEFINE_float("drain_seconds", 30.0, "Time that running requests get to end in after SIGTERM.", lower_bound=0)

# REST and metrics
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
flags.DEFINE_bool("rest_api_ssl", False, "REST in TLS too, by --ssl_config_file; the stock server's is plain text.")
flags.DEFINE_bool("rest_api_list_models", False, "Answer GET /v1/models with the names of all models.")
flags.DEFINE_bool("rest_api_health", False, "Answer /healthz (alive) and /readyz (every model has a version).")
flags.DEFINE_bool("rest_api_stream", False, "Answer POST .../NAME:stream with server-sent events; docs/streaming.md.")
flags.DEFINE_bool(
    "openai_api",
    False,
    "Answer /v1/completions, /v1/chat/completions and /v1/models in the OpenAI protocol, on the REST port.",
)
flags.DEFINE_bool("openai_api_log_prompts", False, "Write the prompts of the OpenAI protocol into the log too.")

# What it serves
flags.DEFINE_string("model_name", "default", "Name of the model under --model_base_path.")
flags.DEFINE_string("model_base_path", "", "Folder with the numbered versions of one model.")
flags.DEFINE_string("model_config_file", "", "Text ModelServerConfig that names several models; instead of the above.")
flags.DEFINE_float(
    "model_config_file_poll_wait_seconds", 0.0, "Seconds between looks at that file; 0: read once.", lower_bound=0
)
flags.DEFINE_float(
    "file_system_poll_wait_seconds", 1.0, "Seconds between looks for new versions; 0: never again.", lower_bound=0
)
flags.DEFINE_bool(
    "allow_version_labels_for_unavailable_models",
    False,
    "A label that is new may name a version that is not loaded yet; labels at the start need this.",
)

# How it loads
flags.DEFINE_integer("max_num_load_retries", 5, "Further attempts to load a version that does not.", lower_bound=0)
flags.DEFINE_integer("load_retry_interval_micros", 60_000_000, "Time between such attempts.", lower_bound=0)
flags.DEFINE_string("saved_model_tags", "serve", "Tags of the meta graph to load, with commas between them.")
flags.DEFINE_bool("enable_model_warmup", True, "Run assets.extra/tf_serving_warmup_requests of a version first.")
flags.DEFINE_integer("num_request_iterations_for_warmup", 0, "Runs of each of these; 0: one.", lower_bound=0)

flags.DEFINE_bool(
    "isolate_versions",
    False,
    "Load each version in a process of its own, whose memory comes back when it ends, and whose faults are its own.",
)

# How it joins requests
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

# How it computes and answers
flags.DEFINE_integer("tensorflow_session_parallelism", 0, "Threads of a session in both senses; 0: automatic.")
flags.DEFINE_integer("tensorflow_intra_op_parallelism", 0, "Threads of one operation; 0: automatic.")
flags.DEFINE_integer("tensorflow_inter_op_parallelism", 0, "Operations at a time; 0: automatic.")
flags.DEFINE_float("per_process_gpu_memory_fraction", 0.0, "Share of the GPU's memory to take; 0: automatic.")
flags.DEFINE_bool("enable_serialization_as_tensor_content", False, "Predict answers with packed bytes.")
flags.DEFINE_bool("enable_signature_method_name_check", False, "A signature's method has to be that of the call.")
flags.DEFINE_bool("version", False, "Print the version and end.")

_NOT_HERE = "Accepted for the stock server's sake; no effect here"
_IGNORED: dict[Callable[..., object], dict[str, tuple[object, str]]] = {
    flags.DEFINE_integer: {
        "num_load_threads": (0, "versions are loaded one after another"),
        "num_unload_threads": (0, "a version is unloaded by its last request"),
        "num_tflite_interpreters_per_pool": (0, "TensorFlow Lite is not served"),
        "num_tflite_pools": (0, "TensorFlow Lite is not served"),
    },
    flags.DEFINE_bool: {
        "flush_filesystem_caches": (True, "the operating system's cache is left alone"),
        "remove_unused_fields_from_bundle_metagraph": (True, "the graph is kept as it is"),
        "prefer_tflite_model": (False, "TensorFlow Lite is not served"),
        "xla_cpu_compilation_enabled": (False, "what a model compiles with XLA is always compiled"),
        "xla_gpu_compilation_enabled": (False, "what a model compiles with XLA is always compiled"),
        "enable_profiler": (True, "the profiler's service is not offered"),
        "skip_initialize_tpu": (False, "TPUs are not used"),
    },
    flags.DEFINE_string: {
        "platform_config_file": ("", "the flags and each model's configuration say it all"),
        "thread_pool_factory_config_file": ("", "TensorFlow's own threads are used"),
        "mixed_precision": ("", "a model computes in the types it was exported with"),
    },
}
for _define, _flags in _IGNORED.items():
    for _name, (_default, _why) in _flags.items():
        _define(_name, _default, f"{_NOT_HERE}: {_why}.")
flags.DEFINE_bool("use_alts_credentials", False, "Refused: Google's ALTS is not offered; see --ssl_config_file.")


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the flags and returns what is left; a wrong one ends the program with the stock server's exit code.

    `--flag value` is `--flag=value` for truth values too.
    """
    joined: list[str] = []
    for argument in argv:
        before = joined[-1] if joined else ""
        name = before.removeprefix("--")
        if before.startswith("--") and name in FLAGS and FLAGS[name].boolean and argument.lower() in ("true", "false"):
            joined[-1] = f"{before}={argument}"
        else:
            joined.append(argument)
    try:
        return FLAGS(joined)
    except flags.Error as error:
        print(f"Failed to start server. Error: {error} --helpfull lists all flags.", file=sys.stderr)
        sys.exit(255)


def check_flags() -> None:
    """Logs what is ignored, and refuses what would be dangerous to ignore.

    Raises:
      ServingError: there is no model to serve, or traffic would not be protected as asked for.
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
    if FLAGS.rest_api_ssl and not FLAGS.ssl_config_file:
        raise invalid("--rest_api_ssl needs --ssl_config_file with a key and its certificate.")
    if (FLAGS.openai_api or FLAGS.rest_api_stream) and not FLAGS.rest_api_port:
        raise invalid("--openai_api and --rest_api_stream need --rest_api_port, where they answer; -1: a free one.")
    if FLAGS.isolate_versions and not sys.platform.startswith("linux"):
        raise ServingError("--isolate_versions needs Linux; leave it out here.")
    if FLAGS.use_alts_credentials:
        raise ServingError("--use_alts_credentials is not offered here; protect traffic by --ssl_config_file.")
    for group in _IGNORED.values():
        for name, (_, why) in group.items():
            if FLAGS[name].present:
                logging.warning("--%s is ignored: %s.", name, why)


def version_text() -> str:
    """What --version prints: the protocol's version with our own, and TensorFlow's."""
    protocol = importlib.metadata.version("tensorflow-serving-api")
    return (
        f"TensorFlow ModelServer: {protocol}+kerasllm.{kerasllm.__version__}\n"
        f"TensorFlow Library: {importlib.metadata.version('tensorflow')}"
    )
