"""Does the generator of load tell what it did? Against a gRPC and an HTTP server of this process, no TensorFlow."""

import threading
import time
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import pytest

from benchmarks.load.sides import Calls, Generator

METHOD = "/load.Test/Echo"
_over = threading.Event()


def _echo(request, context):
    if request == b"no":
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no")
    if request == b"slow":
        time.sleep(0.5)
    if request == b"never":
        _over.wait()
    return request


@pytest.fixture(scope="module")
def grpc_address():
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(_echo)}
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("load.Test", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    _over.set()
    server.stop(None).wait()


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503 if body == b"no" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def http_address():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def _most_at_a_time(calls):
    changes = sorted([*((end, -1) for end in calls.ends), *((begin, 1) for begin in calls.begins)])
    return max(np.cumsum([change for _, change in changes]))


def test_clients_of_a_closed_loop_ask_one_call_at_a_time(grpc_address):
    with Generator("grpc", grpc_address, METHOD, [b"slow"]) as generator:
        calls = generator.ask(clients=3, seconds=0.6)
    assert _most_at_a_time(calls) == 3
    assert calls.is_ok.all()
    assert calls.milliseconds(50) >= 500
    assert calls.cpu_seconds > 0


def test_an_open_loop_does_not_wait_for_answers(grpc_address):
    with Generator("grpc", grpc_address, METHOD, [b"slow"]) as generator:
        calls = generator.ask(rate=100, seconds=0.4)
    assert _most_at_a_time(calls) > 8  # as many as the server answers at a time


def test_an_order_without_an_end_lasts_until_it_is_told(grpc_address):
    with Generator("grpc", grpc_address, METHOD, [b"yes"]) as generator:
        generator.begin(clients=1)
        start = time.monotonic()
        time.sleep(0.3)
        calls = generator.end()
        assert calls.is_ok.all()
        assert calls.ends.max() > start
        assert len(generator.ask(clients=1, seconds=0.1).codes) >= 1


def test_refusals_and_deadlines_are_counted_by_their_code(grpc_address):
    with Generator("grpc", grpc_address, METHOD, [b"yes", b"no", b"never"]) as generator:
        calls = generator.ask(clients=3, seconds=0.1, deadline_s=2)
    assert set(calls.failures()) == {"RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
    assert calls.is_ok.sum() + sum(calls.failures().values()) == len(calls.codes)


def test_http_is_asked_over_connections_that_are_kept(http_address):
    with Generator("http", http_address, "/", [b"yes", b"no"]) as generator:
        calls = generator.ask(clients=2, seconds=0.2)
        assert generator.ask(clients=2, seconds=0.1).is_ok.any()
    assert set(calls.codes) == {"OK", "503"}


def test_rates_and_percentiles_count_successes_alone():
    calls = Calls(np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 2.0]), np.array(["OK", "UNAVAILABLE", "OK"]), 0.1)
    assert calls.rate == 1.0  # 2 in 2 s
    assert calls.milliseconds(100) == 1000
    assert calls.latencies_ms(calls.between(0.0, 0.5)) == [1000.0]
    assert calls.failures() == {"UNAVAILABLE": 1}
