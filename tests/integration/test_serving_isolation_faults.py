"""Does the fault of a version's process stay its own, and is no process left behind? A real server, really killed."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from benchmarks.load.faults import FAULTY, write_faulty
from benchmarks.load.sides import Server, descendants
from kerasllm.errors import ServerUnavailable
from serving.clients import PredictClient, Retries
from tests.integration.small_models import write_half_plus_two
from tests.integration.waiting import eventually

WAIT_S = 60.0
THREADS = 3


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_half_plus_two(folder / "half" / "1")
    write_faulty(folder / FAULTY / "1")
    models = [
        f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" }}'
        for name in ("half", FAULTY)
    ]
    (folder / "models.config").write_text(f"model_config_list {{ {' '.join(models)} }}")
    return folder


def _start(base, name, *flags):
    command = [sys.executable, "-m", "serving.server", "--port=0", "--isolate_versions", *flags]
    return Server([*command, f"--model_config_file={base / 'models.config'}"], base / f"{name}.log")


@pytest.fixture(scope="module")
def server(base):
    with _start(base, "faults", f"--grpc_max_threads={THREADS}") as running:
        running.host = running.address()
        yield running


def _version_processes(pid):
    """The processes of versions by the names that they bear: MODEL/VERSION."""
    started = descendants(pid)
    named = {}
    for child in started:
        try:
            name = Path(f"/proc/{child}/comm").read_text().strip()
        except OSError:  # it has just ended
            continue
        if "/" in name:
            named[name] = child
    return named


def _kill(server, name):
    eventually(lambda: name in _version_processes(server.process.pid))
    pid = _version_processes(server.process.pid)[name]
    os.kill(pid, signal.SIGKILL)
    return pid


def _call(channel, model, signature, x, timeout=WAIT_S):
    """A Predict call under way."""
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=1)
    request.inputs["x"].float_val.append(x)
    ask = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    return ask.future(request.SerializeToString(), timeout=timeout)


def _is_computing(server):
    """Whether the process of the faulty model uses the processor."""
    pid = _version_processes(server.process.pid)[f"{FAULTY}/1"]
    ticks = []
    for _ in range(2):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks.append(int(fields[11]) + int(fields[12]))
        time.sleep(0.1)
    return ticks[1] > ticks[0]


def test_a_killed_process_fails_its_calls_alone_and_its_version_comes_back(server):
    failures, stop = [], threading.Event()

    def ask_the_other_model():
        with PredictClient(server.host, "half", deadline_s=WAIT_S, retries=Retries(max_attempts=1)) as client:
            while not stop.is_set():
                try:
                    assert client.predict({"x": np.float32([2])})["y"] == [3]
                except Exception as error:
                    failures.append(error)

    asking = threading.Thread(target=ask_the_other_model)
    asking.start()
    with grpc.insecure_channel(server.host) as channel:
        hung = _call(channel, FAULTY, "endless", -1.0)
        eventually(lambda: _is_computing(server))
        _kill(server, f"{FAULTY}/1")
        assert hung.code().name == "UNAVAILABLE"
        assert "has ended (signal 9); it is started again" in hung.details()
    with PredictClient(server.host, FAULTY, deadline_s=WAIT_S, retries=Retries(max_attempts=99)) as client:
        assert client.predict({"x": np.float32([4])})["y"] == [2]
        assert [version.state for version in client.status()] == ["AVAILABLE"]
    stop.set()
    asking.join()
    assert failures == []
    assert server.process.poll() is None


def test_a_version_whose_process_ends_again_and_again_waits_and_says_so(server):
    with PredictClient(server.host, FAULTY, deadline_s=WAIT_S, retries=Retries(max_attempts=1)) as client:

        def is_in(state):
            return [version.state for version in client.status()] == [state]

        def is_loading_or_started_again():
            return is_in("LOADING") or _version_processes(server.process.pid).get(f"{FAULTY}/1", ended) != ended

        for _ in range(5):  # each time the wait is longer: one of them is seen
            eventually(lambda: is_in("AVAILABLE"))
            ended = _kill(server, f"{FAULTY}/1")
            eventually(is_loading_or_started_again)
            if is_in("LOADING"):
                break
        with pytest.raises(ServerUnavailable, match=f"Version 1 of {FAULTY}: .* it is started again"):
            client.predict({"x": np.float32([4])})
        eventually(lambda: is_in("AVAILABLE"))
        assert client.predict({"x": np.float32([4])})["y"] == [2]


def test_calls_whose_clients_have_gone_hold_no_thread_of_the_server(server):
    with grpc.insecure_channel(server.host) as channel:
        hung = [_call(channel, FAULTY, "endless", -1.0) for _ in range(THREADS)]
        eventually(lambda: _is_computing(server))
        waiting = _call(channel, "half", "", 2.0)
        time.sleep(0.3)
        assert not waiting.done()
        for call in hung:
            call.cancel()
        assert waiting.code().name == "OK"
    _kill(server, f"{FAULTY}/1")  # the runs themselves go on as long as it does


@pytest.mark.slow
def test_a_drain_answers_running_calls_and_leaves_no_process(base):
    with _start(base, "drained", "--enable_batching") as server, grpc.insecure_channel(server.address()) as channel:
        started = descendants(server.process.pid)
        assert len(_version_processes(server.process.pid)) == 2
        assert _call(channel, FAULTY, "", 4.0).code().name == "OK"
        running = _call(channel, FAULTY, "slow", 4.0)
        eventually(lambda: _is_computing(server))
        for pid in (server.process.pid, *started):  # as a service manager does it
            os.kill(pid, signal.SIGTERM)
        assert running.code().name == "OK"
        assert server.process.wait(WAIT_S) == 0
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))


@pytest.mark.slow
def test_the_processes_of_a_killed_server_end_although_they_compute(base):
    with _start(base, "killed") as server, grpc.insecure_channel(server.address()) as channel:
        started = descendants(server.process.pid)
        assert len(_version_processes(server.process.pid)) == 2
        assert _call(channel, FAULTY, "", 4.0).code().name == "OK"
        hung = _call(channel, FAULTY, "endless", -1.0)  # a call that nobody holds is cancelled
        eventually(lambda: _is_computing(server))
        server.process.kill()
        server.process.wait(WAIT_S)
        assert hung.code().name == "UNAVAILABLE"
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))
