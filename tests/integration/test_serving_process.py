"""Does the server's process live and end as it should? Real processes, real ports."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from kerasllm.errors import DeadlineExceeded, InvalidRequest, ModelNotFound, ServerUnavailable
from serving.clients import PredictClient, VersionStatus

ROOT = Path(__file__).parents[2]


def _write_model(directory, factor):
    """Y = factor x, a slow signature, and one that never ends."""
    import tensorflow as tf

    module = tf.Module()
    module.factor = tf.Variable(float(factor))

    def slow(x):
        matrix = tf.fill([200, 200], x[0])
        matrix = tf.while_loop(lambda i, m: i < 4000, lambda i, m: (i + 1, tf.tanh(m @ m)), [0, matrix])[1]
        return {"y": x + 0 * matrix[0, 0]}

    def endless(x):
        return {"y": tf.while_loop(lambda y: y[0] < np.inf, lambda y: [tf.tanh(y)], [x])[0]}

    spec = tf.TensorSpec([None], tf.float32)
    signatures = {
        "serving_default": tf.function(lambda x: {"y": x * module.factor}).get_concrete_function(x=spec),
        "slow": tf.function(slow).get_concrete_function(x=spec),
        "endless": tf.function(endless).get_concrete_function(x=spec),
    }
    unfinished = directory.with_name(f"unfinished-{directory.name}")
    tf.saved_model.save(module, str(unfinished), signatures)
    unfinished.rename(directory)


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """Two versions, the first answers 1 x, the second 2 x."""
    folder = tmp_path_factory.mktemp("versions")
    for number in (1, 2):
        _write_model(folder / str(number), number)
    time.sleep(1.5)  # both have been at rest for a second: a server that starts sees the newer one first
    return folder


def _start(*flags):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-m", "serving.server", *flags]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _address(process):
    line = process.stdout.readline()
    assert line.startswith("Running gRPC ModelServer at 127.0.0.1:"), line + process.stderr.read()
    return line.split()[4]


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--isolate_versions"]], ids=["one process", "a process each"])
def test_a_server_switches_versions_under_load_and_ends_quietly(versions, tmp_path, flags):  # [31] [32] [34] [37]
    base = tmp_path / "model"
    base.mkdir()
    flags = ["--port=0", "--model_name=m", f"--model_base_path={base}", "--file_system_poll_wait_seconds=0.1", *flags]
    process = _start(*flags)
    try:
        shutil.copytree(versions / "1", tmp_path / "1")
        (tmp_path / "1").rename(base / "1")  # the port opens only now that there is a model
        address = _address(process)
        answers, failures, stop = set(), [], threading.Event()

        def ask():
            with PredictClient(address, "m") as client:
                while not stop.is_set():
                    try:
                        answers.add(float(client.predict({"x": np.float32([1])})["y"][0]))
                    except Exception as error:
                        failures.append(error)

        def wait_for(number):
            with PredictClient(address, "m") as client:
                for _ in range(200):
                    found = client.status()
                    if [v.version for v in found if v.state in ("AVAILABLE", "UNLOADING")] == [number]:
                        return found
                    time.sleep(0.1)
            raise AssertionError(f"version {number} is not served: {found}")

        thread = threading.Thread(target=ask)
        thread.start()
        (base / "2").mkdir()  # half-copied: no variables yet
        shutil.copy(versions / "2" / "saved_model.pb", base / "2")
        time.sleep(0.5)
        assert wait_for(1)[0].state != "AVAILABLE"
        shutil.copytree(versions / "2" / "variables", base / "2" / "variables")
        found = wait_for(2)
        assert found == [VersionStatus(2, "AVAILABLE"), VersionStatus(1, "END")]
        shutil.rmtree(base / "2")
        wait_for(1)
        stop.set()
        thread.join()
        assert failures == []
        assert answers == {1.0, 2.0}
        _asks_while_it_ends(process, address)
    finally:
        process.kill()
        process.communicate()


def _asks_while_it_ends(process, address):
    """A call that runs when SIGTERM comes is answered; later calls find nobody; the exit code is 0."""
    with PredictClient(address, "m", deadline_s=60) as client:
        answered = []
        thread = threading.Thread(
            target=lambda: answered.append(client.predict({"x": np.float32([3])}, "slow")["y"][0])
        )
        thread.start()
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        thread.join()
        assert answered == [3.0]
    assert process.wait(30) == 0
    with PredictClient(address, "m", deadline_s=2) as client, pytest.raises(ServerUnavailable, match=address):
        client.predict({"x": np.float32([1])})


@pytest.mark.slow
def test_a_server_follows_its_file_and_gives_up_on_what_does_not_end(versions, tmp_path):  # [29] [35] [38] [50]
    """Labels at the start, a UNIX socket, health, another model by the file; then SIGTERM amid an endless request."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    text = f'config {{ name: "m" base_path: "{versions}" model_platform: "tensorflow" %s }}'
    labelled, config, folder = (
        text % 'version_labels { key: "stable" value: 2 }',
        tmp_path / "models",
        tempfile.mkdtemp(),
    )
    config.write_text(f"model_config_list {{ {labelled} }}")
    process = _start(
        "--port=0",
        f"--model_config_file={config}",
        "--model_config_file_poll_wait_seconds=0.1",
        "--allow_version_labels_for_unavailable_models",
        "--enable_grpc_healthcheck_service=true",
        f"--grpc_socket_path={folder}/socket",
        "--drain_seconds=0.5",
    )
    try:
        address = _address(process)
        with PredictClient(f"unix:{folder}/socket", "m") as client:
            assert client.predict({"x": np.float32([1])})["y"] == [2.0]
        other = text.replace('"m"', '"other"') % ""
        config.with_suffix(".new").write_text(f"model_config_list {{ {labelled} {other} }}")
        config.with_suffix(".new").rename(config)
        with PredictClient(address, "other") as client:
            _until(lambda: client.predict({"x": np.float32([1])})["y"] == [2.0])
        with grpc.insecure_channel(address) as channel:
            watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
            thread = threading.Thread(target=_ask_without_end, args=(address,))
            thread.start()
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
        thread.join()
        assert process.wait(30) == 0
        assert "Requests ran on after --drain_seconds" in process.stderr.read()
    finally:
        process.kill()
        process.communicate()
        shutil.rmtree(folder)


