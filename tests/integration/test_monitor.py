"""Does the monitor find surges, wait for its server, and survive being killed? Real processes, and a server in gRPC."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import pytest

from serving.clients import arrays, messages

ROOT = Path(__file__).parents[2]
START = 1_767_225_600  # 2026-01-01 00:00 UTC
SETTINGS = ["--detector=history_days=2", "--detector=min_history=60"]


class Server:
    """A model server that knows one word: a text with "loss" is negative; the topic is the text's first word."""

    def __init__(self, port=0, heads=False, pause_s=0.0):
        self.texts, self._prefix, self._pause_s = [], "sentiment_" if heads else "", pause_s
        self._heads = heads
        handlers = {
            "Predict": self._handler(self._predict, messages.PredictRequest),
            "GetModelMetadata": self._handler(self._metadata, messages.GetModelMetadataRequest),
        }
        service = grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", handlers)
        self._server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((service,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port(f'127.0.0.1:{port}')}"
        self._server.start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._server.stop(None).wait()

    @staticmethod
    def _handler(function, request):
        return grpc.unary_unary_rpc_method_handler(
            function,
            request_deserializer=request.FromString,
            response_serializer=lambda answer: answer.SerializeToString(),
        )

    def _predict(self, request, context):
        texts = [text.decode() for text in arrays.to_array(request.inputs["text"])]
        if request.model_spec.signature_name == "labels":
            names = np.array([[b"negative", b"neutral"]] * len(texts), object)
            response = messages.PredictResponse()
            response.outputs[f"{self._prefix}labels"].CopyFrom(arrays.to_proto(names))
            return response
        if any("unspeakable" in text for text in texts):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "what a text")
        time.sleep(self._pause_s)
        self.texts += texts
        is_negative = ["loss" in text for text in texts]
        response = messages.PredictResponse()
        labels = np.array([b"negative" if one else b"neutral" for one in is_negative], object)
        shares = np.array([[0.9, 0.1] if one else [0.2, 0.8] for one in is_negative], np.float32)
        response.outputs[f"{self._prefix}label"].CopyFrom(arrays.to_proto(labels))
        response.outputs[f"{self._prefix}probabilities"].CopyFrom(arrays.to_proto(shares))
        if self._heads:
            topics = np.array([text.split()[0].encode() for text in texts], object)
            response.outputs["topic_label"].CopyFrom(arrays.to_proto(topics))
        return response

    def _metadata(self, request, context):
        content = messages.SignatureDefMap()
        signature = content.signature_def["serving_default"]
        signature.inputs["text"].dtype = 7
        outputs = [f"{self._prefix}label", f"{self._prefix}probabilities", *(["topic_label"] if self._heads else [])]
        for name in outputs:
            signature.outputs[name].dtype = 7
        content.signature_def["labels"].outputs[f"{self._prefix}labels"].dtype = 7
        response = messages.GetModelMetadataResponse()
        response.metadata["signature_def"].value = content.SerializeToString()
        return response


def start(*flags, **options):
    command = [sys.executable, "-m", "apps.financial_sentiment.monitor", *flags]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ, **options
    )


def finish(process, timeout_s=120):
    output, errors = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, errors
    return output


