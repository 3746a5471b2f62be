"""Who asks? A process that sends ready requests to a server and notes how each of them ended. No TensorFlow.

    python -m benchmarks.load.generator

The first line of standard input says whom and what: {"protocol": "grpc" or "http", "address": "127.0.0.1:8500",
"path": method or path, "requests": [base64, ...]}. Each further line is an order: {"clients": 16, "seconds": 5} asks
in a closed loop, each client when it is answered; {"rate": 300, "seconds": 5} asks in an open loop, at random times
(Poisson), whether answers come or not. "deadline_s" ends a call, which counts as failed. An order without "seconds"
lasts until a line says "end". Each order is answered by a line: {"calls": [[begin, end, code], ...], "cpu_seconds"};
times are of time.monotonic, the same in all processes of a machine, and a call of the open loop begins when it should,
not when it could. The code "OK" is success.
"""

import asyncio
import base64
import itertools
import json
import math
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

Ask = Callable[[bytes, float | None], Awaitable[str]]  # of a request and a deadline the code
Call = tuple[float, float, str]  # begin, end, code


async def ask_by_grpc(address: str, method: str) -> Ask:
    """Calls over one channel, without reading what the answers say."""
    unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    channel = grpc.aio.insecure_channel(address, options=unlimited)
    await channel.channel_ready()
    call = channel.unary_unary(method)

    async def ask(request: bytes, deadline_s: float | None) -> str:
        try:
            await call(request, timeout=deadline_s)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"

    return ask


async def ask_by_http(address: str, path: str) -> Ask:
    """Posts over connections that are kept: as many as there are calls at a time."""
    host, _, port = address.rpartition(":")
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(request: bytes) -> str:
        reader, writer = idle.pop() if idle else await asyncio.open_connection(host, int(port))
        head = f"POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(request)}\r\n\r\n".encode() + request)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        _, _, rest = answer.partition(b"content-length:")
        await reader.readexactly(int(rest.partition(b"\r\n")[0]))
        idle.append((reader, writer))
        code = answer.split(b" ", 2)[1].decode()
        return "OK" if code == "200" else code

    async def ask(request: bytes, deadline_s: float | None) -> str:
        try:
            return await asyncio.wait_for(post(request), deadline_s)
        except (OSError, asyncio.IncompleteReadError) as error:
            return type(error).__name__
        except TimeoutError:
            return "DEADLINE_EXCEEDED"

    return ask


@dataclass
class Order:
    """What is asked of this process; `end` may be moved while it is carried out."""

    clients: int | None
    rate: float | None
    deadline_s: float | None
    end: float

    @classmethod
    def read(cls, line: str) -> "Order":
        """From a line of JSON."""
        told = json.loads(line)
        end = time.monotonic() + told.get("seconds", math.inf)
        return cls(told.get("clients"), told.get("rate"), told.get("deadline_s"), end)


async def ask_in_turns(order: Order, ask: Ask, requests: Iterator[bytes]) -> list[Call]:
    """A closed loop: each client asks when it has been answered; what runs at the end is waited for."""
    calls: list[Call] = []

    async def be_client() -> None:
        while (begin := time.monotonic()) < order.end:
            code = await ask(next(requests), order.deadline_s)
            calls.append((begin, time.monotonic(), code))

    await asyncio.gather(*(be_client() for _ in range(order.clients or 1)))
    return calls


async def ask_at_random(order: Order, ask: Ask, requests: Iterator[bytes]) -> list[Call]:
    """An open loop: so many calls a second on average, however long the answers take."""
    assert order.rate is not None, "it is what makes an order one for the open loop"
    calls: list[Call] = []
    draw = random.Random(1)
    due = time.monotonic()

    async def call_once(begin: float) -> None:
        code = await ask(next(requests), order.deadline_s)
        calls.append((begin, time.monotonic(), code))

    async with asyncio.TaskGroup() as group:
        while (due := due + draw.expovariate(order.rate)) < order.end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(call_once(due))
    return calls


async def main() -> None:
    """Takes orders until there are no more."""
    whom = json.loads(sys.stdin.readline())
    connect = {"grpc": ask_by_grpc, "http": ask_by_http}[whom["protocol"]]
    ask = await connect(whom["address"], whom["path"])
    requests = itertools.cycle([base64.b64decode(request) for request in whom["requests"]])
    line = next_line()
    while text := await line:
        computed, order = time.process_time(), Order.read(text)
        carry_out = ask_in_turns if order.rate is None else ask_at_random
        calls, line = asyncio.create_task(carry_out(order, ask, requests)), next_line()
        either: list[asyncio.Future[Any]] = [calls, line]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if line.done():  # told to end it
            order.end, line = time.monotonic(), next_line()
        print(json.dumps({"calls": await calls, "cpu_seconds": time.process_time() - computed}), flush=True)


def next_line() -> "asyncio.Future[str]":
    """The next line of standard input, awaited in a thread of its own."""
    return asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(main())
