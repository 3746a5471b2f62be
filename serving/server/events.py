"""How does a stream go over HTTP? As server-sent events, pulled one at a time."""

import threading
from collections.abc import Generator
from typing import NamedTuple

from serving.server.status import Code

HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def event(data: str, name: str = "") -> bytes:
    """One event; the lines of `data` become one, as its JSON does not change by it."""
    line = " ".join(part.strip() for part in data.split("\n"))
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {line}\n\n".encode("utf-8", "surrogateescape")


class Last(NamedTuple):
    """The last event of a stream, and how it ends. Many clients leave when they have it."""

    content: bytes
    code: Code


class Events:
    """Events of one stream: a thread may compute the next one, another may close them.

    Attributes:
      code: how it has ended; CANCELLED until then.
    """

    def __init__(self, events: Generator[bytes | Last]) -> None:
        self.code = Code.CANCELLED
        self._events = events
        self._lock = threading.Lock()

    def next(self) -> bytes | None:
        """The next event, once it is computed; None: there are no more."""
        with self._lock:
            found = next(self._events, None)
            if isinstance(found, Last):
                self.code = found.code
                return found.content
            if found is None and self.code == Code.CANCELLED:
                self.code = Code.OK
            return found

    def close(self) -> None:
        """Computes no more; returns when the event that is being computed is."""
        with self._lock:
            self._events.close()