def alerts_of(workdir):
    path = workdir / "alerts.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def events(hours=60, surges=((30, "steel"), (40, "rail"), (50, "steel")), seed=1):
    """60 texts an hour and topic, a tenth of them negative, most of them in the hour of a surge."""
    chance = random.Random(seed)
    lines = []
    for topic in ("rail", "steel"):
        for minute in range(hours * 60):
            share = 0.7 if (minute // 60, topic) in surges else 0.1
            word = "loss" if chance.random() < share else "news"
            event = {
                "time": START + 60 * minute + chance.random(),
                "text": f"{topic} {word} {len(lines)}",
                "topic": topic,
            }
            lines.append((event["time"] + chance.random() * 100, event))
    lines += [(arrives + 5, event) for arrives, event in lines[::97]]  # copies
    return [event for _, event in sorted(lines, key=lambda line: line[0])]


def write_events(path, found):
    path.write_text("".join(json.dumps(event) + "\n" for event in found), encoding="utf-8")


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "events.jsonl"
    write_events(path, events())
    return path


@pytest.fixture(scope="module")
def undisturbed(stream, tmp_path_factory):
    """Workdir of a run that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    with Server() as server:
        process = start(
            f"--server={server.address}", f"--input={stream}", f"--workdir={workdir}", f"--plot={workdir}/mood.png",
            "--nomask_personal_data", *SETTINGS,
        )  # fmt: skip
        assert "7,200 counted, 75 duplicate, 0 late, 0 rejected" in finish(process)
    return workdir


def test_each_planted_surge_raises_one_alert_with_the_texts_that_caused_it(undisturbed):
    alerts = alerts_of(undisturbed)
    assert [alert["topic"] for alert in alerts] == ["steel", "rail", "steel"]
    for alert, hour in zip(alerts, (30, 40, 50), strict=True):
        day, hour = divmod(hour, 24)
        assert alert["watermark"].startswith(f"2026-01-{1 + day:02}T{hour:02}")  # before the surge ends
        assert len(alert["causes"]) == 10
        assert all(f"{alert['topic']} loss" in cause["text"] for cause in alert["causes"])
    assert (undisturbed / "mood.png").stat().st_size > 10_000


def test_tensorboard_s_reader_finds_mood_and_alerts(undisturbed):
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.tensorflow_stub import errors
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New

    (file,) = (undisturbed / "tensorboard").iterdir()
    reader, values = PyRecordReader_New(str(file)), []
    with contextlib.suppress(errors.OutOfRangeError):  # the end
        while True:
            reader.GetNext()
            values += Event.FromString(reader.record()).summary.value
    topics = ("rail", "steel")
    curves = {f"{kind}_share/{topic}" for kind in ("negative", "expected") for topic in topics}
    assert {value.tag for value in values} == curves | {f"alerts/{topic}" for topic in topics}
    (first, _) = (value for value in values if value.tag == "alerts/steel")
    assert b"steel loss" in first.tensor.string_val[0]
    assert first.metadata.plugin_data.plugin_name == "text"


@pytest.mark.slow
def test_killed_at_random_moments_it_neither_loses_nor_repeats_an_alert(stream, undisturbed, tmp_path):
    chance = random.Random(3)
    num_kills = 0
    with Server(pause_s=0.04) as server:
        flags = [
            f"--server={server.address}",
            f"--input={stream}",
            f"--workdir={tmp_path}",
            "--commit_s=0",
            "--notensorboard",
            "--nomask_personal_data",
            *SETTINGS,
        ]
        while True:
            process = start(*flags)
            try:
                process.wait(timeout=chance.uniform(1.0, 2.5))
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                num_kills += 1
        output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert num_kills >= 3
    assert (tmp_path / "alerts.jsonl").read_bytes() == (undisturbed / "alerts.jsonl").read_bytes()
    assert (tmp_path / "mood.jsonl").read_bytes() == (undisturbed / "mood.jsonl").read_bytes()
    assert "7,200 counted, 75 duplicate, 0 late, 0 rejected" in output


def test_an_absent_server_is_waited_for_and_nothing_is_lost(tmp_path):
    write_events(tmp_path / "events.jsonl", events(hours=2, surges=()))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    process = start(
        f"--server=127.0.0.1:{port}", f"--input={tmp_path}/events.jsonl", f"--workdir={tmp_path}/w",
        "--nomask_personal_data", "--deadline_s=2",
    )  # fmt: skip
    assert "nothing is lost" in process.stderr.readline()
    with Server(port) as server:
        assert "240 counted" in finish(process)
        assert len({text for text in server.texts if text.startswith(("rail", "steel"))}) == 240


def test_a_model_with_a_topic_head_gives_topics_to_texts_without(tmp_path):
    lines = [{"time": START + 60 * number, "text": f"{'ab'[number % 2]} news"} for number in range(20)]
    lines += [{"time": START + 1130, "text": "b given", "topic": "c"}]
    write_events(tmp_path / "events.jsonl", lines)
    with Server(heads=True) as server:
        finish(
            start(
                f"--server={server.address}",
                f"--input={tmp_path}/events.jsonl",
                f"--workdir={tmp_path}/w",
                "--nomask_personal_data",
            )
        )
    moods = [json.loads(line) for line in (tmp_path / "w/mood.jsonl").read_text().splitlines()]
    assert {mood["topic"] for mood in moods} == {"a", "b", "c"}


def test_bad_lines_are_set_aside_with_a_reason_and_personal_data_is_masked(tmp_path):
    good = {"time": START, "text": "loss, says jane.doe@example.com"}
    lines = [json.dumps(good), "{", '{"time": 1}', '{"time": "soon", "text": "x"}', '{"time": 9e12, "text": "x"}', "[]",
             json.dumps({"time": START, "text": "unspeakable, said jane.doe@example.com"}), ""]  # fmt: skip
    (tmp_path / "events.jsonl").write_bytes("\n".join(lines).encode() + b"\n\xff\n")
    with Server() as server:
        output = finish(
            start(f"--server={server.address}", f"--input={tmp_path}/events.jsonl", f"--workdir={tmp_path}/w")
        )
    assert "1 counted, 0 duplicate, 0 late, 7 rejected" in output
    rejected = [json.loads(line) for line in (tmp_path / "w/rejected.jsonl").read_text().splitlines()]
    assert {(one["line"], one["reason"].split(" (")[0].split(":")[0]) for one in rejected} == {
        (2, "not JSON"), (3, "no text"), (4, "time 'soon' is neither ISO 8601 nor seconds since 1970"),
        (5, "time 9000000000000.0 is out of range"), (6, "a list, not an object"), (7, "refused by the server"),
        (9, "not UTF-8 at byte 0"),
    }  # fmt: skip
    stored = b"".join(file.read_bytes() for file in (tmp_path / "w").rglob("*") if file.is_file())
    assert b"jane.doe" not in stored
    assert stored.count(b"<EMAIL>") == 2  # of the counted text, kept for an alert, and of the refused one


def test_a_growing_file_is_followed_and_metrics_are_served(tmp_path):
    path = tmp_path / "events.jsonl"
    found = events(hours=8, surges=())
    write_events(path, found[:400])
    with Server() as server:
        process = start(
            f"--server={server.address}", f"--input={path}", f"--workdir={tmp_path}/w", "--follow",
            "--metrics_port=0", "--nomask_personal_data",
        )  # fmt: skip
        port = int(process.stdout.readline().split()[-1])
        threading.Timer(0.5, lambda: _append(path, found[400:])).start()
        outcome, deadline = "", time.monotonic() + 60
        while 'counted"} 960.0' not in outcome and time.monotonic() < deadline:
            time.sleep(0.1)
            outcome = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        assert 'monitor_events_total{outcome="counted"} 960.0' in outcome
        assert 'monitor_events_total{outcome="duplicate"} 10.0' in outcome
        assert 'monitor_negative_share{topic="rail"}' in outcome
        process.send_signal(signal.SIGTERM)
        assert "960 counted, 10 duplicate" in finish(process)


def _append(path, found):
    with open(path, "a", encoding="utf-8") as file:
        file.write("".join(json.dumps(event) + "\n" for event in found))


def test_standard_input_is_read_to_its_end_and_the_spool_is_emptied(tmp_path):
    lines = "".join(json.dumps(event) + "\n" for event in events(hours=3, surges=()))
    with Server() as server:
        process = start(
            f"--server={server.address}",
            "--input=-",
            f"--workdir={tmp_path}",
            "--nomask_personal_data",
            stdin=subprocess.PIPE,
        )
        output, errors = process.communicate(lines, timeout=60)
    assert process.returncode == 0, errors
    assert "360 counted, 4 duplicate" in output
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--input=nowhere.jsonl"], "nowhere.jsonl: no such file or folder"),
        (["--input=setup.cfg"], "setup.cfg: unknown ending '.cfg'"),
        (["--input=-", "--detector=window=3"], "--detector window=3: expected NAME=VALUE with a NAME of step_s"),
        (["--input=-", "--detector=ratio=1"], "--detector ratio=1: Input should be greater than 1"),
    ],
)
def test_wrong_flags_end_in_one_clear_line(flags, message, tmp_path):
    process = start(f"--workdir={tmp_path}", *flags, stdin=subprocess.DEVNULL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert message in errors
    assert "Traceback" not in errors
