"""Is nothing computed any more for HTTP clients that have left?"""

import http.client
import json
import socket
import threading
from contextlib import contextmanager

import pytest

from tests.integration.small_models import write_half_plus_two
from tests.integration.waiting import eventually

HOUR = 3_600_000_000  # microseconds: such a batch waits for its second row
BODY = json.dumps({"instances": [2.0]})


class Service:
    """A REST server with one thread over a model whose batches need two rows."""

    def __init__(self, base):
        from serving.server.batching import Batching
        from serving.server.batching_parameters import BatchingParameters
        from serving.server.core import ServerCore
        from serving.server.metrics import Metrics
        from serving.server.rest import RestApi
        from serving.server.rest_server import RestOptions, RestServer
        from serving.server.versions import LoadPolicy, ModelConfig, Models

        write_half_plus_two(base / "1")
        self.metrics = Metrics()
        self.batching = Batching(BatchingParameters(2, HOUR, num_batch_threads=1), on_batch=self.metrics.batch_ran)
        config = ModelConfig("m", base)
        self.models = Models([config], load=self.batching.load, policy=LoadPolicy(rest_seconds=0))
        self.models.start(0)
        options = RestOptions(num_threads=1, timeout_s=None)
        self.server = RestServer(RestApi(ServerCore(self.models)), "127.0.0.1", 0, options, self.metrics)

    @contextmanager
    def asking(self):
        """A client that has sent a request, and leaves at the end."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        try:
            connection.request("POST", "/v1/models/m:predict", BODY)
            yield
        finally:
            connection.close()

    def is_told(self, line):
        return line in self.metrics.page().decode().splitlines()

    def close(self):
        self.server.close()
        self.models.close()
        self.batching.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    running = Service(tmp_path_factory.mktemp("departures"))
    yield running
    running.close()


def test_a_request_leaves_the_batching_queue_with_its_client(service):
    with service.asking():
        eventually(lambda: service.batching.num_queued() == 1)
    eventually(lambda: service.batching.num_queued() == 0)
    eventually(lambda: not service.models.is_busy())
    assert service.is_told(":tensorflow:serving:batching_session:wrapped_run_count{} 0")


def test_a_request_that_waits_for_a_thread_is_never_begun(service):
    waiting = ':kerasllm:serving:requests_queued{entrypoint="REST"} '
    free = threading.Event()
    service.server._pool.submit(free.wait)
    try:
        with service.asking():
            eventually(lambda: service.is_told(f"{waiting}1"))
        eventually(lambda: service.is_told(f"{waiting}0"))
    finally:
        free.set()
    eventually(lambda: service.is_told(':kerasllm:serving:requests_in_flight{entrypoint="REST"} 0'))
    assert service.batching.num_queued() == 0
    assert service.is_told(":tensorflow:serving:batching_session:wrapped_run_count{} 0")


def test_a_stream_that_its_client_does_not_read_is_ended(tmp_path):
    """Its parts are larger than what lies between the two takes up."""
    from serving.server.core import ServerCore
    from serving.server.engine import Engine
    from serving.server.metrics import Metrics
    from serving.server.rest import RestApi
    from serving.server.rest_server import RestOptions, RestServer
    from serving.server.streams import Streams
    from serving.server.versions import LoadPolicy, ModelConfig, Models

    _write_endless(tmp_path / "1")
    models = Models([ModelConfig("m", tmp_path)], load=Engine, policy=LoadPolicy(rest_seconds=0))
    models.start(0)
    core, metrics = ServerCore(models), Metrics()
    server = RestServer(RestApi(core, streams=Streams(core, metrics)), "127.0.0.1", 0, RestOptions(timeout_s=1.0))
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as deaf:
        head = f"POST /v1/models/m:stream HTTP/1.1\r\nHost: h\r\nContent-Length: {len(BODY)}\r\n\r\n"
        deaf.sendall(head.encode() + BODY.encode())
        eventually(models.is_busy)
        eventually(lambda: not models.is_busy())
        assert b':kerasllm:serving:streams_open{model_name="m"} 0' in metrics.page().splitlines()
    server.close()
    models.close()


def _write_endless(directory):
    """A model that streams a megabyte at a time and is never done."""
    import tensorflow as tf

    def go_on(x, is_done, steps):
        return {"text": tf.fill([1], tf.strings.reduce_join(tf.fill([2**20], "a"))), "is_done": tf.zeros([1], tf.bool)}

    x, flags = tf.TensorSpec([None], tf.float32), tf.TensorSpec([None], tf.bool)
    first = tf.function(lambda x: go_on(x, None, None)).get_concrete_function(x=x)
    following = tf.function(go_on).get_concrete_function(x=x, is_done=flags, steps=tf.TensorSpec([None], tf.int32))
    tf.saved_model.save(tf.Module(), str(directory), {"begin": first, "go_on": following})
    contract = {"format_version": 1, "whole": "begin", "first": "begin", "next": "go_on", "chunk": "steps"}
    (directory / "assets.extra").mkdir()
    streaming = {**contract, "carried": ["is_done"], "done": "is_done"}
    (directory / "assets.extra" / "streaming.json").write_text(json.dumps(streaming))
