"""How do calls arrive over HTTP? aiohttp in a thread of its own; answers are computed in a pool of threads."""

import asyncio
import concurrent.futures
import ssl
import threading
import time
import zlib
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web

from kerasllm.errors import ServingError
from serving.server import rest_answers
from serving.server.batching_cancellation import Wanted, on_behalf_of
from serving.server.events import Events
from serving.server.metrics import Metrics
from serving.server.rest import RestAnswer, RestApi
from serving.server.rest_json_reader import encoded
from serving.server.status import Code, invalid

Result = TypeVar("Result")

_CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_ENTRYPOINT = "REST"
_JSON = {"Content-Type": "application/json"}
_NOT_FOUND_PAGE = b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"


@dataclass(frozen=True)
class RestOptions:
    """How the server treats its clients.

    `timeout_s` bounds the sending of a body and, from the request's arrival on, the model's run, and the time in which
    a client has to take a part of a stream; None: no bound.
    `max_body_bytes` bounds a body before and after it is unpacked. `answers_health` opens /healthz and /readyz,
    `metrics_path` the page of the metrics; `tls` encrypts it all.
    """

    num_threads: int = 4
    timeout_s: float | None = 30.0
    max_body_bytes: int = 2**30
    allows_cross_origin: bool = False
    answers_health: bool = False
    metrics_path: str | None = None
    tls: ssl.SSLContext | None = None
    grace_s: float = 30.0