def _until(is_so):
    for _ in range(200):
        try:
            if is_so():
                return
        except ModelNotFound:
            time.sleep(0.1)
    raise AssertionError("it has not come to pass in 20 s")


def _ask_without_end(address):
    with PredictClient(address, "m", deadline_s=120) as client, pytest.raises(ServerUnavailable):
        client.predict({"x": np.float32([1])}, "endless")


@pytest.mark.slow
def test_a_busy_port_ends_the_server_with_one_clear_line(versions):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = _start(f"--port={port}", "--model_name=m", f"--model_base_path={versions}")
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 255
    assert f"Failed to start server. Error: Cannot listen at 127.0.0.1:{port}" in errors
    assert "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "model_base_path and server_options.model_config_file are empty!"),
        (["--model_config_file=nowhere.config"], "nowhere.config: cannot read the model configuration"),
        (["--model_config_file={folder}/bad.config"], "Error: INVALID_ARGUMENT: Invalid protobuf file: '"),
        (
            ["--model_base_path={folder}", "--max_num_load_retries=1", "--load_retry_interval_micros=1000"],
            "1 servable(s) did not become available: {{{name: default version: 1} due to error: NOT_FOUND: Could not",
        ),
    ],
)
def test_a_server_without_a_model_does_not_start(tmp_path, flags, message):  # [37]
    (tmp_path / "bad.config").write_text("model_config_list: 3")
    (tmp_path / "1").mkdir()
    process = _start(*(flag.format(folder=tmp_path) for flag in flags))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 255
    assert message in errors


@pytest.mark.parametrize("program", ["serving.server", "serving.clients.cli", "serving.export"])
def test_programs_explain_themselves_without_tensorflow(program):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['{program}', '--help']\n"
        "try:\n"
        f"  runpy.run_module('{program}', run_name='__main__', alter_sys=True)\n"
        "except SystemExit:\n"
        "  print('tensorflow' in sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "--" in finished.stdout
    assert finished.stdout.splitlines()[-1] == "False"


@pytest.fixture(scope="module")
def address(versions):
    """A server in this process, for the client's and the command line's sake."""
    from serving.server.core import ServerCore
    from serving.server.services import start_server
    from serving.server.versions import ModelConfig, Models

    models = Models([ModelConfig("m", versions)])
    models.start(0)
    server, port = start_server(ServerCore(models), "127.0.0.1", 0, 4)
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()
    models.close()


def test_the_client_maps_the_servers_refusals_and_keeps_its_text(address):
    with PredictClient(address, "x") as client, pytest.raises(ModelNotFound, match=r"Latest\(x\)"):
        client.predict({"x": np.float32([1])})
    with PredictClient(address, "m", version=7) as client, pytest.raises(ModelNotFound, match=r"Specific\(m, 7\)"):
        client.predict({"x": np.float32([1])})
    with PredictClient(address, "m") as client, pytest.raises(InvalidRequest, match="Missing but required: {x}"):
        client.predict({})
    with PredictClient(address, "m") as client, pytest.raises(InvalidRequest, match="not found in request"):
        client.classify(["a"])
    with PredictClient(address, "m", deadline_s=0.05) as client, pytest.raises(DeadlineExceeded, match=r"0\.05 s"):
        client.predict({"x": np.float32([1])}, "slow")


def test_the_client_tells_signatures_and_states(address):
    with PredictClient(address, "m") as client:
        assert client.metadata()["serving_default"] == {"inputs": {"x": "float [-1]"}, "outputs": {"y": "float [-1]"}}
        assert client.status() == [VersionStatus(2, "AVAILABLE")]
        assert client.classify([]) == []


def test_a_port_in_use_is_refused(address):
    from kerasllm.errors import ServingError
    from serving.server.services import start_server

    host, port = address.split(":")
    with pytest.raises(ServingError, match=f"Cannot listen at {address}"):
        start_server(None, host, int(port), 1)


def _cli(*arguments, lines=None):
    command = [sys.executable, "-m", "serving.clients.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, input=lines, check=False)


def test_the_command_line_tells_states_and_signatures(address):
    assert _cli(f"--server={address}", "--model=m", "--status").stdout == "     2  AVAILABLE\n"
    assert '"serving_default"' in _cli(f"--server={address}", "--model=m", "--metadata").stdout


def test_the_command_line_ends_with_one_line_when_nobody_answers():
    finished = _cli("--server=127.0.0.1:1", "--model=m", "--deadline_s=2", "text")
    assert finished.returncode == 1
    assert finished.stderr.startswith("error: 127.0.0.1:1: UNAVAILABLE")
    assert len(finished.stderr.splitlines()) == 1
