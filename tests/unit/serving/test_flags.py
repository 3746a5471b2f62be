"""Does the server take the flags of the stock one? Each case in a process of its own, as flags are global."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# Names and defaults of tensorflow_model_server; 0 threads of REST are four for each core there too.
STOCK = {
    "port": 8500,
    "grpc_socket_path": "",
    "allow_version_labels_for_unavailable_models": False,
    "model_config_file": "",
    "model_config_file_poll_wait_seconds": 0,
    "model_name": "default",
    "model_base_path": "",
    "num_load_threads": 0,
    "num_unload_threads": 0,
    "max_num_load_retries": 5,
    "load_retry_interval_micros": 60_000_000,
    "file_system_poll_wait_seconds": 1,
    "flush_filesystem_caches": True,
    "tensorflow_session_parallelism": 0,
    "tensorflow_intra_op_parallelism": 0,
    "tensorflow_inter_op_parallelism": 0,
    "use_alts_credentials": False,
    "ssl_config_file": "",
    "platform_config_file": "",
    "per_process_gpu_memory_fraction": 0.0,
    "saved_model_tags": "serve",
    "grpc_channel_arguments": "",
    "grpc_max_threads": 0,
    "enable_model_warmup": True,
    "num_request_iterations_for_warmup": 0,
    "version": False,
    "remove_unused_fields_from_bundle_metagraph": True,
    "prefer_tflite_model": False,
    "num_tflite_pools": 0,
    "num_tflite_interpreters_per_pool": 0,
    "enable_signature_method_name_check": False,
    "xla_cpu_compilation_enabled": False,
    "xla_gpu_compilation_enabled": False,
    "enable_profiler": True,
    "thread_pool_factory_config_file": "",
    "mixed_precision": "",
    "skip_initialize_tpu": False,
    "enable_grpc_healthcheck_service": False,
    "enable_serialization_as_tensor_content": False,
    "enable_batching": False,
    "batching_parameters_file": "",
    "enable_per_model_batching_parameters": False,
    "rest_api_port": 0,
    "rest_api_num_threads": 0,
    "rest_api_timeout_in_ms": 30000,
    "rest_api_enable_cors_support": False,
    "monitoring_config_file": "",
}


def _python(code):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def _server(*flags):
    command = [sys.executable, "-m", "serving.server", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_names_and_defaults_are_the_stock_servers():  # [51]
    code = "from serving.server.flags import FLAGS; FLAGS(['s']); "
    found = _python(code + f"print({{name: FLAGS[name].value for name in {sorted(STOCK)}}})")
    assert ast.literal_eval(found.stdout or "None") == STOCK, found.stderr


def test_a_value_follows_an_equals_sign_or_a_space():  # [51]
    code = "from serving.server.flags import FLAGS, parse_flags; "
    code += "rest = parse_flags(['s', '--model_name=a', '--port', '9', '--enable_profiler', 'false', '--version']); "
    found = _python(code + "print(rest, FLAGS.model_name, FLAGS.port, FLAGS.enable_profiler, FLAGS.version)")
    assert found.stdout == "['s'] a 9 False True\n", found.stderr


def test_flags_without_effect_are_logged():  # [51]
    code = "from serving.server.flags import check_flags, parse_flags; "
    code += "parse_flags(['s', '--model_base_path=x', '--num_load_threads=4', '--enable_profiler=true']); check_flags()"
    found = _python(code)
    assert "--num_load_threads is ignored: versions are loaded one after another." in found.stderr
    assert "--enable_profiler is ignored: the profiler's service is not offered." in found.stderr
    assert "tflite" not in found.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--nonsense=1"], "Unknown command line flag 'nonsense'"),
        (["--port=x"], "flag --port=x"),
        (["here"], "unexpected argument 'here'"),
        (["--model_base_path=x", "--use_alts_credentials"], "--use_alts_credentials is not offered here"),
    ],
)
def test_wrong_flags_end_the_server_with_one_line(flags, message):
    finished = _server(*flags)
    assert finished.returncode == 255
    assert finished.stderr.startswith("Failed to start server. Error: ")
    assert message in finished.stderr
    assert len(finished.stderr.splitlines()) == 1


def test_the_version_is_told_in_two_lines():
    model_server, library = _server("--version").stdout.splitlines()
    assert model_server.startswith("TensorFlow ModelServer: ")
    assert library.startswith("TensorFlow Library: ")