class RestServer:
    """A running HTTP server; `port` is the one that it got.

    Raises:
      ServingError: the port is taken, or the host is not this machine's.
    """

    def __init__(
        self, api: RestApi, host: str, port: int, options: RestOptions, metrics: Metrics | None = None
    ) -> None:
        self._api = api
        self._metrics = metrics or Metrics()
        self._options = options
        self._pool = concurrent.futures.ThreadPoolExecutor(options.num_threads, "rest")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rest", daemon=True)
        self._thread.start()
        try:
            self._runner, self.port = self._on_loop(self._open(host, port))
        except OSError as error:
            self._end_thread()
            raise ServingError(
                f"Cannot listen at {host}:{port}: the port is in use or may not be opened ({error.strerror}). "
                "Choose another --rest_api_port."
            ) from error

    def close(self) -> None:
        """Stops accepting, lets running requests end in their time of grace, and ends the threads."""
        self._on_loop(self._runner.cleanup())
        self._end_thread()

    def _end_thread(self) -> None:
        self._on_loop(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _on_loop(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self, host: str, port: int) -> tuple[web.AppRunner, int]:
        application = web.Application(client_max_size=self._options.max_body_bytes)
        application.router.add_route("*", "/{path:.*}", self._respond)
        application.on_response_prepare.append(_hide_server)
        runner = web.AppRunner(
            application,
            access_log=None,
            auto_decompress=False,
            handler_cancellation=True,  # of a client that has left nothing more is computed
            shutdown_timeout=self._options.grace_s,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port, ssl_context=self._options.tls).start()
        except OSError:
            await runner.cleanup()
            raise
        return runner, runner.addresses[0][1]

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        if path in ("/healthz", "/readyz") and self._options.answers_health:
            return self._health(path)
        if path == self._options.metrics_path:
            return web.Response(body=self._metrics.page(), headers={"Content-Type": "text/plain"})
        if not path.lower().startswith("/v1/"):
            return web.Response(status=404, body=_NOT_FOUND_PAGE, headers={"Content-Type": "text/html"})
        if request.method == "OPTIONS" and self._options.allows_cross_origin:
            wanted = request.headers.get("Access-Control-Request-Headers")
            if wanted is None or not self._api.is_another_protocol(path):
                return web.Response(headers=_CORS_HEADERS)
            return web.Response(headers={**_CORS_HEADERS, "Access-Control-Allow-Headers": wanted})  # keys come in one
        with self._metrics.in_flight(_ENTRYPOINT):
            return await self._respond_with_model(request, path)

    async def _respond_with_model(self, request: web.Request, path: str) -> web.StreamResponse:
        arrival = time.monotonic()
        body, problem = await self._receive(request)
        if problem is not None:
            return problem
        is_packed = "gzip" in request.headers.get("Content-Encoding", "").lower()
        call = Wanted()
        answer = await self._computed(call, request.method, path, body, is_packed, arrival)
        headers = {**answer.headers, **(_CORS_HEADERS if self._options.allows_cross_origin else {})}
        try:
            if answer.events is None:
                return web.Response(status=answer.http_code, body=answer.body, headers=headers)
            response = web.StreamResponse(headers=headers)
            await self._send(request, response, answer.events, call)
            return response
        finally:
            code = answer.events.code if answer.events else answer.code
            self._metrics.answered(_ENTRYPOINT, answer.model_name, answer.method, code, arrival, answer.num_examples)

    async def _computed(
        self, call: Wanted, method: str, path: str, body: bytes, is_packed: bool, arrival: float
    ) -> RestAnswer:
        """The answer to a request, from a thread of the pool; a client that leaves takes it out of every queue."""
        self._metrics.queued(_ENTRYPOINT, 1)
        computing = self._pool.submit(self._answer, call, method, path, body, is_packed, arrival)
        try:
            return await asyncio.wrap_future(computing)
        except asyncio.CancelledError:
            if computing.cancel():
                self._metrics.queued(_ENTRYPOINT, -1)
            call.end()
            self._metrics.answered(_ENTRYPOINT, "", "", Code.CANCELLED, arrival)
            raise

    async def _send(self, request: web.Request, response: web.StreamResponse, events: Events, call: Wanted) -> None:
        """Sends events, each computed when the one before is sent; when the client is gone, no more is computed."""
        loop = asyncio.get_running_loop()

        def following() -> bytes | None:
            with on_behalf_of(call):
                return events.next()

        try:
            with suppress(ConnectionError):  # it has left
                await response.prepare(request)
                while request.transport is not None and not request.transport.is_closing():
                    sent = await loop.run_in_executor(self._pool, following)
                    if sent is None:
                        await response.write_eof()
                        return
                    async with asyncio.timeout(self._options.timeout_s):
                        await response.write(sent)
        except TimeoutError:  # it has stopped reading, and would keep its version in memory for ever
            if request.transport is not None:
                request.transport.abort()
        finally:
            call.end()
            self._pool.submit(events.close)  # which waits for the one that is being computed

    async def _receive(self, request: web.Request) -> tuple[bytes, web.Response | None]:
        """The body, or the answer to a client that sends too much, too slowly, or not to the end."""
        try:
            async with asyncio.timeout(self._options.timeout_s):
                return await request.read(), None
        except web.HTTPRequestEntityTooLarge:
            limit = self._options.max_body_bytes
            return b"", _problem(413, f"The body is larger than {limit} bytes. Send fewer instances in a request.")
        except TimeoutError:
            return b"", _problem(408, f"The body did not arrive within {self._options.timeout_s:g} seconds.")
        except (web.RequestPayloadError, ConnectionError):
            return b"", _problem(400, "The body ended before its announced length.")

    def _answer(self, call: Wanted, method: str, path: str, body: bytes, is_packed: bool, arrival: float) -> RestAnswer:
        self._metrics.queued(_ENTRYPOINT, -1)
        limit = self._options.max_body_bytes
        with on_behalf_of(call):
            return self._api.answer(
                method, path, lambda: _unpack(body, limit) if is_packed else body, lambda: self._seconds_left(arrival)
            )

    def _seconds_left(self, arrival: float) -> float | None:
        timeout_s = self._options.timeout_s
        return None if timeout_s is None else timeout_s - (time.monotonic() - arrival)

    def _health(self, path: str) -> web.Response:
        unready = self._api.unready_models() if path == "/readyz" else []
        if unready:
            return web.Response(status=503, text=f"no version available: {', '.join(unready)}\n")
        return web.Response(text="ok\n")


async def _cancel_others() -> None:
    """Ends the tasks of connections that have not closed, for example behind a client that never asks."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _hide_server(_: web.Request, response: web.StreamResponse) -> None:
    """The stock server does not tell its name."""
    response.headers.pop("Server", None)


def _problem(http_code: int, message: str) -> web.Response:
    response = web.Response(status=http_code, body=encoded(rest_answers.error(message)), headers=_JSON)
    response.force_close()  # the rest of the body is not read
    return response


def _unpack(body: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)  # a gzip header
    try:
        content = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise invalid(f"The body is not in the gzip format that its Content-Encoding names ({error}).") from error
    if len(content) > limit:
        raise invalid(f"The unpacked body is larger than {limit} bytes. Send fewer instances in a request.")
    if not unpacker.eof:
        raise invalid("The body ends before its gzip stream does.")
    return content
