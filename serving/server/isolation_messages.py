"""How do calls cross between two processes? Pickled, but for the bytes of arrays, which go beside it."""

import io
import pickle
import socket
import struct
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from serving.server.status import Code, StatusError

_SMALL_BYTES = 2**16  # up to here one copy costs less than another system call
_COUNT = struct.Struct("!I")
Outcome = tuple[str, Any]  # ("returned", value), ("refused", (code, text)) or ("failed", a traceback's text)


def send(connection: socket.socket, message: Any) -> None:
    """Writes a message as the number of its parts, their sizes, and the parts: what is pickled, then the arrays.

    Raises:
      OSError: the other process has gone.
    """
    arrays: list[memoryview] = []
    pickled = pickle.dumps(message, 5, buffer_callback=lambda buffer: arrays.append(buffer.raw()))
    sizes = [len(pickled), *map(len, arrays)]
    head = _COUNT.pack(len(sizes)) + struct.pack(f"!{len(sizes)}Q", *sizes)
    if sum(sizes) <= _SMALL_BYTES:
        connection.sendall(b"".join([head, pickled, *arrays]))
        return
    connection.sendall(head + pickled)
    for array in arrays:
        connection.sendall(array)


def receive(reader: io.BufferedReader) -> Any:
    """Reads a message; its arrays lie in the memory that they are read into.

    Raises:
      EOFError, OSError: the other process has gone.
    """
    (count,) = _COUNT.unpack(_read(reader, _COUNT.size))
    sizes = struct.unpack(f"!{count}Q", _read(reader, 8 * count))
    pickled, *arrays = [_read(reader, size) for size in sizes]
    return pickle.loads(pickled, buffers=arrays)


def outcome(action: Callable[..., Any], *arguments: Any) -> Outcome:
    """What an action comes to, in a form that crosses."""
    try:
        return "returned", action(*arguments)
    except StatusError as error:
        return "refused", (int(error.code), error.message)
    except Exception:
        return "failed", traceback.format_exc()


def value(found: Outcome) -> Any:
    """What the action of the other process has returned.

    Raises:
      StatusError: as it was there.
      RuntimeError: it failed for a reason that nobody foresaw.
    """
    kind, content = found
    if kind == "refused":
        code, message = content
        raise StatusError(Code(code), message)
    if kind == "failed":
        raise RuntimeError(f"In the process of the version:\n{content}")
    return content


def _read(reader: io.BufferedReader, size: int) -> Any:
    content: Any = np.empty(size, np.uint8)  # which is not filled with zeros first
    if reader.readinto(content) != size:
        raise EOFError("the other process has gone")
    return content
